"""One headline for one sound, from the probabilities of all labels.

AudioSet's labels form a tree, in which "Animal" is true of every "Bark". The headline is the most
probable label, or the most specific label of its kind that is probable enough; where that says
hardly anything ("Music", "Animal"), guesses of its kind follow; where no label is probable enough,
it is up to two guesses; of a sound below SILENT none, whatever the model says of it. Page, command
line and HTTP interface all say this one.
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
    """labels: one if sure; else up to GUESSES, best first, none of silence. within: what they are
    kinds of, where that is sure and they are not."""

    labels: tuple[str, ...]
    sure: bool
    within: str = ""

    @property
    def before(self) -> str:
        """What is said before the labels."""
        if not self.labels:
            return "Silence"
        if self.within:
            return f"{self.within}, perhaps "
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

    A label that is not sure is guessed if it has at least GUESS times the probability that would
    be enough, or of the highest where that is below.
    """
    if loudest(waveform) < SILENT:
        return Headline((), True)
    kinds = {label: ancestors(label) if multilabel else frozenset() for label in labels}
    ranked: list[int] = probabilities.argsort(descending=True, stable=True).tolist()
    order = [labels[i] for i in ranked]
    probable = dict(zip(labels, probabilities.tolist(), strict=True))
    if multilabel:
        told = [label for label in order if label != NEVER and PLACES not in kinds[label]]
        order = told or order
    said, highest = order[0], probable[order[0]]
    guessed = [label for label in order if probable[label] >= GUESS * min(sure, highest)]
    if highest < sure:
        return Headline(_specific(guessed, kinds), False)
    for label in guessed:
        if said in kinds[label] and probable[label] >= sure:
            said = label
    below = [label for label in guessed if said in kinds[label]]
    if below and not kinds[said]:
        return Headline(_specific(below, kinds), False, said)
    return Headline((said,), True)


def _specific(order: Sequence[str], kinds: dict[str, frozenset[str]]) -> tuple[str, ...]:
    """The first GUESSES of those labels that no other of them is a kind of."""
    general = frozenset().union(*(kinds[label] for label in order))
    return tuple(label for label in order if label not in general)[:GUESSES]


@cache
def ancestors(label: str) -> frozenset[str]:
    """All that a label of AudioSet is a kind of; of another label none."""
    direct = _parents().get(label, ())
    return frozenset(direct).union(*map(ancestors, direct))


@cache
def _parents() -> dict[str, list[str]]:
    return json.loads((ASSETS / "audioset-parents.json").read_text("utf-8"))
