"""Classifiers by name: a backbone with a bundle on it, and what its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from softmoa import ASSETS
from softmoa.data import audio
from softmoa.data.hub import HubError, Repository
from softmoa.data.limits import limits
from softmoa.lens.headline import SURE, Headline, ancestors, headline
from softmoa.methods import METHODS, attach, bundle, share, sharing
from softmoa.methods.bundle import BundleError, BundleInfo
from softmoa.model import weights
from softmoa.model.ast import AST

BUNDLES = ASSETS / "bundles"
DEFAULT_BUNDLE = "tags"
# Bundles on the Hub for "ast-base", by their repositories: where there is a GPU the app opens on
# the first of them that can be had. Empty until somebody has trained one, by `softmoa reproduce`.
FOR_GPU: tuple[str, ...] = ()
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

    @property
    def seconds(self) -> float:
        """How much of a sound is heard: a checkpoint's own head knows no longer clips than those
        it was trained on; what a bundle adds learns on clips of any length."""
        most = limits().audio_seconds
        return most if self.info else min(most, audio.seconds_of(self.model.config.max_frames))

    def log_mel(self, waveform: Tensor) -> Tensor:
        """(samples,) at 16 kHz -> (frames, mels), as the backbone was trained on."""
        return audio.log_mel(waveform, self.model.config.front_end)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., classes): sigmoid where several labels may be true, else softmax."""
        return logits.sigmoid() if self.multilabel else logits.softmax(dim=-1)

    def top(self, probabilities: Tensor, k: int) -> list[tuple[str, float]]:
        """The k most probable labels of (classes,), best first."""
        order = probabilities.argsort(descending=True)[:k].tolist()
        return [(self.labels[i], probabilities[i].item()) for i in order]

    def headline(self, probabilities: Tensor, waveform: Tensor, sure: float = SURE) -> Headline:
        """What a sound is said to be; see `headline`."""
        return headline(self.labels, probabilities, waveform, multilabel=self.multilabel, sure=sure)

    def another(self, label: str, other: str) -> bool:
        """Whether two labels are two answers: one that is a kind of the other is not."""
        akin = label in ancestors(other) or other in ancestors(label)
        return label != other and not (self.multilabel and akin)


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
        raise BundleError(f"The bundle '{name}' belongs to the backbone '{trained_on}'.")
    if not backbone and trained_on not in weights.BACKBONES and "/" not in trained_on:
        raise BundleError(
            f"The bundle '{name}' belongs to a backbone in a folder named '{trained_on}'; say "
            "where that is, by --backbone."
        )
    return _opened(path, path.stat().st_mtime_ns, title, backbone or trained_on)


def _of_hub(name: str) -> Path:
    try:
        repository = Repository.parse(name)
    except HubError:
        raise BundleError(
            f"There is no bundle '{name}'; there are {', '.join(bundles())}, files, and "
            "repositories of the Hub, written user/name."
        ) from None
    try:
        return sharing.fetch(repository, limits().bundle_mb)
    except HubError as error:
        raise BundleError(str(error)) from None


@lru_cache(maxsize=8)
def _opened(path: Path, modified: int, title: str, backbone: str | Repository) -> Classifier:
    del modified  # part of the cache's key: a file that was written again is read again
    model, info = bundle.load(path, weights.load_backbone(backbone))
    source = str(path), backbone
    return Classifier(title, info.base, model, info.labels, info.multilabel, info, source)


@lru_cache(maxsize=2)
def _fresh(backbone: str | Repository) -> Classifier:
    base = weights.load_backbone(backbone)
    if not base.labels:
        raise BundleError(f"The backbone '{backbone}' has no labels of its own.")
    model = share(base.model)
    attach(model, "soft-moa", METHODS["soft-moa"].options(), len(base.labels))
    model.head, model.pooling = base.model.head, base.model.pooling
    model.requires_grad_(False).eval()
    return Classifier(
        FRESH, base.name, model, base.labels, base.multilabel, None, (FRESH, backbone)
    )
