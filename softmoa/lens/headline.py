"""One headline for one sound, from the probabilities of all labels.

AudioSet's labels form a tree, in which "Animal" is true of every "Bark". The headline is the most
probable label, or the most specific label of its kind that is probable enough; where that says
hardly anything ("Music", "Animal"), guesses of its kind follow; where no label is probable enough,
it is up to two guesses, or the more probable label that both are kinds of; of a sound below SILENT
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
LEAST = 0.1  # probability of a guess; below, the first is wrong on 2 of 3 clips of ESC-50
GUESSES = 2
PLACES = "Acoustic environment"  # labels below are where a sound was recorded, not what it is
NEVER = "Silence"  # told by the level, or of a clip that is short sounds with silence around them


@dataclass(frozen=True)
class Headline:
    """labels: one if sure; else up to GUESSES, best first; none of silence. within: what is sure
    where they are not: what they are kinds of, or silence."""

    labels: tuple[str, ...]
    sure: bool
    within: str = ""

    @property
    def before(self) -> str:
        """What is said before the labels."""
        if self.sure or not self.labels:
            return self.within or ("" if self.sure else "Not sure")
        return f"{self.within}, perhaps " if self.within else "Not sure: perhaps "

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

    A label that is not sure is guessed if it has at least LEAST, and GUESS times the probability
    that would be enough, or of the highest where that is below.
    """
    if loudest(waveform) < SILENT:
        return Headline((), True, NEVER)
    kinds = {label: ancestors(label) if multilabel else frozenset() for label in labels}
    ranked: list[int] = probabilities.argsort(descending=True, stable=True).tolist()
    order = [labels[i] for i in ranked]
    probable = dict(zip(labels, probabilities.tolist(), strict=True))
    if multilabel:
        told = [label for label in order if label != NEVER and PLACES not in kinds[label]]
        order = told or order
    said, highest = order[0], probable[order[0]]
    least = max(LEAST, GUESS * min(sure, highest))
    guessed = [label for label in order if probable[label] >= least]
    if highest < sure:
        quiet = multilabel and probable.get(NEVER, 0) >= sure
        return Headline(_guesses(guessed, kinds), False, "Mostly silence" if quiet else "")
    for label in guessed:
        if said in kinds[label] and probable[label] >= sure:
            said = label
    below = [label for label in guessed if said in kinds[label]]
    if below and not kinds[said]:
        return Headline(_specific(below, kinds), False, said)
    return Headline((said,), True)


def _guesses(order: Sequence[str], kinds: dict[str, frozenset[str]]) -> tuple[str, ...]:
    """The most specific labels; of two, the more probable one that both are kinds of."""
    found = _specific(order, kinds)
    if len(found) < GUESSES:
        return found
    shared = frozenset.intersection(*(kinds[label] for label in found))
    before = [one for one in order[: order.index(found[0])] if one in shared and kinds[one]]
    return _specific(before, kinds) or found


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
