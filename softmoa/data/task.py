"""What a labelled task is: classes, clips and their splits; and few shots of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from softmoa.data.values import InputError

SPLITS = ("train", "valid", "test")


class TaskError(InputError):
    """A dataset that cannot be used; the message is one sentence for its owner."""


@dataclass(frozen=True)
class LabelledFile:
    """One clip; `group` names what may not be split, such as the official fold or the speaker."""

    path: Path
    label: int
    group: str


@dataclass(frozen=True)
class Task:
    """Classes and the clips of each split; `about` says what the test clips test."""

    name: str
    title: str
    labels: tuple[str, ...]
    train: tuple[LabelledFile, ...]
    valid: tuple[LabelledFile, ...]
    test: tuple[LabelledFile, ...]
    about: str = ""

    @property
    def files(self) -> tuple[LabelledFile, ...]:
        return self.train + self.valid + self.test

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(sorted({file.group for file in self.files}, key=in_order))

    @property
    def counts(self) -> dict[str, tuple[int, ...]]:
        """Number of clips of each class, in the order of `labels`, by split."""
        return {
            split: tuple(
                sum(file.label == label for file in getattr(self, split))
                for label in range(len(self.labels))
            )
            for split in SPLITS
        }

    @property
    def majority(self) -> float:
        """Accuracy on the test clips of always naming the class most frequent in training."""
        counts = self.counts
        commonest = counts["train"].index(max(counts["train"]))
        return counts["test"][commonest] / max(len(self.test), 1)

    @property
    def summary(self) -> str:
        return (
            f"{len(self.labels)} classes; {len(self.train)} clips to train on, "
            f"{len(self.valid)} to validate, {len(self.test)} to test."
        )


@dataclass(frozen=True)
class Row:
    """One clip as a dataset lists it; `split` and `group` are "" where the dataset names none."""

    path: Path
    label: str
    split: str = ""
    group: str = ""


def task_of(
    name: str, title: str, labels: Iterable[str], rows: Iterable[Row], about: str = ""
) -> Task:
    """The task of rows that all name a split of SPLITS and a label of `labels`."""
    labels = tuple(labels)
    index = {label: i for i, label in enumerate(labels)}
    parts: dict[str, list[LabelledFile]] = {split: [] for split in SPLITS}
    for row in rows:
        parts[row.split].append(LabelledFile(row.path, index[row.label], row.group))
    return Task(name, title, labels, *(tuple(parts[s]) for s in SPLITS), about=about)


def clip_name(file: LabelledFile) -> str:
    """Folder and file, without the folders above, which differ between machines."""
    return f"{file.path.parent.name}/{file.path.name}"


def digest(files: Iterable[LabelledFile]) -> str:
    """Of the names of clips, whatever their order: the same for the same clips of a task."""
    names = "\n".join(sorted(map(clip_name, files)))
    return hashlib.sha256(names.encode()).hexdigest()[:12]


def in_order(group: str) -> tuple[int, str]:
    """Sorts the names of groups: numbers by their value, before all others."""
    return (int(group), "") if group.isdecimal() else (2**31, group)


def few_shot(task: Task, shots: int, seed: int = 0) -> Task:
    """The task with `shots` training clips of each class; the other splits are as they were.

    Clips are ranked by a hash of the seed and their names, so the choice is the same on every
    machine, and fewer shots with the same seed are part of more.
    """

    def rank(file: LabelledFile) -> tuple[bytes, Path]:
        name = f"{seed}/{task.labels[file.label]}/{file.group}/{file.path.name}"
        return hashlib.sha256(name.encode()).digest(), file.path

    if shots < 1:
        raise TaskError(f"A class needs at least 1 shot, not {shots}.")
    chosen: set[Path] = set()
    for label, title in enumerate(task.labels):
        files = sorted((file for file in task.train if file.label == label), key=rank)
        if len(files) < shots:
            raise TaskError(
                f"'{title}' has {len(files)} training clips, fewer than the {shots} asked for."
            )
        chosen |= {file.path for file in files[:shots]}
    return replace(task, train=tuple(file for file in task.train if file.path in chosen))
