"""Labelled sounds: which files, which classes, which split.

`instruments`, `tones` and `initials` are embedded (assets/tasks). Other tasks are read from the
folder that SOFTMOA_DATA names, in their official layouts, and split by their official groups:

    load("instruments")                            the fixed split of its manifest
    load("esc10", test="3", valid="2")             two folds held out, the others to train on
    few_shot(task, 5, seed=0)                      five training clips of each class
    log_mels(task.train)                           [(log-mel, label)], ready for training
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from torch import Tensor

from softmoa import audio

EMBEDDED = Path(__file__).parent.parent / "assets" / "tasks"
SPLITS = ("train", "valid", "test")
CACHE_BYTES = 256 * 2**20  # of log-mels: all five tasks need about 250 MB


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
        return tuple(sorted({file.group for file in self.files}))

    def split(self, *groups: str) -> tuple[LabelledFile, ...]:
        """The files of these groups, in the order of their paths."""
        chosen = (file for file in self.files if file.group in groups)
        return tuple(sorted(chosen, key=lambda file: file.path))

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


@dataclass(frozen=True)
class Layout:
    """A dataset in a folder of SOFTMOA_DATA: how to read it, and which groups are held out."""

    title: str
    about: str
    folder: str
    read: Callable[[Path], tuple[tuple[str, ...], list[LabelledFile]]]
    test: str
    valid: str


@dataclass(frozen=True)
class Embedded:
    """A task in assets/tasks, with a manifest that fixes its split."""

    title: str
    about: str


def data_root() -> Path:
    """The folder of datasets; raises TaskError if it is not there."""
    root = Path(os.environ.get("SOFTMOA_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        raise TaskError(f"There is no folder {root}: set SOFTMOA_DATA to the folder of datasets.")
    return root


def load(name: str, test: str = "", valid: str = "") -> Task:
    """A task by its name in TASKS; raises TaskError if its data are not there.

    test, valid: the group held out for each, in the place of the task's own; all other groups are
    trained on. An embedded task has one fixed split.
    """
    source = TASKS.get(name)
    if source is None:
        raise TaskError(f"There is no task '{name}'; there are {', '.join(TASKS)}.")
    if isinstance(source, Embedded):
        if test or valid:
            raise TaskError(f"The split of '{name}' is fixed and cannot be changed.")
        return read_manifest(EMBEDDED / name / "manifest.csv", name, source.title, source.about)
    folder = data_root() / source.folder
    if not folder.is_dir():
        raise TaskError(f"The data of '{name}' are not in {folder.parent}.")
    labels, files = source.read(folder)
    splits = hold_out(files, test or source.test, valid or source.valid, name)
    return Task(name, source.title, labels, *splits, about=source.about)


def available() -> tuple[str, ...]:
    """Names of the tasks whose data are at hand, in the order of TASKS."""
    found = []
    for name in TASKS:
        try:
            load(name)
        except TaskError:
            continue
        found.append(name)
    return tuple(found)


def hold_out(
    files: Sequence[LabelledFile], test: str, valid: str, name: str
) -> list[tuple[LabelledFile, ...]]:
    """Training, validation and test files: one group each to validate and test, the rest to train.

    Raises TaskError if there is no such group.
    """
    groups = sorted({file.group for file in files})
    for group in (test, valid):
        if group not in groups:
            raise TaskError(f"There is no '{group}' in '{name}'; there are {', '.join(groups)}.")
    if test == valid:
        raise TaskError(f"'{test}' cannot be both the test and the validation part of '{name}'.")
    split = {valid: "valid", test: "test"}
    return [
        tuple(file for file in files if split.get(file.group, "train") == part) for part in SPLITS
    ]


def read_manifest(table: Path, name: str, title: str, about: str = "") -> Task:
    """A task from a CSV file with the columns path, label, split and group.

    Paths are relative to the table. Classes are in the order of their first row.
    """
    if not table.is_file():
        raise TaskError(f"The data of '{name}' are not in {table.parent.parent}.")
    with table.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"path", "label", "split", "group"} <= set(rows[0]):
        raise TaskError(f"{table.name} needs rows with path, label, split and group.")
    labels = tuple(dict.fromkeys(row["label"] for row in rows))
    parts: dict[str, list[LabelledFile]] = {split: [] for split in SPLITS}
    for row in rows:
        path = table.parent / row["path"]
        if row["split"] not in parts:
            raise TaskError(f"'{row['split']}' of {row['path']} is none of {', '.join(SPLITS)}.")
        if not path.is_file():
            raise TaskError(f"The clip {row['path']} of '{name}' is missing.")
        parts[row["split"]].append(LabelledFile(path, labels.index(row["label"]), row["group"]))
    return Task(name, title, labels, *(tuple(parts[split]) for split in SPLITS), about=about)


def esc10(folder: Path) -> tuple[tuple[str, ...], list[LabelledFile]]:
    """ESC-10: 10 classes of 40 clips of 5 s, one folder a class, fold = first number of a name.

    Source: Piczak 2015, "ESC: Dataset for Environmental Sound Classification".
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    labels = tuple(path.name.partition(" - ")[2].lower() for path in classes)
    return labels, [
        LabelledFile(path, label, path.name.partition("-")[0])
        for label, directory in enumerate(classes)
        for path in sorted(directory.glob("*.ogg"))
    ]


