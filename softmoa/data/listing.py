"""Which sounds a folder holds, and what class, split and group each is of: by folders or by tables.

The rules are three tables: names of splits (`names.SPLIT_OF`), names of sounds
(`decode.SUFFIXES`), and names of columns, below. A path in a table means the sound of the folder
that ends as it does, so tables of other machines and formats are read; it never leaves the folder.
"""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from softmoa.data.audio import load
from softmoa.data.decode import SUFFIXES, AudioError, could_be_sound
from softmoa.data.names import decoded, divided, fold_of, many, shown, split_of, words
from softmoa.data.task import SPLITS, Row, TaskError
from softmoa.data.values import of_cell

TABLES = frozenset((".csv", ".tsv", ".tab", ".txt", ".jsonl"))
COLUMNS = {
    "path": "path file filename file_name filepath file_path fname relative_path audio audio_path "
    "audio_file audio_filename audio_filepath wav wav_path wav_file wavfile sound sound_file clip "
    "clip_path clip_name slice_file_name name uri url location id",
    "label": "label_name class_name category_name target_name label labels class classname "
    "category species common_name sound_class sound emotion genre word keyword intent instrument "
    "tag tags target primary_label annotation y class_id label_id target_id",
    "split": "split set subset partition usage phase dataset_split data_split split_name",
    "fold": "fold folds kfold k_fold cv_fold fold_id fold_number",
    "group": "group groups group_id speaker speaker_id spk subject recording recording_id session "
    "author recordist client_id singer person source src_file",
}
UNUSED = "_background_noise_"  # beside the words of Speech Commands


@dataclass(frozen=True)
class Listing:
    """rows, and what was not used and why, one sentence each. loose: sounds without a class."""

    rows: list[Row]
    remarks: list[str]
    loose: tuple[Row, ...] = ()


def listing(folder: Path, most: int) -> Listing:
    """Raises TaskError if a table cannot be followed, or has more than `most` rows."""
    files = list(_files(folder))
    sounds = [path for path in files if could_be_sound(path)]
    found, by_folder = _Sounds(folder, sounds), _by_folders(folder, sounds)
    texts = [path for path in files if path.suffix.lower() in TABLES]
    tables = [
        table
        for path in texts
        if (table := _read(path, most, found)) and _usable(table, by_folder.rows)
    ]
    used = {*sounds, *(table.path for table in tables)}
    rest = [path for path in files if path not in used]
    stray = [path.name for path in rest if path.suffix.lower() in TABLES - {".txt"}]
    others = [path for path in rest if path.name not in stray]
    remarks = []
    if others:
        kinds = _some(sorted({path.suffix.lower() or path.name for path in others}), 4)
        remarks.append(f"Left out: {many(len(others), 'file')}, no sound ({kinds}).")
    if stray:
        remarks.append(
            f"Not used, since no clip gets a label or a split there: {', '.join(stray[:5])}."
        )
    if tables:
        listed = _by_tables(tables, found, by_folder)
        return Listing(listed.rows, listed.remarks + remarks)
    if not by_folder.rows and (said := [row for row in by_folder.loose if row.split or row.group]):
        kind = "splits" if said[0].split else "folds"
        raise TaskError(f"The folders are {kind}; put a folder for each class into them.")
    return Listing(by_folder.rows, remarks + by_folder.remarks)


