"""A classifier as one ONNX file, which ONNX Runtime and OpenVINO open: log-mel in, probabilities
and routing out. Its metadata hold the labels and say how the log-mel is computed.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softmoa.data import audio
from softmoa.data.values import InputError
from softmoa.lens.classifier import Classifier
from softmoa.model.recording import hooked, mixtures

EXAMPLE = 512  # frames of the clip that is traced


class Portable(nn.Module):
    """mel (b, frames, mels) of clips of one length -> probabilities (b, classes), and of every
    mixture its dispatch and combine weights, (b, m, n, p) each, see `moa.Slots.per_slot`.

    The same passes as `AST.forward` without padded clips: the only branch on the length, the
    interpolation of positions beyond the checkpoint's longest clip, is left out.
    """

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier, self.model = classifier, classifier.model

    def forward(self, mel: Tensor) -> tuple[Tensor, ...]:
        model, config = self.model, self.model.config
        rest = (mel.shape[1] - config.patch) % config.stride_time
        mel = F.pad(mel, (0, 0, 0, (config.stride_time - rest) % config.stride_time))
        known = model.pos_grid.shape[1]
        patches = model.patches(mel.transpose(1, 2)[:, None])[..., :known]
        start = known // 2 - patches.shape[3] // 2
        positions = model.pos_grid[None, :, start : start + patches.shape[3]].flatten(1, 2)
        with hooked(model) as trace:
            logits = model.head(model.pool(*model.encode(model.tokens(patches, positions))))
        weights = (w for record in trace.records for w in record.routing.per_slot())
        return self.classifier.probabilities(logits), *weights


def export(classifier: Classifier, path: Path) -> None:
    """Write the ONNX file. Raises InputError where the extra `export` is not installed."""
    try:
        import onnx
        import onnxscript  # noqa: F401  (what torch writes with)
    except ImportError:
        raise InputError("An export needs more packages: pip install '.[export]'.") from None
    # It warns of a package for pictures, which is not needed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    config = classifier.model.config
    frames = torch.export.Dim("frames", min=config.patch, max=config.max_frames)
    routings = [
        f"layer{layer + 1}_{site}_{side}"
        for layer, site in mixtures(classifier.model)
        for side in ("dispatch", "combine")
    ]
    program = torch.onnx.export(
        Portable(classifier).eval(),
        (torch.zeros(1, min(EXAMPLE, config.max_frames), config.mels),),
        input_names=["mel"],
        output_names=["probabilities", *routings],
        dynamic_shapes={"mel": {1: frames}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {key: json.dumps(v) for key, v in facts(classifier).items()})
    onnx.save(proto, path)


def facts(classifier: Classifier) -> dict[str, object]:
    """What whoever runs the file must know."""
    config = classifier.model.config
    return {
        "labels": classifier.labels,
        "several_labels_can_be_true": classifier.multilabel,
        "bundle": classifier.name,
        "backbone": classifier.backbone,
        "sample_rate": audio.SAMPLE_RATE,
        "log_mel": {
            "as": "torchaudio.compliance.kaldi.fbank",
            "num_mel_bins": config.mels,
            "frame_length_ms": 1000 * audio.FRAME_LENGTH / audio.SAMPLE_RATE,
            "frame_shift_ms": 1000 * audio.FRAME_SHIFT / audio.SAMPLE_RATE,
            "window_type": "hanning",
            "htk_compat": True,
            "mean": config.mean,
            "std": config.std,
            "scaled": "(x - mean) / (2 std)",
        },
        "most_frames": config.max_frames,
    }
