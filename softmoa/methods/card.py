"""The model card of a bundle: what the Hub shows of it, written from the bundle's own header."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub as hf  # which loads on use what is asked of it

from softmoa.methods import METHODS
from softmoa.methods.bundle import BundleInfo

DEFAULT_LICENCE = "apache-2.0"
CITATION = """@inproceedings{cappellazzo2024softmoa,
  title     = {Efficient Fine-tuning of Audio Spectrogram Transformers
               via Soft Mixture of Adapters},
  author    = {Cappellazzo, Umberto and Falavigna, Daniele and Brutti, Alessio},
  booktitle = {Interspeech},
  year      = {2024}
}"""


def card(info: BundleInfo, repository: str, licence: str = DEFAULT_LICENCE) -> hf.ModelCard:
    """README.md of a bundle's repository: front matter, data, method, options, metrics, licence,
    citation."""
    name = repository.partition("/")[2]
    metrics = {key.replace("_", " ").replace("val ", "validation "): value
               for key, value in info.metrics.items()}  # fmt: skip
    results = [
        hf.EvalResult(
            task_type="audio-classification",
            dataset_type=info.task,
            dataset_name=info.task,
            metric_type="accuracy",
            metric_name=measure,
            metric_value=value,
        )
        for measure, value in metrics.items()
        if measure.endswith("accuracy")
    ]
    data = hf.ModelCardData(
        model_name=name,
        license=licence,
        library_name="softmoa",
        pipeline_tag="audio-classification",
        tags=["audio-spectrogram-transformer", "soft-moa", info.method, "arxiv:2402.00828"],
        base_model=info.base.partition("@")[0] if "/" in info.base else None,
        eval_results=results or None,
    )
    return hf.ModelCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("card.md")),
        info=info,
        title=METHODS[info.method].title if info.method in METHODS else info.method,
        repository=repository,
        licence=licence,
        labels=json.dumps(info.labels, ensure_ascii=False),
        options={key: json.dumps(value) for key, value in info.options.items()},
        metrics=metrics,
        citation=CITATION,
    )
