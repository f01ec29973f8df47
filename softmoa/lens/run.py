"""The one way to run a classifier, so that no two of the lab's answers about a sound can differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from softmoa.data.audio import pad_batch
from softmoa.lens.classifier import Classifier
from softmoa.model import device
from softmoa.model.ast import AST
from softmoa.model.precision import Precision, autocast, is_large, stored_in_bf16, wants_bf16
from softmoa.model.recording import Changes, LayerRecord, hooked


@dataclass(frozen=True)
class Output:
    """What a classifier answered to a batch of clips, on the CPU.

    logits: (clips, classes), in the order of `Classifier.labels`. records: one for each mixture, in
    the order of the forward pass, with a batch axis of the clips; empty if nothing was recorded.
    """

    logits: Tensor
    records: tuple[LayerRecord, ...]


@device.within_memory
def run(
    classifier: Classifier,
    mels: Sequence[Tensor],
    *,
    record: bool = True,
    change: Changes | None = None,
    precision: Precision = "auto",
) -> Output:
    """One forward pass of a batch of clips, each (frames, 128), on the device of the model.

    Clips of different lengths are padded, which changes no answer. change: what becomes of the
    routing at some mixtures, see `hooked`; on ZeroGPU it must be possible to pickle it.
    Raises DeviceError if the device has too little memory.
    """
    forward = _on_lent_gpu if is_large(classifier.model) else _forward
    return forward(classifier, mels, record, change, precision)


def _forward(
    classifier: Classifier,
    mels: Sequence[Tensor],
    record: bool,
    change: Changes | None,
    precision: Precision,
) -> Output:
    model = classifier.model
    if wants_bf16(model, precision):
        model = _in_bf16(model).to(model.device)
    mel, _ = pad_batch(mels)
    with (
        torch.inference_mode(),
        autocast(classifier.model, precision),
        hooked(model, record, change) as trace,
    ):
        logits = model(device.sent(mel, model.device), [len(clip) for clip in mels])
    return Output(logits.float().cpu(), tuple(trace.records))


@device.on_gpu(lambda classifier, mels, *_: 3 + sum(map(len, mels)) / 1000)
def _on_lent_gpu(classifier: Classifier, *arguments) -> Output:
    device.placed(classifier.model)
    return _forward(classifier, *arguments)


@lru_cache(maxsize=2)
def _in_bf16(model: AST) -> AST:
    """The twin that computes in the place of a model, kept in memory."""
    return stored_in_bf16(model)
