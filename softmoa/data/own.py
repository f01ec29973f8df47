"""One's own labelled sounds as a Task: a folder per class, a zip of that, or a table beside them.

    birds/crow/1.wav, birds/owl/a.flac             classes are the folders' names
    birds/train/crow/1.wav, birds/test/owl/a.flac  the same with the splits given
    birds/clips.csv: path,label[,split][,group]    a table decides, paths are relative to it

Clips of one `group` (speaker, recording) stay in one split. All of this may also lie in a single
folder within the folder or zip. What is odd about the data comes back as remarks.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from softmoa.data import archive, audio, split
from softmoa.data.archive import ZipLimits
from softmoa.data.listing import listing
from softmoa.data.mels import CLIP_SECONDS
from softmoa.data.names import key, many
from softmoa.data.task import Row, Task, TaskError, task_of
from softmoa.data.values import to_cell

TABLE = "clips.csv"  # in the zips that are written here
FEW = 8  # clips of a class, below which a result hangs on single clips
LONGEST = 120  # letters of a label
UNEVEN = 3.0  # times as many clips of one class as of another


@dataclass(frozen=True)
class DataLimits:
    """How much may be read. The defaults are for one's own machine."""

    classes: int = 1_000
    clips: int = 200_000
    zip: ZipLimits = ZipLimits(files=250_000, file_mb=500, total_mb=50_000)


@dataclass(frozen=True)
class Remark:
    """Something odd about the data that does not forbid their use, in one sentence."""

    kind: Literal[
        "tiny", "unbalanced", "duplicate", "group", "unreadable", "ignored", "label", "sound"
    ]
    message: str


@dataclass(frozen=True)
class OwnData:
    """rows: every usable clip as it was given. task: the same with every clip in a split."""

    rows: tuple[Row, ...]
    task: Task
    remarks: tuple[Remark, ...] = ()


@contextmanager
def opened(path: Path, limits: DataLimits | None = None, seed: int = 0) -> Iterator[OwnData]:
    """A folder or a zip as a Task; what a zip unpacks to is there within the `with` only.

    Raises TaskError with one sentence if it cannot be used.
    """
    with listed(path, limits) as (rows, remarks):
        yield build(rows, remarks, name_of(path), seed)


@contextmanager
def listed(
    path: Path, limits: DataLimits | None = None, scratch: Path | None = None
) -> Iterator[tuple[list[Row], list[Remark]]]:
    """The clips of a folder or a zip, for which they need not suffice to train on.

    scratch: where a zip is unpacked. Raises TaskError with one sentence if there are no clips, or
    too many.
    """
    limits = limits or DataLimits()
    if path.is_dir():
        yield rows_of(path, limits)
        return
    if not path.is_file():
        raise TaskError(f"There is no folder or zip '{path}'.")
    with tempfile.TemporaryDirectory(prefix="softmoa-zip-", dir=scratch) as folder:
        unpacked = Path(folder) / "data"
        archive.unpack(path, unpacked, limits.zip)
        yield rows_of(unpacked, limits)


def name_of(path: Path) -> str:
    """Of the sounds in a folder or zip."""
    return path.resolve().name if path.is_dir() else path.stem


def rows_of(folder: Path, limits: DataLimits) -> tuple[list[Row], list[Remark]]:
    """Every clip of a folder that can be read, without copies, and remarks on the others."""
    found = listing(folder, limits.clips)
    rows, ignored = found.rows, [Remark("ignored", text) for text in found.remarks]
    if not rows:
        raise TaskError(
            "No sounds were found: put those of each class into a folder with its name."
        )
    rows, merged = _one_spelling(rows)
    _check(rows, limits)
    kept, remarks = without_unusable(rows)
    lost = {row.label for row in rows} - {row.label for row in kept}
    remarks += [Remark("unreadable", f"No sound of '{label}' is left.") for label in sorted(lost)]
    return kept, [*merged, *remarks, *ignored]


def build(rows: Sequence[Row], remarks: Sequence[Remark], name: str, seed: int = 0) -> OwnData:
    """The task of these rows, and what is odd about it. Raises TaskError if it cannot be split."""
    labels = sorted({row.label for row in rows})
    if len(labels) < 2:
        raise TaskError(f"{len(labels)} class{'es' * (not labels)} cannot be told apart; give two.")
    placed = split.assign(rows, seed)
    task = task_of(name, name, labels, placed, "Your own sounds.")
    return OwnData(tuple(rows), task, (*remarks, *_oddities(task, placed)))


def without_unusable(rows: Sequence[Row]) -> tuple[list[Row], list[Remark]]:
    """Leave out what cannot be read and what is, byte by byte, a copy of an earlier clip."""
    with ThreadPoolExecutor() as pool:
        examined = list(pool.map(_examined, (row.path for row in rows)))
    kept: dict[str, Row] = {}
    copies, contrary, damaged = 0, 0, []
    odd: dict[str, list[Row]] = defaultdict(list)
    for row, (fault, digest, notes) in zip(rows, examined, strict=True):
        if fault:
            damaged.append(f"{_short(row)}: {fault}")
        elif digest not in kept:
            kept[digest] = row
            for note in notes:
                odd[re.sub(r"[\d.]*\d", "…", note) if "silence" in note else note].append(row)
        else:
            copies += 1
            contrary += kept[digest].label != row.label
    if not kept:
        raise TaskError(f"None of the {len(rows)} sounds can be read, such as {damaged[0]}")
    remarks = []
    if damaged:
        said = f"Left out: {many(len(damaged), 'clip')}, not readable, such as {damaged[0]}"
        remarks.append(Remark("unreadable", said))
    if copies:
        said = f"Left out: {many(copies, 'clip')}, a copy of another"
        said += f"; {contrary} had another label than the one kept" * bool(contrary)
        remarks.append(Remark("duplicate", said + "."))
    remarks += [
        Remark("sound", f"{many(len(of), 'clip')} such as {_short(of[0])}: {note}")
        for note, of in odd.items()
    ]
    silent = Counter(row.label for row in odd[audio.SILENT_NOTE])
    totals = Counter(row.label for row in kept.values())
    remarks += [
        Remark("sound", f"Every clip of '{label}' is silent.")
        for label in sorted(silent)
        if silent[label] == totals[label]
    ]
    return list(kept.values()), remarks


