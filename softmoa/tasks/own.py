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
import shutil
import tempfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from softmoa import audio
from softmoa.tasks import archive, split
from softmoa.tasks.archive import ZipLimits
from softmoa.tasks.layouts import table
from softmoa.tasks.task import SPLITS, Row, Task, TaskError, task_of

SOUNDS = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au .m4a .mp4 .aac .webm .mka".split()
)
SPLIT_NAMES = {split: split for split in SPLITS} | {
    "training": "train", "validation": "valid", "val": "valid", "dev": "valid", "testing": "test",
}  # fmt: skip
TABLE = "clips.csv"  # in the zips that are written here
FEW = 8  # clips of a class, below which a result hangs on single clips
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

    kind: Literal["tiny", "unbalanced", "duplicate", "group", "unreadable", "ignored"]
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
    path: Path, limits: DataLimits | None = None
) -> Iterator[tuple[list[Row], list[Remark]]]:
    """The clips of a folder or a zip, for which they need not suffice to train on.

    Raises TaskError with one sentence if there are none, or too many.
    """
    limits = limits or DataLimits()
    if path.is_dir():
        yield rows_of(path, limits)
        return
    if not path.is_file():
        raise TaskError(f"There is no folder or zip '{path}'.")
    with tempfile.TemporaryDirectory(prefix="softmoa-zip-") as folder:
        yield rows_of_zip(path, Path(folder) / "data", limits)


def name_of(path: Path) -> str:
    """Of the sounds in a folder or zip."""
    return path.resolve().name if path.is_dir() else path.stem


def rows_of_zip(path: Path, target: Path, limits: DataLimits) -> tuple[list[Row], list[Remark]]:
    """Unpack a zip into the new folder `target` and list its clips.

    Raises TaskError, and leaves no `target`, if it cannot be used.
    """
    left_out = archive.unpack(path, target, limits.zip, SOUNDS | {".csv"})
    try:
        rows, remarks = rows_of(target, limits)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return rows, [*remarks, *_ignored(left_out)]


def rows_of(folder: Path, limits: DataLimits) -> tuple[list[Row], list[Remark]]:
    """Every clip of a folder that can be read, without copies, and remarks on the others."""
    folder = _within(folder)
    tables = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".csv" and _shown(p))
    rows, ignored = _from_table(tables, folder) if tables else _from_folders(folder)
    if not rows:
        raise TaskError(
            "No sounds were found: put those of each class into a folder with its name."
        )
    _check_size(rows, limits)
    _check_names(rows)
    kept, remarks = without_unusable(rows)
    lost = {row.label: "" for row in rows}.keys() - {row.label for row in kept}
    remarks += [Remark("unreadable", f"No sound of '{label}' is left.") for label in sorted(lost)]
    return kept, [*remarks, *ignored]


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
    for row, (fault, digest) in zip(rows, examined, strict=True):
        if fault:
            damaged.append(f"{row.label}/{row.path.name}: {fault}")
        elif digest not in kept:
            kept[digest] = row
        else:
            copies += 1
            contrary += kept[digest].label != row.label
    if not kept:
        raise TaskError(f"None of the {len(rows)} sounds can be read, such as {damaged[0]}")
    remarks = []
    if damaged:
        remarks.append(
            Remark("unreadable", f"{_left_out(len(damaged))}, not readable: {damaged[0]}")
        )
    if copies:
        text = f"{_left_out(copies)}, a copy of another clip"
        text += f"; {contrary} had another label than the one kept." if contrary else "."
        remarks.append(Remark("duplicate", text))
    return list(kept.values()), remarks


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
            lines.writerow((path, row.label, row.split, row.group))
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


def _within(folder: Path) -> Path:
    """The folder, or the only one in it where nothing lies beside that."""
    inside = [path for path in folder.iterdir() if _shown(path)]
    alone = len(inside) == 1 and inside[0].is_dir()
    if alone and any(p.is_dir() or p.suffix.lower() == ".csv" for p in inside[0].iterdir()):
        return inside[0]
    return folder


def _from_folders(folder: Path) -> tuple[list[Row], list[Remark]]:
    """Rows, and remarks on what is no sound, on folders without any, and on sounds beside them."""
    tops = sorted(path for path in folder.iterdir() if path.is_dir() and _shown(path))
    by_split = bool(tops) and all(path.name.lower() in SPLIT_NAMES for path in tops)
    rows, ignored, empty = [], 0, []
    beside = [p for place in (folder, *(tops if by_split else ())) for p in place.iterdir()]
    loose = sum(p.suffix.lower() in SOUNDS and p.is_file() and _shown(p) for p in beside)
    for top in tops:
        name = SPLIT_NAMES[top.name.lower()] if by_split else ""
        inside = sorted(p for p in top.iterdir() if p.is_dir() and _shown(p))
        for place in inside if by_split else [top]:
            files = _files(place)
            sounds = [path for path in files if path.suffix.lower() in SOUNDS]
            rows += [Row(path, _label(place.name), name) for path in sounds]
            ignored += len(files) - len(sounds)
            if not sounds:
                text = f"The folder '{place.relative_to(folder)}' holds no sound."
                empty.append(Remark("ignored", text))
    return rows, [*_ignored(ignored), *empty, *_not_used(loose, "in no class folder")]


