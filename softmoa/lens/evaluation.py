"""How often a trained bundle is right on labelled sounds, of each the loudest part.

clips = [(Path("bark1.wav"), "dog"), (Path("rain.flac"), "rain")]
heard = list(evaluate(classifier, clips))
found = summary([answer for answer in heard if isinstance(answer, Prediction)])
found["accuracy"], found["interval"], found["classes"]
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

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
    return (_heard(classifier, path, label) for path, label in clips)


def _heard(classifier: Classifier, path: Path, label: str) -> Prediction | Unread:
    trained_on = classifier.info.clip_seconds if classifier.info else 0
    seconds = min(classifier.seconds, trained_on or math.inf)
    try:
        clip = audio.load(path)
    except AudioError as error:
        return Unread(path, str(error))
    mel = classifier.log_mel(audio.loudest_part(clip.waveform, seconds))
    output = run(classifier, [mel], record=False)
    probability, best = classifier.probabilities(output.logits)[0].max(dim=0)
    return Prediction(path, label, classifier.labels[int(best)], probability.item(), clip.notes)


def unheard(info: BundleInfo | None, task: Task, files: Sequence[LabelledFile]) -> bool | None:
    """Whether no clip of `files` has trained the bundle, as far as its header tells; None if it
    does not, as of another task, which may hold the same sounds."""
    if info is None or info.task != task.name or not info.test_clips:
        return None
    return digest(files) == info.test_clips


def summary(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """How many of some predictions are right, as plain JSON values.

    interval: 95 % interval of the accuracy, as if the clips were independent. classes: by true
    label, in the order of the clips; recall: share of a label's clips that were named so, whose
    mean is balanced_accuracy; mistakes: what the others were taken for, the most frequent first.
    """
    classes = []
    for label in dict.fromkeys(one.label for one in predictions):
        said = Counter(sorted(one.said for one in predictions if one.label == label))
        clips, right = said.total(), said.pop(label, 0)
        recall, mistakes = right / clips, dict(said.most_common())
        classes.append({"label": label, "clips": clips, "recall": recall, "mistakes": mistakes})
    clips = len(predictions)
    right = sum(one.said == one.label for one in predictions)
    return {
        "clips": clips,
        "accuracy": round(right / clips, 6),
        "interval": [round(end, 6) for end in wilson(right, clips)],
        "balanced_accuracy": round(mean(of["recall"] for of in classes), 6),
        "classes": [of | {"recall": round(of["recall"], 6)} for of in classes],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """A summary as text: a line of all clips, then one of each class."""
    low, high = found["interval"]
    said = [
        f"{100 * found['accuracy']:.1f}% of {found['clips']} right ({100 * low:.1f} to "
        f"{100 * high:.1f}%, 95% interval over clips), {100 * found['balanced_accuracy']:.1f}% "
        "as the mean of the classes"
    ]
    for of in found["classes"]:
        wrong = ", ".join(f"{label} {count}" for label, count in of["mistakes"].items())
        taken = f"; taken for {wrong}" * bool(wrong)
        said.append(f"  {of['label']}: {100 * of['recall']:.1f}% of {of['clips']}{taken}")
    return said
