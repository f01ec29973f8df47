"""How often a trained bundle is right on labelled sounds, classified as every front door does it.

clips = [(Path("bark1.wav"), "dog"), (Path("rain.flac"), "rain")]
heard = list(evaluate(classifier, clips))
found = Evaluation.of(answer for answer in heard if isinstance(answer, Answer))
found.accuracy, found.interval, found.recall("dog"), found.mistakes("dog")
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softmoa import audio
from softmoa.audio import AudioError
from softmoa.bundle import BundleError, BundleInfo
from softmoa.classify import Classifier, classify
from softmoa.tasks import LabelledFile, Task, digest

Z95 = 1.959964  # standard normal quantile of a two-sided interval of 95 %


@dataclass(frozen=True)
class Answer:
    """One clip, its true label, and the most probable one with its probability."""

    path: Path
    label: str
    said: str
    probability: float


@dataclass(frozen=True)
class Unread:
    """A clip that cannot be used, and why, in one sentence."""

    path: Path
    why: str


def evaluate(
    classifier: Classifier, clips: Sequence[tuple[Path, str]]
) -> Iterator[Answer | Unread]:
    """Classify (path, label) after (path, label), each up to the length that the bundle heard.

    Raises BundleError with one sentence, before it reads any, if the bundle lacks one of the
    labels.
    """
    labels = dict.fromkeys(label for _, label in clips)
    if unknown := [label for label in labels if label not in classifier.labels]:
        known = ", ".join(classifier.labels[:5]) + ", ..." * (len(classifier.labels) > 5)
        raise BundleError(
            f"The bundle '{classifier.name}' has no label '{unknown[0]}' ({len(unknown)} of "
            f"{len(labels)} are missing); it has {known}."
        )
    return _answers(classifier, clips)


def _answers(
    classifier: Classifier, clips: Sequence[tuple[Path, str]]
) -> Iterator[Answer | Unread]:
    info = classifier.info
    seconds = info.clip_seconds if info else 0.0
    seconds = seconds if 0 < seconds < audio.MAX_SECONDS else audio.MAX_SECONDS
    for path, label in clips:
        try:
            clip = audio.load(path, seconds)
        except AudioError as error:
            yield Unread(path, str(error))
            continue
        sound = audio.SAMPLE_RATE, clip.waveform.numpy()
        [(said, probability)] = classify(classifier, sound, record=False).top(1)
        yield Answer(path, label, said, probability)


def unheard(info: BundleInfo | None, task: Task, files: Sequence[LabelledFile]) -> bool | None:
    """Whether no clip of `files` has trained the bundle, as far as its header tells; None if it
    does not, as of another task, which may hold the same sounds."""
    if info is None or info.task != task.name or not info.test_clips:
        return None
    return digest(files) == info.test_clips


@dataclass(frozen=True)
class Evaluation:
    """counts: (true label, said label) -> clips."""

    counts: Counter[tuple[str, str]]

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> Evaluation:
        return cls(Counter((a.label, a.said) for a in answers))

    @property
    def labels(self) -> tuple[str, ...]:
        """The true ones, in the order of the clips."""
        return tuple(dict.fromkeys(label for label, _ in self.counts))

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
        """95 % interval of the accuracy (Wilson 1927), as if the clips were independent."""
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
        """Mean recall of the classes; NaN without clips."""
        recalls = [self.recall(label) for label in self.labels]
        return sum(recalls) / len(recalls) if recalls else math.nan

    def mistakes(self, label: str) -> list[tuple[str, int]]:
        """What clips of a class were taken for, the most frequent first."""
        wrong = {s: n for (t, s), n in self.counts.items() if t == label and s != label}
        return sorted(wrong.items(), key=lambda item: (-item[1], item[0]))

    def report(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "clips": self.clips,
            "accuracy": round(self.accuracy, 6),
            "interval": [round(end, 6) for end in self.interval],
            "balanced_accuracy": round(self.balanced_accuracy, 6),
            "classes": [
                {
                    "label": label,
                    "clips": self.of_class(label),
                    "recall": round(self.recall(label), 6),
                    "mistakes": dict(self.mistakes(label)),
                }
                for label in self.labels
            ],
        }

    def lines(self) -> list[str]:
        """One of all clips, then one of each class."""
        low, high = self.interval
        lines = [
            f"{100 * self.accuracy:.1f} % of {self.clips} right ({100 * low:.1f} to "
            f"{100 * high:.1f} %, 95 % interval over clips), {100 * self.balanced_accuracy:.1f} % "
            "as the mean of the classes"
        ]
        for label in self.labels:
            wrong = ", ".join(f"{said} {count}" for said, count in self.mistakes(label))
            taken = f"; taken for {wrong}" * bool(wrong)
            lines.append(
                f"  {label}: {100 * self.recall(label):.1f} % of {self.of_class(label)}{taken}"
            )
        return lines