def _from_table(tables: Sequence[Path], folder: Path) -> tuple[list[Row], list[Remark]]:
    """Rows of the one table, and a remark on sounds that it does not name; raises TaskError if a
    path leaves the folder or is not there."""
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise TaskError(f"There are {len(tables)} tables ({names}); keep one, with path and label.")
    rows = []
    for r in table(tables[0], "path", "label"):
        if not any(text and text.strip() for text in r.values() if not isinstance(text, list)):
            continue  # as a spreadsheet leaves them at the end
        relative, name = Path(r["path"].strip()), (r.get("split") or "").strip().lower()
        path = _as_stored(folder / relative)
        if relative.is_absolute() or ".." in relative.parts or "\\" in r["path"]:
            raise TaskError(f"The path '{r['path']}' in {tables[0].name} leads elsewhere.")
        if not path.is_file():
            raise TaskError(f"The clip '{r['path']}' of {tables[0].name} is missing.")
        if name and name not in SPLIT_NAMES:
            raise TaskError(f"'{name}' of {relative} is none of {', '.join(SPLITS)}.")
        if not r["label"].strip():
            raise TaskError(f"The clip '{r['path']}' of {tables[0].name} has no label.")
        group = (r.get("group") or "").strip()
        rows.append(Row(path, _label(r["label"]), SPLIT_NAMES.get(name, ""), group))
    listed = {row.path for row in rows}
    unlisted = [p for p in _files(folder) if p.suffix.lower() in SOUNDS and p not in listed]
    return rows, _not_used(len(unlisted), f"beside those that {tables[0].name} names")


def _as_stored(path: Path) -> Path:
    """The path with its accents as the disk has them: macOS may write them as letters of their
    own."""
    forms = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((form for form in (path, *forms) if form.is_file()), path)


def _files(folder: Path) -> list[Path]:
    """All files below a folder, in order, through links too, but for hidden ones and those in
    hidden folders."""
    found, been = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [name for name in folders if _shown(Path(name)) and real not in been]
        if real not in been:  # as a link to a folder above itself is
            paths = (Path(place, name) for name in names if _shown(Path(name)))
            found += [path for path in paths if path.is_file()]
        been.add(real)
    return sorted(found)


def _label(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _shown(path: Path) -> bool:
    return not path.name.startswith(".") and path.name != "__MACOSX"


def _check_size(rows: Sequence[Row], limits: DataLimits) -> None:
    if len(rows) > limits.clips:
        raise TaskError(f"There are {len(rows)} clips; at most {limits.clips} can be used.")
    classes = len({row.label for row in rows})
    if classes > limits.classes:
        raise TaskError(f"There are {classes} classes; at most {limits.classes} can be used.")


def _check_names(rows: Sequence[Row]) -> None:
    for row in rows:
        try:
            str(row.path).encode()
        except UnicodeEncodeError:
            name = os.fsencode(row.path).decode(errors="replace")
            raise TaskError(f"The name '{name}' is not in UTF-8; please rename it.") from None


def _examined(path: Path) -> tuple[str, str]:
    """Why a file, or its beginning as sound, cannot be read, and ""; or "" and its digest."""
    try:
        audio.load(path, 0.2)
        with path.open("rb") as data:
            return "", hashlib.file_digest(data, "sha256").hexdigest()
    except audio.AudioError as error:
        return str(error), ""
    except OSError as error:
        return f"The file cannot be read ({error.strerror or error}).", ""


def _left_out(count: int) -> str:
    return f"{count} clip was left out" if count == 1 else f"{count} clips were left out"


def _ignored(count: int) -> list[Remark]:
    if not count:
        return []
    words = "1 file is no sound and was" if count == 1 else f"{count} files are no sounds and were"
    return [Remark("ignored", f"{words} left out.")]


def _not_used(count: int, where: str) -> list[Remark]:
    if not count:
        return []
    words = f"1 sound lies {where} and was"
    if count > 1:
        words = f"{count} sounds lie {where} and were"
    return [Remark("ignored", f"{words} left out.")]


def _oddities(task: Task, rows: Sequence[Row]) -> Iterator[Remark]:
    totals = Counter(row.label for row in rows)
    few, many = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    if totals[few] < FEW or len(task.test) < 2 * FEW:
        yield Remark(
            "tiny",
            f"There are few clips: '{few}' has {totals[few]}, and with {len(task.test)} test "
            f"clips one more or less right is {100 / max(len(task.test), 1):.0f} %.",
        )
    if totals[many] >= UNEVEN * totals[few]:
        yield Remark(
            "unbalanced",
            f"'{many}' has {totals[many]} clips and '{few}' {totals[few]}: always naming the "
            f"commonest class would be right {task.majority:.0%} of the time.",
        )
    where: dict[str, set[str]] = {}
    for row in rows:
        if row.group:
            where.setdefault(row.group, set()).add(row.split)
    for group, splits in where.items():
        if len(splits) > 1:
            yield Remark(
                "group", f"The group '{group}' is in {' and '.join(sorted(splits))} at once."
            )
            break
    for name, counts in task.counts.items():
        if missing := [label for label, n in zip(task.labels, counts, strict=True) if not n]:
            yield Remark("tiny", f"There is no clip of '{missing[0]}' in the {name} split.")
