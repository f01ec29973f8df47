"""How often a trained bundle is right on labelled sounds, classified as every front door does it.

check_labels(classifier, task)
answers = [answer(classifier, task, file) for file in task.test]
found = Evaluation.of(task.labels, answers)
found.accuracy, found.interval, found.recall("dog")
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softmoa.bundle import BundleError
from softmoa.classify import Classifier, classify

Z95 = 1.959964  # standard normal quantile of a two-sided interval of 95 %


@dataclass(frozen=True)
class Answer:
    """One clip, its true label, and the most probable one with its probability."""

    path: Path
    label: str
    said: str
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """counts: (true label, said label) -> clips. labels: the classes of the task, in its order."""

    labels: tuple[str, ...]
    counts: Counter[tuple[str, str]]

    @classmethod
    def of(cls, labels: Sequence[str], answers: Sequence[Answer]) -> Evaluation:
        return cls(tuple(labels), Counter((a.label, a.said) for a in answers))

    @property
    def clips(self) -> int:
        return self.counts.total()

    @property
    def accuracy(self) -> float:
        """Share of the clips whose label was said; NaN without clips."""
        right = sum(self.counts[label, label] for label in self.labels)
        return right / self.clips if self.clips else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy over clips (Wilson 1927), as if they were independent."""
        n, p = self.clips, self.accuracy
        if not n:
            return math.nan, math.nan
        pulled = Z95**2 / n  # towards a half, and less with more clips
        centre = p + pulled / 2
        spread = math.sqrt(pulled * (p * (1 - p) + pulled / 4))
        return (centre - spread) / (1 + pulled), (centre + spread) / (1 + pulled)

    def of_class(self, label: str) -> int:
        """Clips of a class."""
        return sum(count for (truth, _), count in self.counts.items() if truth == label)

    def recall(self, label: str) -> float:
        """Share of a class's clips that were named so; NaN if there are none."""
        clips = self.of_class(label)
        return self.counts[label, label] / clips if clips else math.nan

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have clips."""
        recalls = [self.recall(label) for label in self.labels if self.of_class(label)]
        return sum(recalls) / len(recalls) if recalls else math.nan

    def mistakes(self, label: str) -> list[tuple[str, int]]:
        """What clips of a class were taken for, the most frequent first."""
        wrong = {s: n for (t, s), n in self.counts.items() if t == label and s != label}
        return sorted(wrong.items(), key=lambda item: (-item[1], item[0]))


def check_labels(classifier: Classifier, labels: Sequence[str]) -> None:
    """Raises BundleError with one sentence if the bundle lacks one of the labels."""
    unknown = [label for label in labels if label not in classifier.labels]
    if unknown:
        known = ", ".join(classifier.labels[:5]) + ", ..." * (len(classifier.labels) > 5)
        raise BundleError(
            f"The bundle '{classifier.name}' has no label '{unknown[0]}' ({len(unknown)} of "
            f"{len(labels)} are missing); it has {known}."
        )


def answer(classifier: Classifier, path: Path, label: str) -> Answer:
    """Raises AudioError with one sentence if the clip cannot be used."""
    [(said, probability)] = classify(classifier, path, record=False).top(1)
    return Answer(path, label, said, probability)