def _some(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def clean(text: str) -> str:
    """A label in one form of its accents, without blanks around it."""
    return unicodedata.normalize("NFC", text.strip())


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, in order, through links too, but for hidden ones and those in
    hidden folders."""
    been = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if shown(name) and real not in been)
        if real not in been:  # as a link to a folder above itself is
            paths = (Path(place, name) for name in sorted(names) if shown(name))
            yield from (path for path in paths if path.is_file())
        been.add(real)


# By folders --------------------------------------------------------------------------------------


def _by_folders(folder: Path, sounds: Sequence[Path]) -> Listing:
    """Folder after folder is a split, a fold, a wrapper, or else a class."""
    items = [(path.relative_to(folder).parts[:-1], Row(path, "")) for path in sounds]

    def usable(top: str) -> bool:
        """Whether it holds a sound that can be heard, and is no background noise."""
        inside = (row.path for parts, row in items if parts[:1] == (top,))
        return top.lower() != UNUSED and any(map(_can_be_heard, inside))

    remarks, depth = [], 0
    while True:
        inside: dict[str, set[str]] = defaultdict(set)
        for parts, _ in items:
            if parts:
                inside[parts[0]].update(parts[1:2])
        folds = {top: fold for top in inside if (fold := fold_of(top))}
        splits = {top: split for top in inside.keys() - folds if (split := split_of(top))}
        alike = {} if splits else divided(inside)
        if alike and set.intersection(*(inside[top] for top in alike)):
            splits = alike  # of the same classes
        classes = set().union(*(inside[top] for top in splits))
        others = inside.keys() - splits.keys()
        # What the folders that are no classes say of their clips, and which are not used.
        if len(set(splits.values())) > 1 or (classes and others <= classes):
            says = {top: {"split": split} for top, split in splits.items()}
            beside, names = others - classes, " and ".join(sorted(splits))
        elif len(folds) > 1:
            rest = {"split": "train"} if splits else {}
            says = {top: {"group": fold, **rest} for top, fold in folds.items()}
            says |= {top: {"split": split} for top, split in splits.items()}
            beside, names = inside.keys() - says.keys(), "folds"
        elif (
            any(inside.values())
            and len(real := list(islice(filter(usable, inside), 2))) == 1
            and inside[real[0]]
        ):
            says, beside, names = {real[0]: {}}, inside.keys() - real, real[0]
        else:
            break
        left: list[tuple[tuple[str, ...], Row]] = []
        for parts, row in items:
            if not parts:
                left.append((parts, row))
            elif parts[0] in says:
                left.append((parts[1:], replace(row, **says[parts[0]])))
            elif parts[0] not in beside:  # a class, of which a split holds the rest
                left.append((parts, replace(row, split="train")))
        items = left
        remarks += [f"The folder '{top}' beside {names} was not used." for top in sorted(beside)]
        depth += 1
    below = {parts[1] for parts, _ in items if len(parts) > 1}
    inner, in_folds = ({of(name) for name in below} - {""} for of in (split_of, fold_of))
    rows, loose, noise = [], [], 0
    for parts, row in items:
        label, within, *_ = *parts, "", ""
        if not parts:
            loose.append(row)
        elif label.lower() == UNUSED:
            noise += 1
        else:
            split = row.split or (split_of(within) if len(inner) > 1 else "")
            group = row.group or (fold_of(within) if len(in_folds) > 1 else "")
            label = unicodedata.normalize("NFC", label)
            rows.append(replace(row, label=label, split=split, group=group))
    if noise:
        remarks.append(f"Left out: {noise} sounds of background noise.")
    if loose:
        remarks.append(f"Left out: {many(len(loose), 'sound')}, in no class folder.")
    return Listing(rows, [*_soundless(folder, sounds, depth + 1), *remarks], tuple(loose))


def _can_be_heard(path: Path) -> bool:
    try:
        return bool(load(path, 1))
    except AudioError:
        return False


def _soundless(folder: Path, sounds: Sequence[Path], depth: int) -> Iterator[str]:
    """A class that would vanish otherwise."""
    heard = {folder, *(parent for path in sounds for parent in path.parents)}
    for level in range(1, depth + 1):
        for path in sorted(folder.glob("/".join("*" * level))):
            vanishes = path.is_dir() and path not in heard and path.parent in heard
            if vanishes and shown(path.name):
                yield f"The folder '{path.relative_to(folder)}' holds no sound."


# By tables ---------------------------------------------------------------------------------------


class _Sounds:
    """Finds the sound that a cell means."""

    def __init__(self, folder: Path, sounds: Sequence[Path]) -> None:
        self.folder = folder
        self.exact = {self._parts(path.relative_to(folder).as_posix()): path for path in sounds}
        self.by_stem: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for parts in self.exact:
            self.by_stem[_stem(parts[-1])].append(parts)

    @staticmethod
    def _parts(text: str) -> tuple[str, ...]:
        return tuple(p for p in clean(text).replace("\\", "/").split("/") if p not in ("", "."))

    def find(self, cell: str, place: Path) -> Path | None:
        """The sound of a cell of a table in `place`, whatever its suffix and the folders above.

        Raises TaskError if the cell leads out of the folder.
        """
        parts, here = self._parts(cell), self._parts(place.relative_to(self.folder).as_posix())
        if ".." in parts:
            parts = self._parts(posixpath.normpath("/".join((*here, *parts))))
            if ".." in parts:
                raise TaskError(f"The path '{cell[:80]}' in a table leads elsewhere.")
        for exact in ((*here, *parts), parts):
            if exact in self.exact:
                return self.exact[exact]
        if not parts:
            return None  # as in an empty cell
        said = _folded(parts)
        overlaps = {}
        for other in self.by_stem[said[-1]]:
            known = _folded(other)
            length = min(len(known), len(said))
            if known[-length:] == said[-length:]:
                same_name = other[-1].lower() == parts[-1].lower()
                overlaps[other] = length, same_name, other[:-1] == here
        best = max(overlaps.values(), default=None)
        fitting = [other for other, overlap in overlaps.items() if overlap == best]
        return self.exact[fitting[0]] if len(fitting) == 1 else None


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return (stem if suffix.lower() in SUFFIXES else name).casefold()


def _folded(parts: Sequence[str]) -> tuple[str, ...]:
    return (*(part.casefold() for part in parts[:-1]), _stem(parts[-1]))


@dataclass(frozen=True)
class _Table:
    """rows: the cells of every line, by the names of columns as they stand there, without blanks
    around them. clips: the column that names the clips, "" if there is none. heard: how many of its
    first cells are sounds that are there."""

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    clips: str
    heard: int

    def column(self, role: str) -> str:
        """The first other column with a name of this role, or ""."""
        return _named(role, [name for name in self.columns if name != self.clips])


def _named(role: str, columns: Iterable[str]) -> str:
    said = {"_".join(words(name)): name for name in columns}
    return next((said[name] for name in COLUMNS[role].split() if name in said), "")


def _read(path: Path, most: int, found: _Sounds) -> _Table | None:
    """A table with or without names of its columns; None if it is none."""

    def is_sound(cell: str) -> bool:
        return found.find(cell, path.parent) is not None

    try:
        text = decoded(path.read_bytes())
        if path.suffix.lower() == ".jsonl":
            lines = (json.loads(line) for line in text.splitlines() if line.strip())
            cells = ({str(k): str(v).strip() for k, v in line.items()} for line in lines)
        else:
            cells = _cells(text, is_sound)
        rows = list(islice(cells, most + 1))
    except TaskError:
        raise
    except (ValueError, csv.Error, AttributeError):
        return None
    if len(rows) > most:
        raise TaskError(f"{path.name} has more than {most} rows, the most that are read.")
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    # The column of which most cells are sounds, or else the one of such a name.
    named, heard = _named("path", columns), {}
    for name in sorted(columns, key=lambda name: bool(named) and name != named):
        heard[name] = sum(is_sound(row[name]) for row in rows[:30] if row.get(name))
    best = max(heard, key=heard.__getitem__, default="")
    clips = best if best and heard[best] else named
    return _Table(path, columns, rows, clips, heard.get(clips, 0))


def _cells(text: str, is_sound: Callable[[str], bool]) -> Iterator[dict[str, str]]:
    """The cells of every line of a table, by the names of their columns."""
    marks, text = ",;\t|", re.sub(r"\r\n?", "\n", text).lstrip("\n")
    first, _, rest = text.partition("\n")
    if said := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):
        marks, text = said[1], rest
    every = text.split("\n")
    above = _above(every[:10], is_sound)
    # The mark that parts the first line most: csv.Sniffer guesses letters in tables of one column
    # or of quoted cells.
    head, text = every[above], "\n".join(every[above:])
    mark = max(marks, key=lambda m: len(next(csv.reader([head], delimiter=m), [])))
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    columns = [cell.strip() for cell in next(lines, [])]
    if 0 < len(columns) <= 3 and is_sound(columns[0]):
        lines = chain([columns], lines)
        columns = ["path", "label", "split"][: len(columns)]
    for line in lines:
        cells = [of_cell(cell.strip()) for cell in line]
        if any(cells):  # others a spreadsheet leaves at the end
            yield {name: cell for name, cell in zip(columns, cells, strict=False) if name}


def _above(lines: Sequence[str], is_sound: Callable[[str], bool]) -> int:
    """How many lines stand above the names of the columns: a title, comments."""
    comments = 0
    for k, line in enumerate(lines):
        cells = re.split(r"[,;\t|]", line)
        if _named("path", cells) and _named("label", cells):
            return k
        if is_sound(cells[0]):
            break
        comments += comments == k and line.startswith("#")
    return comments


def _usable(table: _Table, by_folder: Sequence[Row]) -> bool:
    """Whether it names sounds and says something of them; if it names none that is there, whether
    nothing else does."""
    if not table.clips:
        return False
    if not table.heard:
        return bool(table.column("label")) and not by_folder
    says = any(map(table.column, ("label", "split", "fold")))
    return says or bool(split_of(table.path.stem)) or len(table.columns) == 2


def _by_tables(tables: Sequence[_Table], found: _Sounds, by_folder: Listing) -> Listing:
    """Rows of all tables, each sound once, and remarks on sounds and columns that are not used.

    What a table does not say, folders do. Raises TaskError.
    """
    folders = {row.path: row for row in (*by_folder.rows, *by_folder.loose)}
    splits = {table.path: split_of(table.path.stem) for table in tables}
    if len(set(splits.values()) - {""}) < 2 and not any(len(t.columns) == 1 for t in tables):
        splits = {}
    rows: dict[Path, Row] = {}
    remarks: list[str] = []
    for table in tables:
        label, split, fold, group = map(table.column, ("label", "split", "fold", "group"))
        if not (label or split or fold or group or by_folder.rows) and len(table.columns) == 2:
            label = next(name for name in table.columns if name != table.clips)
        numbers = [cell for cells in table.rows if (cell := cells.get(split, ""))]
        if numbers and not fold and all(cell.isdecimal() or fold_of(cell) for cell in numbers):
            split, fold = "", split  # an official split into folds
        group = fold or group
        used = table.clips, label, split, group
        if spare := [name for name in table.columns if name not in used]:
            said = _some(spare, 8)
            remarks.append(f"Columns of {table.path.name} that were not used: {said}.")
        lost = []
        for cells in table.rows:
            cell = cells.get(table.clips, "")
            place = found.find(cell, table.path.parent)
            if place is None:
                lost.append(cell)
                continue
            row = folders.get(place, Row(place, ""))
            of_group = cells.get(group, "")
            in_fold = split_of(of_group) if fold and not split else ""
            row = replace(
                row,
                label=clean(cells.get(label, "")) if label else row.label,
                split=_split(cells.get(split, ""), place.name)
                or splits.get(table.path, "")
                or in_fold
                or row.split,
                group="" if in_fold else (fold and fold_of(of_group)) or of_group or row.group,
            )
            if not row.label:
                raise TaskError(f"The clip '{cell}' of {table.path.name} has no label.")
            if rows.setdefault(place, row) != row:
                names = " and ".join(t.path.name for t in tables)
                raise TaskError(f"{names} say different things of '{cell}'; keep one of them.")
        if lost and len(lost) == len(table.rows):
            raise TaskError(f"The clip '{lost[0][:80]}' of {table.path.name} is missing.")
        if lost:
            remarks.append(
                f"Left out: {many(len(lost), 'row')} of {table.path.name} without their sound, "
                f"such as '{lost[0][:80]}'."
            )
    if not any(table.column("label") or len(table.columns) == 2 for table in tables):
        # They say splits only, as the lists of Speech Commands do: others are there to train on.
        rest = "train" if "train" not in {row.split for row in rows.values()} else ""
        others = [row for p, row in folders.items() if p not in rows and row.label]
        rows |= {row.path: replace(row, split=row.split or rest) for row in others}
    if spare := len(found.exact) - len(rows):
        names = " or ".join(table.path.name for table in tables)
        remarks.append(f"Left out: {many(spare, 'sound')}, not named by {names}.")
    return Listing(list(rows.values()), remarks)


def _split(cell: str, name: str) -> str:
    """That a cell of a clip of this name says; raises TaskError if it says something else."""
    found = split_of(cell)
    if cell and not (found or cell.isdecimal() or fold_of(cell)):
        raise TaskError(f"'{cell[:40]}' of {name} is none of {', '.join(SPLITS)}.")
    return found