def _short(row: Row) -> str:
    return f"{row.label}/{row.path.name}"


def write_zip(rows: Iterable[Row], out: Path) -> None:
    """A folder per class and `clips.csv`: what `opened` reads back into the same task."""
    text, taken = io.StringIO(), set()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("path", "label", "split", "group"))
    # Sounds hardly get smaller, and a zip of silence would look like a bomb.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, strict_timestamps=False) as zipped:
        for row in rows:
            path = free_path(f"{safe_name(row.label)}/{safe_name(row.path.name)}", taken)
            zipped.write(row.path, path)
            lines.writerow(map(to_cell, (path, row.label, row.split, row.group)))
        zipped.writestr(TABLE, text.getvalue())


def free_path(path: str, taken: set[str]) -> str:
    """`path`, or with a number before its suffix if it is taken; takes it."""
    stem, dot, suffix = path.rpartition(".")
    number, free = 1, path
    while free.lower() in taken:
        number += 1
        free = f"{stem}-{number}{dot}{suffix}"
    taken.add(free.lower())
    return free


def safe_name(text: str) -> str:
    """A name for a file or folder on every system."""
    name = "".join(c if c.isalnum() or c in " -_.()" else "_" for c in text).strip(" .")
    return name[-100:] or "_"


def _one_spelling(rows: Sequence[Row]) -> tuple[list[Row], list[Remark]]:
    """Labels that differ by case, blanks or underscores become the commonest of them."""
    spelled: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        spelled[key(row.label)][row.label] += 1
    remarks = [
        Remark("label", "Taken as one class: " + ", ".join(map(repr, sorted(names))) + ".")
        for names in spelled.values()
        if len(names) > 1
    ]
    best = {k: names.most_common(1)[0][0].strip() for k, names in spelled.items()}
    return [replace(row, label=best[key(row.label)]) for row in rows], remarks


def _check(rows: Sequence[Row], limits: DataLimits) -> None:
    """Raises TaskError if there are too many rows, or one whose name no text can hold."""
    classes = len({row.label for row in rows})
    for count, most, what in (
        (len(rows), limits.clips, "clips"),
        (classes, limits.classes, "classes"),
    ):
        if count > most:
            raise TaskError(f"There are {count} {what}; at most {most} can be used.")
    for row in rows:
        name = os.fsencode(row.path).decode(errors="replace")
        if name != str(row.path):
            lossy = "\ufffd" in name
            why = "is not in UTF-8; please rename it" if lossy else "needs PYTHONUTF8=1 to be set"
            raise TaskError(f"The name '{name}' {why}.")
    for label in {row.label for row in rows}:
        if not label.isprintable():
            raise TaskError(f"The label {label[:40]!r} holds characters that cannot be seen.")
        if len(label) > LONGEST:
            raise TaskError(f"The label '{label[:40]}…' has {len(label)} letters of {LONGEST}.")


def _examined(path: Path) -> tuple[str, str, tuple[str, ...]]:
    """Why a file cannot be read as sound, or ""; its digest; and what is odd about the sound."""
    try:
        clip = audio.load(path)
        notes = clip.notes
        if clip.seconds > CLIP_SECONDS:
            notes += (f"Of more than {CLIP_SECONDS:g} s, training hears the loudest.",)
        with path.open("rb") as data:
            return "", hashlib.file_digest(data, "sha256").hexdigest(), notes
    except audio.AudioError as error:
        return str(error), "", ()
    except OSError as error:
        return f"The file cannot be read ({error.strerror or error}).", "", ()


def _oddities(task: Task, rows: Sequence[Row]) -> Iterator[Remark]:
    totals = Counter(row.label for row in rows)
    few, many = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    if totals[few] < FEW or len(task.test) < 2 * FEW:
        yield Remark(
            "tiny",
            f"There are few clips: '{few}' has {totals[few]}, and with {len(task.test)} test "
            f"clips one more or less right is {100 / max(len(task.test), 1):.0f}%.",
        )
    if totals[many] >= UNEVEN * totals[few]:
        yield Remark(
            "unbalanced",
            f"'{many}' has {totals[many]} clips and '{few}' {totals[few]}: always naming the "
            f"commonest class would be right {task.majority:.0%} of the time.",
        )
    where: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        where[row.group].add(row.split)
    if apart := [group for group, splits in where.items() if group and len(splits) > 1]:
        splits = " and ".join(sorted(where[apart[0]]))
        yield Remark("group", f"The group '{apart[0]}' is in {splits} at once.")
    for name, counts in task.counts.items():
        if missing := [label for label, n in zip(task.labels, counts, strict=True) if not n]:
            yield Remark("tiny", f"There is no clip of '{missing[0]}' in the {name} split.")
