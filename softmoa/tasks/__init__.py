"""Labelled sounds: which files, which classes, which split.

`instruments`, `tones` and `initials` are embedded (assets/tasks). Public benchmarks are read from
the folder that SOFTMOA_DATA names, in their official layouts, with their official splits or folds:

    load("instruments")                            the fixed split of its manifest
    load("esc10", test="3", valid="2")             two folds held out, the others to train on
    few_shot(task, 5, seed=0)                      five training clips of each class
    log_mels(task.train)                           [(log-mel, label)], ready for training

One's own sounds, a folder or a zip, are opened by `own.opened`; some benchmarks can be fetched from
the Hub, by `from_hub.fetch`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from softmoa import ASSETS
from softmoa.tasks import layouts
from softmoa.tasks.layouts import Reader, table
from softmoa.tasks.mels import CACHE, MelCache, log_mels
from softmoa.tasks.task import (
    SPLITS,
    LabelledFile,
    Row,
    Task,
    TaskError,
    clip_name,
    digest,
    few_shot,
    in_order,
    task_of,
)

__all__ = (
    "CACHE", "EMBEDDED", "SPLITS", "TASKS", "Benchmark", "Embedded", "LabelledFile", "MelCache",
    "Row", "Task", "TaskError", "available", "clip_name", "data_root", "digest", "few_shot", "load",
    "log_mels", "read_manifest", "task_of",
)  # fmt: skip

EMBEDDED = ASSETS / "tasks"


@dataclass(frozen=True)
class Embedded:
    """A task in assets/tasks, with a manifest that fixes its split."""

    title: str
    about: str


@dataclass(frozen=True)
class Benchmark:
    """A public dataset in a folder of SOFTMOA_DATA.

    places: folder and reader, the first folder that is there counts. test: the group that is held
    out to test, "" where the official split is fixed.
    """

    title: str
    about: str
    places: tuple[tuple[str, Reader], ...]
    test: str = ""


TASKS: dict[str, Embedded | Benchmark] = {
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
    "esc10": Benchmark(
        "ESC-10, environmental sounds",
        "Field recordings; takes of one recording stay in one fold, and one fold is tested.",
        (("esc10", layouts.esc10_by_class), ("ESC-50-master", layouts.esc10_of_esc50)),
        test="5",
    ),
    "esc50": Benchmark(
        "ESC-50, environmental sounds",
        "Field recordings; takes of one recording stay in one fold, and one fold is tested.",
        (("ESC-50-master", layouts.esc50),),
        test="5",
    ),
    "urbansound8k": Benchmark(
        "UrbanSound8K, city sounds",
        "Field recordings; one of ten folds is tested, another of them validates.",
        (("UrbanSound8K", layouts.urbansound8k),),
        test="10",
    ),
    "speech-commands": Benchmark(
        "Speech Commands, version 2",
        "35 English words; the official lists, tested on speakers that training never heard.",
        (("SpeechCommands", layouts.speech_commands),),
    ),
    "fluent-speech-commands": Benchmark(
        "Fluent Speech Commands",
        "31 intents of English commands; tested on speakers that training never heard.",
        (("fluent_speech_commands_dataset", layouts.fluent_speech_commands),),
    ),
    "digits": Benchmark(
        "Free Spoken Digit Dataset",
        "English digits; tested on a speaker that training never heard.",
        (("fsdd", layouts.fsdd), ("free-spoken-digit-dataset", layouts.fsdd)),
        test="yweweler",
    ),
}


def data_root() -> Path:
    """The folder of datasets; raises TaskError if it is not there.

    Where SOFTMOA_DATA does not say, a folder `shared/data` beside the repository.
    """
    said = os.environ.get("SOFTMOA_DATA")
    root = Path(said) if said else Path(__file__).parents[3] / "shared" / "data"
    if not root.is_dir():
        where = f"There is no folder {said}" if said else "No folder of datasets is named"
        raise TaskError(f"{where}: set SOFTMOA_DATA to the folder of your datasets.")
    return root


def load(name: str, test: str = "", valid: str = "") -> Task:
    """A task by its name in TASKS; raises TaskError if its data are not there.

    test, valid: the group (fold, speaker) held out for each; by default the task's own, and to
    validate the group before the one that is tested. All other groups are trained on. A task with
    one fixed split takes neither.
    """
    source = TASKS.get(name)
    if source is None:
        raise TaskError(f"There is no task '{name}'; there are {', '.join(TASKS)}.")
    fixed = isinstance(source, Embedded) or not source.test
    if fixed and (test or valid):
        raise TaskError(f"The split of '{name}' is fixed and cannot be changed.")
    if isinstance(source, Embedded):
        return read_manifest(EMBEDDED / name / "manifest.csv", name, source.title, source.about)
    root = data_root()
    places = [(root / folder, read) for folder, read in source.places if (root / folder).is_dir()]
    if not places:
        from softmoa.tasks.from_hub import DATASETS  # which needs this module

        advice = f"; `python -m softmoa fetch {name}` gets them" if name in DATASETS else ""
        raise TaskError(f"The data of '{name}' are not in {root}{advice}.")
    folder, read = places[0]
    labels, rows = read(folder)
    if not rows:
        raise TaskError(f"There are no clips of '{name}' in {folder}.")
    if lost := [row.path for row in rows if not row.path.is_file()]:
        raise TaskError(f"{len(lost)} clips of '{name}' are missing, such as {lost[0]}.")
    if not fixed:
        rows = hold_out(rows, test or source.test, valid, name)
    return task_of(name, source.title, labels, rows, source.about)


def parts(name: str) -> tuple[str, ...]:
    """The folds or speakers of a task that can be tested in turn, its own test first, then in order
    from there; none where the split is fixed. Raises TaskError as `load` does."""
    task, source = load(name), TASKS[name]
    if isinstance(source, Embedded) or not source.test:
        return ()
    first = task.groups.index(source.test)
    return task.groups[first:] + task.groups[:first]


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


def hold_out(rows: Sequence[Row], test: str, valid: str, name: str) -> list[Row]:
    """The rows with their splits: one group each to validate and to test, the others to train.

    Without `valid` the group before `test` validates, the last one for the first.
    Raises TaskError if there is no such group.
    """
    groups = sorted({row.group for row in rows}, key=in_order)
    for group in (test, valid or test):
        if group not in groups:
            raise TaskError(f"There is no '{group}' in '{name}'; there are {', '.join(groups)}.")
    valid = valid or groups[groups.index(test) - 1]
    if test == valid:
        raise TaskError(f"'{test}' cannot be both the test and the validation part of '{name}'.")
    split = {valid: "valid", test: "test"}
    return [replace(row, split=split.get(row.group, "train")) for row in rows]


def read_manifest(path: Path, name: str, title: str, about: str = "") -> Task:
    """A task from a CSV file with the columns path, label, split and group.

    Paths are relative to the table. Classes are in the order of their first row.
    """
    if not path.is_file():
        raise TaskError(f"The data of '{name}' are not in {path.parent.parent}.")
    rows = [
        Row(path.parent / r["path"], r["label"], r["split"], r["group"])
        for r in table(path, "path", "label", "split", "group")
    ]
    if not rows:
        raise TaskError(f"{path.name} needs rows with path, label, split and group.")
    for row in rows:
        file = row.path.relative_to(path.parent)
        if row.split not in SPLITS:
            raise TaskError(f"'{row.split}' of {file} is none of {', '.join(SPLITS)}.")
        if not row.path.is_file():
            raise TaskError(f"The clip {file} of '{name}' is missing.")
    return task_of(name, title, dict.fromkeys(row.label for row in rows), rows, about)
