"""Bundles of one task beside each other: the same sounds through several mixtures."""

from __future__ import annotations

from torch import Tensor

from softmoa.lens.balance import Tally
from softmoa.lens.classifier import Classifier, bundles
from softmoa.lens.run import run
from softmoa.methods import METHODS
from softmoa.methods.bundle import BundleInfo, read_info


def same_task(name: str) -> dict[str, str]:
    """Name and title of the embedded bundles with mixtures of the same task on the same backbone,
    the named one first; empty if it is not among them."""
    found = {bundle: read_info(path) for bundle, path in bundles().items()}
    if name not in found:
        return {}
    own = found[name]
    same = {
        bundle: title(info)
        for bundle, info in found.items()
        if METHODS[info.method].family == "Mixtures"
        and (info.task, info.base) == (own.task, own.base)
    }
    return {name: same[name], **same} if name in same else same


def title(info: BundleInfo) -> str:
    """The method in words; of a top-k mixture with its k and how it was balanced in training."""
    if info.method != "topk-moa":
        return METHODS[info.method].title
    balance = {"none": "", "loss": ", balanced by a loss", "bias": ", balanced by a bias"}
    options = METHODS[info.method].options(**info.options)
    return f"Top-{options.k} MoA" + balance[options.balance]


class BundleBalance:
    """The balance of a bundle's mixtures, over the sounds that were added; see `Tally`."""

    def __init__(self, classifier: Classifier, title: str):
        self.title, self.clips = title, 0
        self._classifier, self._tally = classifier, Tally(classifier.model)
        self.balances = self._tally.balances

    def add(self, mel: Tensor) -> None:
        """One sound, (frames, 128)."""
        self._tally.add(run(self._classifier, [mel]).records)
        self.clips += 1
