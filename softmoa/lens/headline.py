"""One headline for one sound, from the probabilities of all labels.

AudioSet's labels form a tree, in which "Animal" is true of every "Bark". The headline is the most
specific label that is probable enough; where none is, up to two guesses; of a sound below SILENT
none, whatever the model says of it. Page, command line and HTTP interface all say this one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from softmoa import ASSETS
from softmoa.data.audio import SILENT, loudest

SURE = 0.5  # probability from which a label is said without a question mark
GUESS = 0.5  # share of the most probable label's probability from which others are guessed, too
GUESSES = 2
PLACES = "Acoustic environment"  # labels below are where a sound was recorded, not what it is
NEVER = "Silence"  # told by the level


@dataclass(frozen=True)
class Headline:
    """labels: one if sure; else up to GUESSES, best first, none of silence."""

    labels: tuple[str, ...]
    sure: bool

    @property
    def before(self) -> str:
        """What is said before the labels."""
        if not self.labels:
            return "Silence"
        return "" if self.sure else "Not sure: perhaps "

    def __str__(self) -> str:
        return self.before + " or ".join(self.labels)


def headline(
    labels: Sequence[str],
    probabilities: Tensor,
    waveform: Tensor,
    *,
    multilabel: bool,
    sure: float = SURE,
) -> Headline:
    """probabilities: (labels,); waveform: (samples,) at 16 kHz; multilabel: whether several labels
    may be true, else no label is a kind of another; sure: probability from which one is said.

    Of the labels above the bar those stay that no other of them is a kind of; the most probable of
    these is said. The bar is `sure`, or GUESS times the highest probability where that is below.
    """
    if loudest(waveform) < SILENT:
        return Headline((), True)
    kinds = {label: ancestors(label) if multilabel else frozenset() for label in labels}
    order: list[int] = probabilities.argsort(descending=True, stable=True).tolist()
    if multilabel:
        told = [i for i in order if labels[i] != NEVER and PLACES not in kinds[labels[i]]]
        order = told or order
    highest = probabilities[order[0]].item()
    bar = sure if highest >= sure else GUESS * highest
    above = [labels[i] for i in order if probabilities[i].item() >= bar]
    general = frozenset().union(*(kinds[label] for label in above))
    specific = [label for label in above if label not in general]
    return Headline(tuple(specific[: 1 if highest >= sure else GUESSES]), highest >= sure)


@cache
def ancestors(label: str) -> frozenset[str]:
    """All that a label of AudioSet is a kind of; of another label none."""
    direct = _parents().get(label, ())
    return frozenset(direct).union(*map(ancestors, direct))


@cache
def _parents() -> dict[str, list[str]]:
    return json.loads((ASSETS / "audioset-parents.json").read_text("utf-8"))
