"""How often a trained bundle is right on labelled sounds, classified as every front door does it.

clips = [(Path("bark1.wav"), "dog"), (Path("rain.flac"), "rain")]
heard = list(evaluate(classifier, clips))
found = Evaluation.of(answer for answer in heard if isinstance(answer, Prediction))
found.accuracy, found.interval, found.recall, found.mistakes("dog")
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softmoa.data import audio
from softmoa.data.audio import AudioError
from softmoa.data.tasks import LabelledFile, Task, digest
from softmoa.lens.classifier import Classifier
from softmoa.lens.run import run
from softmoa.methods.bundle import BundleError, BundleInfo
from softmoa.training.statistics import wilson


@dataclass(frozen=True)
class Prediction:
    """One clip, its true label, and the most probable one with its probability; notes: what is odd
    about the sound."""

    path: Path
    label: str
    said: str
    probability: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unread:
    """A clip that cannot be used, and why, in one sentence."""

    path: Path
    why: str


def evaluate(
    classifier: Classifier, clips: Sequence[tuple[Path, str]]
) -> Iterator[Prediction | Unread]:
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
    return _predictions(classifier, clips)


def _predictions(
    classifier: Classifier, clips: Sequence[tuple[Path, str]]
) -> Iterator[Prediction | Unread]:
    trained_on = classifier.info.clip_seconds if classifier.info else 0
    seconds = min(classifier.seconds, trained_on or math.inf)
    for path, label in clips:
        try:
            clip = audio.load(path)
        except AudioError as error:
            yield Unread(path, str(error))
            continue
        mel = classifier.log_mel(audio.loudest_part(clip.waveform, seconds))
        output = run(classifier, [mel], record=False)
        probability, best = classifier.probabilities(output.logits)[0].max(dim=0)
        yield Prediction(path, label, classifier.labels[int(best)], probability.item(), clip.notes)


def unheard(info: BundleInfo | None, task: Task, files: Sequence[LabelledFile]) -> bool | None:
    """Whether no clip of `files` has trained the bundle, as far as its header tells; None if it
    does not, as of another task, which may hold the same sounds."""
    if info is None or info.task != task.name or not info.test_clips:
        return None
    return digest(files) == info.test_clips


@dataclass(frozen=True)
class Evaluation:
    """counts: (labels, said), clips of each true label by the label they were given.

    labels: the true ones, in the order of the clips; `said` begins with them.
    """

    labels: tuple[str, ...]
    said: tuple[str, ...]
    counts: np.ndarray

    @classmethod
    def of(cls, predictions: Iterable[Prediction]) -> Evaluation:
        """Raises ValueError without predictions."""
        from sklearn.metrics import confusion_matrix  # a second to import

        truth, given = zip(*((p.label, p.said) for p in predictions), strict=True)
        labels, said = tuple(dict.fromkeys(truth)), tuple(dict.fromkeys((*truth, *given)))
        return cls(labels, said, confusion_matrix(truth, given, labels=said)[: len(labels)])

    @property
    def clips(self) -> int:
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        return float(self.counts.trace() / self.clips)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, as if the clips were independent."""
        return wilson(int(self.counts.trace()), self.clips)

    @property
    def recall(self) -> np.ndarray:
        """Share of each label's clips that were named so, (labels,)."""
        return self.counts.diagonal() / self.counts.sum(axis=1)

    @property
    def balanced_accuracy(self) -> float:
        return float(self.recall.mean())

    def mistakes(self, label: str) -> dict[str, int]:
        """What clips of a label were taken for, the most frequent first."""
        row = zip(self.said, self.counts[self.labels.index(label)].tolist(), strict=True)
        wrong = [(said, count) for said, count in row if count and said != label]
        return dict(sorted(wrong, key=lambda item: (-item[1], item[0])))

    def report(self) -> dict[str, Any]:
        """As plain JSON values."""
        clips, recall = self.counts.sum(axis=1).tolist(), self.recall.round(6).tolist()
        return {
            "clips": self.clips,
            "accuracy": round(self.accuracy, 6),
            "interval": [round(end, 6) for end in self.interval],
            "balanced_accuracy": round(self.balanced_accuracy, 6),
            "classes": [
                {"label": label, "clips": n, "recall": r, "mistakes": self.mistakes(label)}
                for label, n, r in zip(self.labels, clips, recall, strict=True)
            ],
        }

    def lines(self) -> list[str]:
        """One of all clips, then one of each class."""
        low, high = self.interval
        lines = [
            f"{100 * self.accuracy:.1f}% of {self.clips} right ({100 * low:.1f} to "
            f"{100 * high:.1f}%, 95% interval over clips), {100 * self.balanced_accuracy:.1f}% "
            "as the mean of the classes"
        ]
        for of in self.report()["classes"]:
            wrong = ", ".join(f"{said} {count}" for said, count in of["mistakes"].items())
            taken = f"; taken for {wrong}" * bool(wrong)
            lines.append(f"  {of['label']}: {100 * of['recall']:.1f}% of {of['clips']}{taken}")
        return lines
