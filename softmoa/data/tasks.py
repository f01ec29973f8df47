"""Labelled sounds: which files, which classes, which split.

`instruments`, `tones`, `initials` and `words` are embedded (assets/tasks). Public benchmarks are
read from the folder that SOFTMOA_DATA names, in their official layouts, with their official splits
or folds:

    load("instruments")                            the fixed split of its manifest
    load("esc10", test="3", valid="2")             two folds held out, the others to train on
    few_shot(task, 5, seed=0)                      five training clips of each class
    log_mels(task.train)                           [(log-mel, label)], ready for training

One's own sounds, a folder or a zip, are opened by `own.opened`; some benchmarks can be fetched from
the Hub, by `from_hub.fetch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from softmoa import ASSETS
from softmoa.data import benchmarks as layouts
from softmoa.data.benchmarks import ESC50, URBANSOUND8K, Reader, data_root
from softmoa.data.mels import CACHE, MelCache, log_mels
from softmoa.data.task import (
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
    "CACHE", "EMBEDDED", "SPLITS", "TASKS", "LabelledFile", "MelCache", "Row", "Source", "Task",
    "TaskError", "available", "clip_name", "data_root", "digest", "few_shot", "load",
    "log_mels", "task_of",
)  # fmt: skip

EMBEDDED = ASSETS / "tasks"
FIELD = "Field recordings; takes of one recording stay in one fold, and one fold is tested."
SYLLABLES = "that training never heard, not on other speakers."


@dataclass(frozen=True)
class Source:
    """Where a task comes from: assets/tasks, with a manifest that fixes its split, or `places`.

    places: folders of SOFTMOA_DATA and their reader, the first folder that is there counts.
    classes: how many the dataset has; of some a part may be at hand. test: the group that is held
    out to test, "" where the split is fixed. folds: into how many its groups can be dealt besides.
    """

    title: str
    about: str
    places: tuple[tuple[str, Reader], ...] = ()
    classes: int = 0
    test: str = ""
    folds: int = 0


TASKS = {
    "instruments": Source(
        "Instrument families",
        "Notes rendered from sampled instruments; validated on instruments and tested on a "
        "soundfont that training never heard.",
    ),
    "tones": Source(
        "Mandarin tones",
        f"Syllables spoken by one woman; validated and tested on syllables {SYLLABLES} A ceiling: "
        "a linear probe on all clips is right nearly always, so that methods differ on few shots "
        "at most.",
    ),
    "initials": Source(
        "Mandarin initials",
        "The first consonant of a syllable spoken by one woman; validated and tested on syllables "
        f"{SYLLABLES} By folds every clip is tested once.",
        folds=5,
    ),
    "words": Source(
        "Nine words of Speech Commands",
        "English words of many speakers; validated and tested on speakers that training never "
        "heard.",
    ),
    "esc10": Source(
        "ESC-10, environmental sounds",
        FIELD,
        (("esc10", layouts.esc10_by_class), (ESC50.folder, layouts.esc10_of_esc50)),
        10,
        test="5",
    ),
    "esc50": Source(
        "ESC-50, environmental sounds",
        FIELD,
        ((ESC50.folder, ESC50.read),),
        50,
        test="5",
    ),
    "urbansound8k": Source(
        "UrbanSound8K, city sounds",
        "Field recordings; one of ten folds is tested, another of them validates.",
        ((URBANSOUND8K.folder, URBANSOUND8K.read),),
        10,
        test="10",
    ),
    "speech-commands": Source(
        "Speech Commands, version 2",
        "English words; the official lists, tested on speakers that training never heard.",
        (("SpeechCommands", layouts.speech_commands),),
        35,
    ),
    "fluent-speech-commands": Source(
        "Fluent Speech Commands",
        "Intents of English commands; tested on speakers that training never heard.",
        (("fluent_speech_commands_dataset", layouts.fluent_speech_commands),),
        31,
    ),
    "digits": Source(
        "Free Spoken Digit Dataset",
        "English digits; tested on a speaker that training never heard. A shift of speakers: what "
        "is learned of a few voices may be worth less on another than the probe.",
        (("fsdd", layouts.fsdd), ("free-spoken-digit-dataset", layouts.fsdd)),
        10,
        test="yweweler",
    ),
}


def load(name: str, test: str = "", valid: str = "") -> Task:
    """A task by its name in TASKS; raises TaskError if its data are not there.

    test, valid: the group (fold, speaker) held out for each; by default the task's own, and to
    validate the group before the one that is tested. All other groups are trained on. A task with
    one fixed split takes neither.
    """
    source = TASKS.get(name)
    if source is None:
        raise TaskError(f"There is no task '{name}'; there are {', '.join(TASKS)}.")
    if not (source.test or (source.folds and test)) and (test or valid):
        raise TaskError(f"The split of '{name}' is fixed and cannot be changed.")
    root = data_root() if source.places else EMBEDDED
    places = source.places or ((name, layouts.embedded),)
    found = [(root / folder, read) for folder, read in places if (root / folder).is_dir()]
    if not found:
        advice = f"; `python -m softmoa fetch {name}` gets them" if name in layouts.ON_HUB else ""
        raise TaskError(f"The data of '{name}' are not in {root}{advice}.")
    folder, read = found[0]
    labels, rows = read(folder)
    if not rows:
        raise TaskError(f"There are no clips of '{name}' in {folder}.")
    if lost := [row.path for row in rows if not row.path.is_file()]:
        raise TaskError(f"{len(lost)} clips of '{name}' are missing, such as {lost[0]}.")
    if source.test:
        rows = hold_out(rows, [row.group for row in rows], test or source.test, valid, name)
    elif test:
        rows = sorted(rows, key=lambda row: row.path)
        rows = hold_out(rows, _dealt(rows, labels, source.folds), test, valid, name)
    about = source.about
    if len(labels) < source.classes:
        about += f" Here are {len(labels)} of its {source.classes} classes."
    return task_of(name, source.title, labels, rows, about)


def folds(name: str) -> tuple[str, ...]:
    """The folds or speakers of a task that can be tested in turn, its own test first, then in order
    from there; none where the split is fixed. Raises TaskError as `load` does."""
    task, source = load(name), TASKS[name]
    if not source.test:
        return tuple(str(fold + 1) for fold in range(source.folds))
    first = task.groups.index(source.test)
    return task.groups[first:] + task.groups[:first]


def _dealt(rows: Sequence[Row], labels: Sequence[str], folds: int) -> list[str]:
    """The fold of every row: their groups dealt into folds of like classes."""
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import

    classes, fold_of = [labels.index(row.label) for row in rows], [""] * len(rows)
    parts = StratifiedGroupKFold(folds).split(rows, classes, [row.group for row in rows])
    for fold, (_, part) in enumerate(parts, 1):
        for k in part:
            fold_of[k] = str(fold)
    return fold_of


def available() -> dict[str, Task]:
    """The tasks whose data are at hand, in the order of TASKS."""
    found = {}
    for name in TASKS:
        with suppress(TaskError):
            found[name] = load(name)
    return found


def hold_out(
    rows: Sequence[Row], groups: Sequence[str], test: str, valid: str, name: str
) -> list[Row]:
    """The rows with their splits: one group each to validate and to test, the others to train.

    groups: of every row. Without `valid` the group before `test` validates, the last one for the
    first. Raises TaskError if there is no such group.
    """
    known = sorted(set(groups), key=in_order)
    for group in (test, valid or test):
        if group not in known:
            raise TaskError(f"There is no '{group}' in '{name}'; there are {', '.join(known)}.")
    valid = valid or known[known.index(test) - 1]
    if test == valid:
        raise TaskError(f"'{test}' cannot be both the test and the validation part of '{name}'.")
    split = {valid: "valid", test: "test"}
    placed = zip(rows, groups, strict=True)
    return [replace(row, split=split.get(group, "train")) for row, group in placed]
