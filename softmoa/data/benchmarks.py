"""Public benchmarks in the layouts that their authors publish, read from folders as they are.

A reader takes the dataset's folder and returns its classes and rows. Rows name the official split
where there is one, and else the official group, of which one at a time is held out. Sounds may have
been converted to another of SUFFIXES, whatever a table or list calls them.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from softmoa.data.task import SPLITS, Row, TaskError, in_order

SUFFIXES = (".wav", ".flac", ".ogg", ".opus")
# Of ESC-50 and, where they differ, of ESC-10.
ESC10_NAMES = {
    "dog": "dog bark",
    "crying baby": "baby cry",
    "crackling fire": "fire crackling",
    "sneezing": "person sneeze",
}
Contents = tuple[tuple[str, ...], list[Row]]
Reader = Callable[[Path], Contents]


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


def table(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """Rows of a CSV file that has these columns; raises TaskError if it has not."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    if missing := [c for c in columns if c not in (reader.fieldnames or ())]:
        raise TaskError(f"{path.name} has no column '{missing[0]}'.")
    for row in reader:
        if any(row[c] is None for c in columns):
            raise TaskError(f"Line {reader.line_num} of {path.name} breaks off.")
        yield row


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TaskError(f"There is no {path.name} in {path.parent}.") from None
    except UnicodeDecodeError:
        raise TaskError(f"{path.name} in {path.parent} is not a text in UTF-8.") from None


def embedded(folder: Path) -> Contents:
    """A task of assets/tasks, listed in manifest.csv; classes are in the order of their rows."""
    listed = table(folder / "manifest.csv", "path", "label", "split", "group")
    rows = [Row(folder / r["path"], r["label"], r["split"], r["group"]) for r in listed]
    if wrong := [row for row in rows if row.split not in SPLITS]:
        said, name = wrong[0].split, wrong[0].path.name
        raise TaskError(f"'{said}' of {name} is none of {', '.join(SPLITS)}.")
    return tuple(dict.fromkeys(row.label for row in rows)), rows


def esc10_by_class(folder: Path) -> Contents:
    """ESC-10 as it was first published: 10 folders of 40 clips of 5 s, `fold-…` in a name.

    Source: Piczak 2015, "ESC: Dataset for Environmental Sound Classification".
    """
    classes = sorted(path for path in folder.glob("* - *") if path.is_dir())
    labels = tuple(path.name.partition(" - ")[2].lower() for path in classes)
    return labels, [
        Row(path, label, group=path.name.partition("-")[0])
        for label, directory in zip(labels, classes, strict=True)
        for path in _sounds(directory)
    ]


@dataclass(frozen=True)
class Listed:
    """A dataset in folds whose clips are listed in one table, with these columns.

    folder: its name in SOFTMOA_DATA. hub: the repository of the Hub that has it too. clip: where
    the sound of a row belongs, of its columns. label: the column of classes, in the order of the
    column `number`.
    """

    folder: str
    hub: str
    table: str
    columns: tuple[str, ...]
    clip: str
    label: str
    number: str

    def read(self, folder: Path, wanted: Callable[[dict[str, str]], bool] = bool) -> Contents:
        """wanted: of the cells of a row."""
        listed = [row for row in table(folder / self.table, *self.columns) if wanted(row)]
        numbered = sorted({(in_order(row[self.number]), row[self.label]) for row in listed})
        return tuple(_words(label) for _, label in numbered), [
            Row(
                _stored(folder / self.clip.format(**row)),
                _words(row[self.label]),
                group=row["fold"],
            )
            for row in listed
        ]


# 50 classes of 40 clips of 5 s in 5 folds. Source: Piczak 2015.
ESC50 = Listed(
    folder="ESC-50-master",
    hub="ashraq/esc50",
    table="meta/esc50.csv",
    columns=("filename", "fold", "target", "category", "esc10", "src_file", "take"),
    clip="audio/{filename}",
    label="category",
    number="target",
)
# 8,732 clips of up to 4 s, 10 classes, 10 folds of different recordings, which must be kept: takes
# of one recording lie in one fold.
# Source: Salamon, Jacoby, Bello 2014, "A Dataset and Taxonomy for Urban Sound Research".
URBANSOUND8K = Listed(
    folder="UrbanSound8K",
    hub="danavery/urbansound8K",
    table="metadata/UrbanSound8K.csv",
    columns=("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"),
    clip="audio/fold{fold}/{slice_file_name}",
    label="class",
    number="classID",
)
ON_HUB = {"esc10": ESC50, "esc50": ESC50, "urbansound8k": URBANSOUND8K}


def esc10_of_esc50(folder: Path) -> Contents:
    """The clips of ESC-50 that are marked as ESC-10's, under the names they have there."""
    labels, rows = ESC50.read(folder, lambda row: row["esc10"].lower() == "true")
    named = {label: ESC10_NAMES.get(label, label) for label in labels}
    return tuple(named.values()), [replace(row, label=named[row.label]) for row in rows]


def speech_commands(folder: Path) -> Contents:
    """Speech Commands v0.02: 35 words of 1 s, split by validation_list.txt and testing_list.txt.

    Source: Warden 2018, arXiv 1804.03209. The lists keep the takes of one speaker (the hash that a
    name begins with) together. Words whose folders are not there are left out.
    """
    nested = folder / "speech_commands_v0.02"  # where torchaudio unpacks it
    folder = nested if nested.is_dir() else folder
    splits = {
        name.rpartition(".")[0]: split  # whatever the format of the sounds here
        for file, split in (("validation_list.txt", "valid"), ("testing_list.txt", "test"))
        for name in _text(folder / file).split()
    }
    words = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(("_", ".")))
    return tuple(word.name for word in words), [
        Row(
            path,
            word.name,
            splits.get(f"{word.name}/{path.stem}", "train"),
            path.name.partition("_nohash_")[0],
        )
        for word in words
        for path in _sounds(word)
    ]


def fluent_speech_commands(folder: Path) -> Contents:
    """Fluent Speech Commands: 31 intents, split by speaker in data/{train,valid,test}_data.csv.

    Source: Lugosch et al. 2019, arXiv 1904.03670. An intent is an action, its object and location.
    """
    columns = "path", "speakerId", "action", "object", "location"
    rows = [
        Row(
            _stored(folder / r["path"]),
            " / ".join((r["action"], r["object"], r["location"])),
            split,
            r["speakerId"],
        )
        for split in SPLITS
        for r in table(folder / "data" / f"{split}_data.csv", *columns)
    ]
    return tuple(sorted({row.label for row in rows})), rows


def fsdd(folder: Path) -> Contents:
    """Free Spoken Digit Dataset: `recordings/digit_speaker_take.wav`, group = speaker; also
    without the folder `recordings`."""
    folder = folder / "recordings" if (folder / "recordings").is_dir() else folder
    labels = tuple("zero one two three four five six seven eight nine".split())
    return labels, [
        Row(path, labels[int(path.name[0])], group=path.stem[2:].rpartition("_")[0])
        for path in _sounds(folder, "[0-9]_*_*")
    ]


def _sounds(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.suffix in SUFFIXES)


def _stored(path: Path) -> Path:
    """The path, or that of the same sound in another format."""
    if path.is_file():
        return path
    return next((p for s in SUFFIXES if (p := path.with_suffix(s)).is_file()), path)


def _words(name: str) -> str:
    return name.replace("_", " ")
