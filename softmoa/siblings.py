"""Bundles of one task beside each other: the same sounds through several mixtures."""

from __future__ import annotations

import torch
from torch import Tensor

from softmoa.balance import Balance, Tally
from softmoa.bundle import BundleInfo, read_info
from softmoa.classify import Classifier, bundles
from softmoa.methods import METHODS
from softmoa.moa import SoftRouter
from softmoa.recording import Place, mixtures, record_routing


def siblings(name: str) -> dict[str, str]:
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


class Measured:
    """The balance of one model's mixtures, over the sounds that were added."""

    def __init__(self, classifier: Classifier, title: str):
        self.title = title
        self.clips = 0
        self._model = classifier.model
        routers = {place: moa.router for place, moa in mixtures(self._model).items()}
        self._tally = Tally({p: r.phi for p, r in routers.items() if isinstance(r, SoftRouter)})

    def add(self, mel: Tensor) -> None:
        """One sound, (frames, 128)."""
        with torch.inference_mode(), record_routing(self._model) as records:
            self._model(mel[None].to(self._model.cls.device))
        self._tally.add(records)
        self.clips += 1

    @property
    def balances(self) -> dict[Place, Balance]:
        """Balance of every mixture, in the order of the forward pass."""
        return self._tally.balances