def fsdd(folder: Path) -> tuple[tuple[str, ...], list[LabelledFile]]:
    """Free Spoken Digit Dataset: `digit_speaker_take.wav`, group = speaker."""
    files = []
    for path in sorted(folder.glob("*_*_*.wav")):
        digit, speaker, _ = path.stem.split("_")
        files.append(LabelledFile(path, int(digit), speaker))
    return tuple("zero one two three four five six seven eight nine".split()), files


TASKS: dict[str, Embedded | Layout] = {
    "instruments": Embedded(
        "Instrument families",
        "Notes rendered from sampled instruments; validated on instruments and tested on a "
        "soundfont that training never heard.",
    ),
    "tones": Embedded(
        "Mandarin tones",
        "Syllables spoken by one woman; validated and tested on syllables that training never "
        "heard, not on other speakers.",
    ),
    "initials": Embedded(
        "Mandarin initials",
        "The first consonant of a syllable spoken by one woman; validated and tested on syllables "
        "that training never heard, not on other speakers.",
    ),
    "esc10": Layout(
        "ESC-10, environmental sounds",
        "Field recordings; takes of one recording stay in one fold, and fold 5 is tested.",
        folder="esc10",
        read=esc10,
        test="5",
        valid="4",
    ),
    "digits": Layout(
        "Free Spoken Digit Dataset",
        "English digits; tested on a speaker that training never heard.",
        folder="fsdd",
        read=fsdd,
        test="yweweler",
        valid="theo",
    ),
}


class MelCache:
    """Log-mels of files as they are on disk; beyond `limit` bytes the longest unused are dropped.

    The tensors are shared by all callers: never write into one.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.bytes = 0
        self._mels: OrderedDict[tuple, Tensor] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._mels)

    def log_mel(self, path: Path, max_seconds: float) -> Tensor:
        """Raises AudioError if the file cannot be read."""
        try:
            state = path.stat()
            key = (path.absolute(), state.st_mtime_ns, state.st_size, max_seconds)
        except OSError:
            key = None  # `audio.load` says what is wrong
        with self._lock:
            if key in self._mels:
                self._mels.move_to_end(key)
                return self._mels[key]
        mel = audio.log_mel(audio.load(path, max_seconds).waveform)
        with self._lock:
            if key is not None and key not in self._mels:
                self._mels[key] = mel
                self.bytes += mel.nbytes
            while self.bytes > self.limit:
                self.bytes -= self._mels.popitem(last=False)[1].nbytes
        return mel


CACHE = MelCache(CACHE_BYTES)


def log_mels(files: Sequence[LabelledFile], max_seconds: float = 10.0) -> list[tuple[Tensor, int]]:
    """Decode files in parallel -> [(log-mel (frames, 128), label)], ready for `training.fit`.

    What was decoded before comes from CACHE. Raises TaskError if a clip cannot be read.
    """

    def one(file: LabelledFile) -> tuple[Tensor, int]:
        try:
            return CACHE.log_mel(file.path, max_seconds), file.label
        except audio.AudioError as error:
            raise TaskError(f"{file.path.parent.name}/{file.path.name}: {error}") from None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, files))
