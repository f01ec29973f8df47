"""From a sound to its labels and the routing behind them: the one path that the app, the command
line and the HTTP interface share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from softmoa import audio, bundle, sharing, weights, zero
from softmoa.ast import AST
from softmoa.bundle import BundleInfo
from softmoa.contribution import PatchGrid, expert_contribution, expert_share
from softmoa.hub import HubError, Repository
from softmoa.limits import LIMITS
from softmoa.methods import METHODS, attach, share
from softmoa.precision import Precision, autocast, is_large, stored_in_bf16, wants_bf16
from softmoa.recording import LayerRecord, record_routing

BUNDLES = weights.ASSETS / "bundles"
DEFAULT_BUNDLE = "tags"
FRESH = "fresh"  # Soft-MoA at its defaults, untrained, on a backbone that has labels of its own


@dataclass(frozen=True)
class Classifier:
    """A backbone with a bundle on it, and what its outputs mean.

    info: header of the bundle, or None for a fresh, untrained mixture. source: what
    `open_classifier` was asked for; a classifier is pickled as that, without its weights.
    """

    name: str
    backbone: str
    model: AST
    labels: tuple[str, ...]
    multilabel: bool
    info: BundleInfo | None
    source: tuple[str, str | Repository] = ("", "")

    def __reduce__(self):
        return open_classifier, self.source


@dataclass(frozen=True)
class Timing:
    """Milliseconds spent in each stage."""

    decode: float
    features: float
    forward: float


@dataclass(frozen=True)
class Classification:
    """One sound, classified. Arrays are on the CPU; records have a batch axis of one clip.

    mel: (frames, 128). logits: (classes,), in the order of `classifier.labels`.
    """

    classifier: Classifier
    clip: audio.Clip
    mel: Tensor
    logits: Tensor
    records: tuple[LayerRecord, ...]
    timing: Timing

    @property
    def probabilities(self) -> Tensor:
        """(classes,): sigmoid or softmax of the logits."""
        return self.logits.sigmoid() if self.classifier.multilabel else self.logits.softmax(dim=0)

    @property
    def grid(self) -> PatchGrid:
        return PatchGrid.of(self.classifier.model.config, len(self.mel))

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable labels, best first."""
        order = self.probabilities.argsort(descending=True)[:k].tolist()
        return [(self.classifier.labels[i], self.probabilities[i].item()) for i in order]


def bundles() -> dict[str, Path]:
    """Names and files of the embedded bundles, the default one first."""
    files = sorted(BUNDLES.glob("*.safetensors"), key=lambda f: (f.stem != DEFAULT_BUNDLE, f.stem))
    return {path.stem: path for path in files}


def open_classifier(
    name: str = DEFAULT_BUNDLE, backbone: str | Repository | None = None
) -> Classifier:
    """A bundle by its embedded name, its path or its repository on the Hub, on the backbone it was
    trained on.

    A repository is written `user/name` or `user/name@revision`; a file of that name comes first.
    Strangers may name none: it is asked for with the token of this machine's owner.
    backbone: where the one that the bundle was trained on is, if not under its name, see
    `weights.load`; of the bundle "fresh" the one that an untrained Soft-MoA is put on, which must
    have labels of its own.
    Raises BundleError or WeightsError with one sentence if something is missing or does not fit.
    """
    if name == FRESH:
        return _fresh(backbone or "ast-base")
    path = bundles().get(name, Path(name))
    title = path.stem
    if not path.is_file():
        path, title = _of_hub(name), name
    trained_on = bundle.read_info(path).base
    # A folder may have any name; `bundle.load` compares the weights of all.
    named = isinstance(backbone, Repository) or backbone in weights.BACKBONES
    if named and str(backbone) != trained_on:
        raise bundle.BundleError(f"The bundle '{name}' belongs to the backbone '{trained_on}'.")
    if not backbone and not _has_an_address(trained_on):
        raise bundle.BundleError(
            f"The bundle '{name}' belongs to a backbone in a folder named '{trained_on}'; say "
            "where that is, by --backbone."
        )
    return _opened(path, path.stat().st_mtime_ns, title, backbone or trained_on)


def _has_an_address(backbone: str) -> bool:
    """Whether a backbone can be had by its name: an embedded one, or one on the Hub."""
    return backbone in weights.BACKBONES or "/" in backbone


def _of_hub(name: str) -> Path:
    try:
        repository = Repository.parse(name)
    except HubError:
        raise bundle.BundleError(
            f"There is no bundle '{name}'; there are {', '.join(bundles())}, files, and "
            "repositories of the Hub, written user/name."
        ) from None
    try:
        return sharing.fetch(repository, LIMITS.bundle_mb)
    except HubError as error:
        raise bundle.BundleError(str(error)) from None


