"""Labelled sounds: which files, which classes, which split.

`SOFTMOA_DATA` names the folder that holds datasets in their official layouts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from softmoa import audio


class TaskError(ValueError):
    """A dataset that cannot be used; the message is one sentence for its owner."""


@dataclass(frozen=True)
class LabelledFile:
    """One clip; `group` names what may not be split, such as the official fold or the speaker."""

    path: Path
    label: int
    group: str


@dataclass(frozen=True)
class Task:
    name: str
    title: str
    labels: tuple[str, ...]
    files: tuple[LabelledFile, ...]

    def split(self, *groups: str) -> tuple[LabelledFile, ...]:
        """The files of these groups."""
        return tuple(file for file in self.files if file.group in groups)

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(sorted({file.group for file in self.files}))


def data_root() -> Path:
    """The folder of datasets; raises TaskError if it is not there."""
    root = Path(os.environ.get("SOFTMOA_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        raise TaskError(f"There is no folder {root}: set SOFTMOA_DATA to the folder of datasets.")
    return root


def load(name: str) -> Task:
    """A task by its name in TASKS; raises TaskError if its data are not there."""
    if name not in TASKS:
        raise TaskError(f"There is no task '{name}'; there are {', '.join(TASKS)}.")
    folder = data_root() / TASKS[name][0]
    if not folder.is_dir():
        raise TaskError(f"The data of '{name}' are not in {folder.parent}.")
    return TASKS[name][1](folder)


def esc10(folder: Path) -> Task:
    """ESC-10: 10 classes of 40 clips of 5 s, one folder a class, fold = first number of a name.

    Source: Piczak 2015, "ESC: Dataset for Environmental Sound Classification".
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    labels = tuple(path.name.partition(" - ")[2].lower() for path in classes)
    files = [
        LabelledFile(path, label, path.name.partition("-")[0])
        for label, directory in enumerate(classes)
        for path in sorted(directory.glob("*.ogg"))
    ]
    return Task("esc10", "ESC-10, environmental sounds", labels, tuple(files))


def fsdd(folder: Path) -> Task:
    """Free Spoken Digit Dataset: `digit_speaker_take.wav`, group = speaker."""
    files = []
    for path in sorted(folder.glob("*.wav")):
        digit, speaker, _ = path.stem.split("_")
        files.append(LabelledFile(path, int(digit), speaker))
    labels = tuple("zero one two three four five six seven eight nine".split())
    return Task("digits", "Free Spoken Digit Dataset", labels, tuple(files))


TASKS = {"esc10": ("esc10", esc10), "digits": ("fsdd", fsdd)}


def log_mels(files: Sequence[LabelledFile], max_seconds: float = 10.0) -> list[tuple[Tensor, int]]:
    """Decode files in parallel -> [(log-mel (frames, 128), label)], ready for `training.fit`."""

    def one(file: LabelledFile) -> tuple[Tensor, int]:
        return audio.log_mel(audio.load(file.path, max_seconds).waveform), file.label

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, files))
