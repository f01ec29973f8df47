"""The model card of a bundle: what the Hub shows of it, written from the bundle's own header."""

from __future__ import annotations

import json

from huggingface_hub import EvalResult, ModelCardData

from softmoa.bundle import BundleInfo
from softmoa.methods import METHODS

DEFAULT_LICENCE = "apache-2.0"
CITATION = """@inproceedings{cappellazzo2024softmoa,
  title     = {Efficient Fine-tuning of Audio Spectrogram Transformers
               via Soft Mixture of Adapters},
  author    = {Cappellazzo, Umberto and Falavigna, Daniele and Brutti, Alessio},
  booktitle = {Interspeech},
  year      = {2024}
}"""


def card(info: BundleInfo, repository: str, licence: str = DEFAULT_LICENCE) -> str:
    """README.md of a bundle's repository: front matter, data, method, options, metrics, licence,
    citation."""
    title = METHODS[info.method].title if info.method in METHODS else info.method
    options = "\n".join(f"| `{key}` | {json.dumps(v)} |" for key, v in info.options.items())
    metrics = "\n".join(f"| {_words(key)} | {v:.4g} |" for key, v in info.metrics.items())
    kind = "not exclusive (sigmoid)" if info.multilabel else "exclusive (softmax)"
    return f"""---
{_front_matter(info, repository, licence)}
---

# {repository.partition("/")[2]}

A **{title}** bundle of [Soft-MoA](https://arxiv.org/abs/2402.00828) adapters for the Audio
Spectrogram Transformer: the trained tensors alone, in one safetensors file, for the frozen backbone
`{info.base}`.

## Use

```sh
python -m softmoa classify sound.wav --bundle {repository}
```

## Data

Task `{info.task}`, {len(info.labels)} classes, {kind}. The bundle knows no others, whatever it
hears:

```json
{json.dumps(list(info.labels), ensure_ascii=False)}
```
{_notes(info.notes)}
## Method

{title} on `{info.base}` (sha256 `{info.base_sha256}`), seed {info.seed}.

| option | value |
|---|---|
{options}

## Metrics

| measure | value |
|---|---|
{metrics or "| none recorded | |"}

A single seed on a small test set says little about small differences.

## Licence

{licence}, for the weights. The sounds they were trained on keep their own licences.

## Citation

```bibtex
{CITATION}
```
"""


def _front_matter(info: BundleInfo, repository: str, licence: str) -> str:
    results = [
        EvalResult(
            task_type="audio-classification",
            dataset_type=info.task,
            dataset_name=info.task,
            metric_type="accuracy",
            metric_name=_words(name),
            metric_value=value,
        )
        for name, value in info.metrics.items()
        if name.endswith("accuracy")
    ]
    return ModelCardData(
        model_name=repository.partition("/")[2],
        license=licence,
        library_name="softmoa",
        pipeline_tag="audio-classification",
        tags=["audio-spectrogram-transformer", "soft-moa", info.method, "arxiv:2402.00828"],
        base_model=info.base.partition("@")[0] if "/" in info.base else None,
        eval_results=results or None,
    ).to_yaml()


def _notes(notes: str) -> str:
    return f"\n{notes}\n" if notes else ""


def _words(name: str) -> str:
    return name.replace("_", " ").replace("val ", "validation ")