@lru_cache(maxsize=8)
def _opened(path: Path, modified: int, title: str, backbone: str | Repository) -> Classifier:
    del modified  # part of the cache's key: a file that was written again is read again
    model, info = bundle.load(path, load_backbone(backbone))
    source = str(path), backbone
    return Classifier(title, info.base, model, info.labels, info.multilabel, info, source)


@lru_cache(maxsize=2)
def _fresh(backbone: str | Repository) -> Classifier:
    base = load_backbone(backbone)
    if not base.labels:
        raise bundle.BundleError(f"The backbone '{backbone}' has no labels of its own.")
    model = share(base.model)
    attach(model, "soft-moa", METHODS["soft-moa"].options(), len(base.labels))
    model.head, model.pooling = base.model.head, base.model.pooling
    model.requires_grad_(False).eval()
    return Classifier(FRESH, base.name, model, base.labels, True, None, (FRESH, backbone))


@lru_cache(maxsize=2)
def load_backbone(name: str | Repository) -> weights.Loaded:
    """A backbone, kept in memory once."""
    return weights.load(name)


@lru_cache(maxsize=2)
def _in_bf16(model: AST) -> AST:
    """The twin that computes for a classifier, kept in memory."""
    return stored_in_bf16(model)


def computing_model(classifier: Classifier, precision: Precision = "auto") -> AST:
    """The model that computes for a classifier: its own, or the twin to use within `autocast`."""
    model = classifier.model
    return _in_bf16(model) if wants_bf16(model, precision) else model


def classify(
    classifier: Classifier,
    source: audio.Source,
    record: bool = True,
    pad_frames: int = 0,
    precision: Precision = "auto",
) -> Classification:
    """Decode, compute the log-mel, run the model and record its routing.

    A clip is run at its own length. `pad_frames` = 1024 pads and cuts it to that many frames
    instead, as the published checkpoints were trained: slower, and the padding takes part.
    In bfloat16 (see `softmoa.precision`) a base-size model takes half the time.
    Raises AudioError with one sentence if the sound cannot be used.
    """
    began = time.perf_counter()
    clip = audio.load(source)
    decoded = time.perf_counter()
    model = computing_model(classifier, precision)
    device = model.cls.device
    mel = audio.log_mel(clip.waveform.to(device))
    if pad_frames:
        mel = audio.pad_as_trained(mel, pad_frames)
    prepared = time.perf_counter()
    forward = _forward_on_gpu if is_large(model) else _forward
    logits, records = forward(classifier, mel, record, precision)
    done = time.perf_counter()
    return Classification(
        classifier,
        clip,
        mel.cpu(),
        logits,
        records,
        Timing(
            decode=1000 * (decoded - began),
            features=1000 * (prepared - decoded),
            forward=1000 * (done - prepared),
        ),
    )


def _forward(
    classifier: Classifier, mel: Tensor, record: bool, precision: Precision
) -> tuple[Tensor, tuple[LayerRecord, ...]]:
    """Logits and records, on the CPU."""
    model = computing_model(classifier, precision)
    mel = mel.to(model.cls.device)
    with torch.inference_mode(), autocast(classifier.model, precision):
        if record:
            with record_routing(model) as records:
                logits = model(mel[None])[0]
        else:
            records, logits = [], model(mel[None])[0]
    return logits.float().cpu(), tuple(records)


@zero.on_gpu(lambda classifier, mel, *_: 3 + len(mel) / 1000)
def _forward_on_gpu(
    classifier: Classifier, mel: Tensor, record: bool, precision: Precision
) -> tuple[Tensor, tuple[LayerRecord, ...]]:
    zero.placed(classifier.model)
    zero.placed(computing_model(classifier, precision))
    return _forward(classifier, mel, record, precision)


def report(result: Classification, file: str, top_k: int = 5) -> dict:
    """The classification as plain JSON values; the contract of the command line and the API.

    The contributions of a mixture sum to 1, or are all 0 where its experts add nothing.
    """
    classifier, timing = result.classifier, result.timing
    return {
        "file": file,
        "bundle": classifier.name,
        "backbone": classifier.backbone,
        "device": str(classifier.model.cls.device),
        "duration_s": round(result.clip.seconds, 4),
        "labels": [{"label": label, "probability": round(p, 6)} for label, p in result.top(top_k)],
        "experts": [
            {
                "layer": record.layer,
                "site": record.site,
                "share": [round(x, 6) for x in expert_share(record)[0].nan_to_num().tolist()],
                "contribution": [round(x, 6) for x in expert_contribution(record)[0].tolist()],
            }
            for record in result.records
        ],
        "timing_ms": {
            "decode": round(timing.decode, 2),
            "features": round(timing.features, 2),
            "forward": round(timing.forward, 2),
        },
    }
