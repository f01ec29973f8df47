"""Public benchmarks in the layouts that their authors publish, read from folders as they are.

A reader takes the dataset's folder and returns its classes and rows. Rows name the official split
where there is one, and else the official group, of which one at a time is held out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from softmoa.tasks.task import Row, TaskError, in_order

# Of ESC-50 and, where they differ, of ESC-10.
ESC10_NAMES = {
    "dog": "dog bark",
    "crying baby": "baby cry",
    "crackling fire": "fire crackling",
    "sneezing": "person sneeze",
}
Contents = tuple[tuple[str, ...], list[Row]]
Reader = Callable[[Path], Contents]


def table(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """Rows of a CSV file that has these columns; raises TaskError if it has not."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if missing := [c for c in columns if c not in (reader.fieldnames or ())]:
                raise TaskError(f"{path.name} has no column '{missing[0]}'.")
            for row in reader:
                if any(row[c] is None for c in columns):
                    raise TaskError(f"Line {reader.line_num} of {path.name} breaks off.")
                yield row
    except FileNotFoundError:
        raise TaskError(f"There is no {path.name} in {path.parent}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise TaskError(f"{path.name} cannot be read as a CSV file in UTF-8.") from None


def esc10_by_class(folder: Path) -> Contents:
    """ESC-10 as it was first published: 10 folders of 40 clips of 5 s, `fold-…` in a name.

    Source: Piczak 2015, "ESC: Dataset for Environmental Sound Classification".
    """
    classes = sorted(path for path in folder.glob("* - *") if path.is_dir())
    labels = [path.name.partition(" - ")[2].lower() for path in classes]
    return tuple(labels), [
        Row(path, label, group=path.name.partition("-")[0])
        for label, directory in zip(labels, classes, strict=True)
        for path in sorted(directory.glob("*.ogg"))
    ]


def esc50(folder: Path, only_esc10: bool = False) -> Contents:
    """ESC-50: 50 classes of 40 clips of 5 s in 5 folds, listed in meta/esc50.csv.

    Source: Piczak 2015; classes are in the order of the column `target`.
    """
    listed = list(
        table(folder / "meta" / "esc50.csv", "filename", "fold", "target", "category", "esc10")
    )
    chosen = [r for r in listed if not only_esc10 or r["esc10"].lower() == "true"]
    order = sorted({(in_order(r["target"]), r["category"]) for r in chosen})
    return tuple(_words(category) for _, category in order), [
        Row(folder / "audio" / r["filename"], _words(r["category"]), group=r["fold"])
        for r in chosen
    ]


def esc10_of_esc50(folder: Path) -> Contents:
    """The clips of ESC-50 that are marked as ESC-10's, under the names they have there."""
    labels, rows = esc50(folder, only_esc10=True)
    named = {label: ESC10_NAMES.get(label, label) for label in labels}
    return tuple(named.values()), [replace(row, label=named[row.label]) for row in rows]


def urbansound8k(folder: Path) -> Contents:
    """UrbanSound8K: 8,732 clips of up to 4 s, 10 classes, 10 folds of different recordings.

    Source: Salamon, Jacoby, Bello 2014, "A Dataset and Taxonomy for Urban Sound Research". The
    published folds must be kept: takes of one recording lie in one fold.
    """
    listed = list(
        table(
            folder / "metadata" / "UrbanSound8K.csv", "slice_file_name", "fold", "classID", "class"
        )
    )
    order = sorted({(in_order(r["classID"]), r["class"]) for r in listed})
    return tuple(_words(name) for _, name in order), [
        Row(
            folder / "audio" / f"fold{r['fold']}" / r["slice_file_name"],
            _words(r["class"]),
            group=r["fold"],
        )
        for r in listed
    ]


def speech_commands(folder: Path) -> Contents:
    """Speech Commands v0.02: 35 words of 1 s, split by validation_list.txt and testing_list.txt.

    Source: Warden 2018, arXiv 1804.03209. The lists keep the takes of one speaker (the hash that a
    name begins with) together.
    """
    nested = folder / "speech_commands_v0.02"  # where torchaudio unpacks it
    folder = nested if nested.is_dir() else folder
    splits: dict[str, str] = {}
    for name, split in (("validation_list.txt", "valid"), ("testing_list.txt", "test")):
        if not (folder / name).is_file():
            raise TaskError(f"There is no {name} in {folder}.")
        try:
            listed = (folder / name).read_text(encoding="utf-8").split()
        except UnicodeDecodeError:
            raise TaskError(f"{name} in {folder} is not a text in UTF-8.") from None
        splits |= dict.fromkeys(listed, split)
    words = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(("_", ".")))
    rows = []
    for word in words:
        for path in sorted(word.glob("*.wav")):
            split = splits.get(f"{word.name}/{path.name}", "train")
            rows.append(Row(path, word.name, split, path.name.partition("_nohash_")[0]))
    return tuple(word.name for word in words), rows


def fluent_speech_commands(folder: Path) -> Contents:
    """Fluent Speech Commands: 31 intents, split by speaker in data/{train,valid,test}_data.csv.

    Source: Lugosch et al. 2019, arXiv 1904.03670. An intent is an action, its object and location.
    """
    rows = []
    for split in ("train", "valid", "test"):
        file = folder / "data" / f"{split}_data.csv"
        for r in table(file, "path", "speakerId", "action", "object", "location"):
            intent = " / ".join((r["action"], r["object"], r["location"]))
            rows.append(Row(folder / r["path"], intent, split, r["speakerId"]))
    return tuple(sorted({row.label for row in rows})), rows


def fsdd(folder: Path) -> Contents:
    """Free Spoken Digit Dataset: `recordings/digit_speaker_take.wav`, group = speaker; also
    without the folder `recordings`."""
    folder = folder / "recordings" if (folder / "recordings").is_dir() else folder
    labels = tuple("zero one two three four five six seven eight nine".split())
    rows = []
    for path in sorted(folder.glob("[0-9]_*_*.wav")):
        digit, _, rest = path.stem.partition("_")
        speaker, _, _ = rest.rpartition("_")
        rows.append(Row(path, labels[int(digit)], group=speaker))
    return labels, rows


def _words(name: str) -> str:
    return name.replace("_", " ")
