"""Folders, tables and zips as other programs and people leave them; the right reading of each."""

import json
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sounds import noise, wav

from softmoa.data import own
from softmoa.data.names import split_of
from softmoa.data.task import TaskError

LABELS = ("crow", "owl")
CLASSES = [f"{label}/{k}.wav" for label in LABELS for k in range(3)]
UNSPLIT = {label: {"": 3} for label in LABELS}
CLIPS = [f"{label}_{k}.wav" for label in LABELS for k in range(4)]
SPLIT = ["train", "train", "valid", "test"] * 2


def sound(seed: int) -> bytes:
    """A tenth of a second of noise, no two alike."""
    return wav(noise(800, seed=seed), 8000)


def tree(folder: Path, names, **texts) -> Path:
    """Sounds, and texts or bytes by their names with _dot_ for a dot."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound(seed))
    for name, text in texts.items():
        path = folder / name.replace("_dot_", ".").replace("_in_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def counts(folder: Path) -> dict[str, dict[str, int]]:
    """{class: {split: clips}} as given, before anything is drawn."""
    with own.listed(folder) as (rows, _):
        labels = dict.fromkeys(row.label for row in rows)
        return {label: Counter(r.split for r in rows if r.label == label) for label in labels}


def remarks(folder: Path) -> str:
    with own.listed(folder) as (_, said):
        return "\n".join(remark.message for remark in said)


# --- splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(
            (name, "train")
            for name in ("TRAINING", "trn", "train_set", "1_train", "train-clean-100")
        ),
        *((name, "valid") for name in ("validation", "Val", "dev-set", "val_wavs")),
        *((name, "test") for name in ("TEST", "tst", "TE", "eval", "Evaluation set")),
        *((name, "") for name in ("crow", "train horn", "train_station", "contest", "")),
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split


HALVES = {label: {"train": 2, "test": 2} for label in LABELS}
TWO = [f"{label}/{k}.wav" for label in LABELS for k in range(2)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        *(
            ([f"{part}/{name}" for part in parts for name in TWO], HALVES)
            for parts in (
                ("train", "eval"),
                ("Train", "TEST"),
                ("train_data", "test_data"),
                ("a/b/c/train", "a/b/c/holdout"),
                ("data/train/audio", "data/test/audio"),
                ("ESC_train", "ESC_test"),
                ("birds-train_2", "birds-eval_2"),
            )
        ),
        ([f"{n}/{s}/{k}.wav" for n in LABELS for s in ("train", "test") for k in "ab"], HALVES),
        (
            [*CLASSES, "test/crow/9.wav", "test/owl/9.wav"],
            {n: {"train": 3, "test": 1} for n in LABELS},
        ),
        ([*(f"audio/{name}" for name in CLASSES), "demo.wav"], UNSPLIT),
        (
            [
                *(f"audio/train/{n}/0.wav" for n in LABELS),
                "audio/test/owl/0.wav",
                "_background_noise_/hum.wav",
            ],
            {"crow": {"train": 1}, "owl": {"train": 1, "test": 1}},
        ),
        (
            [*(f"fold{k}/{n}/0.wav" for k in (1, 2) for n in LABELS), "test/crow/0.wav"],
            {"crow": {"train": 2, "test": 1}, "owl": {"train": 2}},
        ),
        # A class may have the name of a split.
        *(
            ([f"{n}/{k}.wav" for n in names for k in "abc"], {n: {"": 3} for n in names})
            for names in (("train", "tram", "bus"), ("test", "tone", "noise"))
        ),
    ],
)
def test_folders_of_splits_and_classes(tmp_path, names, expected):
    assert counts(tree(tmp_path, names)) == expected


def test_background_noise_beside_classes_is_named(tmp_path):
    tree(tmp_path, [*CLASSES, "_background_noise_/a.wav"])
    assert counts(tmp_path) == UNSPLIT
    assert "1 sounds of background noise" in remarks(tmp_path)


def test_a_folder_without_sounds_beside_the_only_one_is_no_class(tmp_path):
    """A name without a suffix is a sound only if the content is."""
    texts = {"docs_in_README": "Birds\n", "docs_in_take 1": "", "LICENSE": "free"}
    tree(tmp_path, [f"birds/{name.removesuffix('.wav')}" for name in CLASSES], **texts)
    assert counts(tmp_path) == UNSPLIT
    said = remarks(tmp_path)
    assert "Left out: 3 files, no sound (LICENSE, README, take 1)." in said
    assert "The folder 'docs' holds no sound." in said and "readable" not in said


def test_a_folder_of_damaged_sounds_beside_the_only_one_is_no_class(tmp_path):
    texts = {"old_in_a_dot_wav": "RIFF", "old_in_b_dot_mp3": wav(np.zeros(0))}
    tree(tmp_path, [f"birds/{name}" for name in CLASSES], **texts)
    assert counts(tmp_path) == UNSPLIT
    assert "The folder 'old' beside birds was not used." in remarks(tmp_path)


@pytest.mark.parametrize("path", ["{fold}/{label}", "{label}/{fold}"])
@pytest.mark.parametrize("name", ["fold{}", "Fold 0{}", "split{}", "cv{}"])
def test_folds_are_groups(tmp_path, name, path):
    folders = [path.format(fold=name.format(k), label=n) for k in (1, 2, 3) for n in LABELS]
    tree(tmp_path, [f"{folder}/{k}.wav" for folder in folders for k in "ab"])
    with own.opened(tmp_path) as mine:
        assert mine.task.labels == LABELS and mine.task.groups == ("1", "2", "3")
        assert len(mine.task.test) == 4


@pytest.mark.parametrize(
    "names", [("fold1", "fold2", "fold3"), ("foldA", "Fold B"), ("train", "test")]
)
def test_folds_and_splits_without_classes_are_no_classes(tmp_path, names):
    tree(tmp_path, [f"{name}/{k}.wav" for name in names for k in range(4)])
    with pytest.raises(TaskError, match="put a folder for each class into them"):
        counts(tmp_path)


# --- tables ---------------------------------------------------------------------------------------


def label_of(clip: str) -> str:
    return clip.partition("_")[0]


def lines(head: str, mark: str = ",", quote: str = "", prefix: str = "") -> str:
    cells = zip((prefix + clip for clip in CLIPS), map(label_of, CLIPS), SPLIT, strict=True)
    rows = [mark.join(f"{quote}{cell}{quote}" for cell in line) for line in cells]
    return "\n".join([head.replace(",", mark), *rows])


SPLITS_OF = {label: {"train": 2, "valid": 1, "test": 1} for label in LABELS}


@pytest.mark.parametrize(
    "text",
    [
        lines("path,label,split"),
        lines("path, label , split"),
        lines("filename,class,subset"),
        lines("fname,target,Split"),
        lines("file,Class Name,dataset_split"),
        lines("Datei,label,split"),
        lines("path,label,split", ";"),
        "sep=;\n" + lines("path,label,split", ";"),
        "sep=\t\n" + lines("path,label,split", "\t"),
        lines('"path";"label";"split"', ";", '"'),
        lines("path,label,split").replace("\n", "\r\n"),
        lines("path,label,split", prefix="/home/ann/birds/"),
        lines("path,label,split", prefix="C:\\Users\\ann\\birds\\"),
        lines("path,label,split").replace(".wav", ""),
        lines("path,label,split").replace(",valid", ",dev").replace(",test", ",eval"),
        lines("path,label,split") + "\n,,\n\n , ,\n",
        lines("path,label,split").split("\n", 1)[1],  # without names of columns
        "# made by Ann, in 2020, with care, twice\n#\n" + lines("path,label,split"),
        "# made by Ann\n" + lines("path,label,split").split("\n", 1)[1],
        "# made by Ann\n" + lines("Datei,label,split", ";"),
        lines("#path,label,split"),
        "Birds of 2020;;\n;;\n" + lines("path,label,split", ";"),
    ],
)
def test_tables(tmp_path, text):
    assert counts(tree(tmp_path, CLIPS, clips_dot_csv=text)) == SPLITS_OF


@pytest.mark.parametrize(
    ("name", "code"),
    [("clips.csv", "utf-8-sig"), ("labels.txt", "utf-16"), ("labels.TSV", "utf-16-le")],
)
def test_tables_in_codes_of_other_systems(tmp_path, code, name):
    tree(tmp_path, CLIPS)
    (tmp_path / name).write_bytes(lines("path,label,split", "\t").encode(code))
    assert counts(tmp_path) == SPLITS_OF


@pytest.mark.parametrize(
    ("code", "one", "other"),
    [("cp1252", "Krähe", "Käuzchen"), ("cp1250", "řeka", "kůň"), ("cp1257", "žąsis", "šuo")],
)
def test_a_table_in_the_code_page_of_a_spreadsheet(tmp_path, code, one, other):
    tree(tmp_path, CLIPS[:3] + ["k.wav"])
    text = "path;label\n" + "".join(f"{clip};{one}\n" for clip in CLIPS[:3]) + f"k.wav;{other}\n"
    (tmp_path / "a.csv").write_bytes(text.encode(code))
    assert counts(tmp_path) == {one: {"": 3}, other: {"": 1}}


@pytest.mark.parametrize("cell", ["{}", "fold{}"])
def test_numbers_in_a_column_of_splits_are_folds(tmp_path, cell):
    rows = [f"{clip},{label_of(clip)},{cell.format(k % 3)}" for k, clip in enumerate(CLIPS)]
    tree(tmp_path, CLIPS, list_dot_csv="\n".join(["path,label,split", *rows]))
    with own.listed(tmp_path) as (found, _):
        assert {(row.split, row.group) for row in found} == {("", "0"), ("", "1"), ("", "2")}


def test_an_empty_column_of_splits_hides_no_groups(tmp_path):
    rows = [f"{clip},{label_of(clip)},,{k % 4}" for k, clip in enumerate(CLIPS)]
    tree(tmp_path, CLIPS, list_dot_csv="\n".join(["path,label,split,group", *rows]))
    with own.listed(tmp_path) as (found, _):
        assert {(row.split, row.group) for row in found} == {("", str(k)) for k in range(4)}
    assert "not used" not in remarks(tmp_path)


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_tables_of_other_systems_after_an_empty_line(tmp_path, end):
    rows = [f"{clip},{label_of(clip)}" for clip in CLIPS]
    tree(tmp_path, CLIPS, list_dot_csv=end.join(["", "path,label", *rows]))
    assert counts(tmp_path) == {label: {"": 4} for label in LABELS}


def test_metadata_of_audiofolder_in_json_lines(tmp_path):
    rows = [json.dumps({"file_name": c, "label": label_of(c)}) for c in CLIPS]
    tree(tmp_path, CLIPS, metadata_dot_jsonl="\n".join(rows))
    assert counts(tmp_path) == {label: {"": 4} for label in LABELS}


def test_a_table_for_each_split(tmp_path):
    tree(tmp_path, [f"audio/{clip}" for clip in CLIPS])
    for split in ("train", "valid", "test"):
        of_split = [clip for clip, s in zip(CLIPS, SPLIT, strict=True) if s == split]
        rows = [f"{clip},{label_of(clip)}" for clip in of_split]
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,label", *rows]))
    assert counts(tmp_path) == SPLITS_OF


def test_a_table_of_splits_beside_class_folders(tmp_path):
    names = [f"{label}/{k}.wav" for label in LABELS for k in range(4)]
    rows = [f"{name},{split}" for name, split in zip(names, SPLIT, strict=True)]
    tree(tmp_path, names, splits_dot_csv="\n".join(["file,split", *rows]))
    assert counts(tmp_path) == SPLITS_OF


# --- zips -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("utf-8", ["猫", "собака", "naïve café"]),
        ("cp437", ["Käuzchen", "mañana", "crow"]),
        ("cp1252", ["élan", "Vögel", "œuf"]),
        ("cp866", ["собака", "кошка"]),
        ("cp852", ["kočka", "kůň", "řeka", "déšť"]),
        ("cp1250", ["żaba", "wróbel", "ćma", "łoś"]),
        ("cp857", ["kuş", "yağmur", "fırtına"]),
        ("shift-jis", ["猫", "カラス"]),
        ("gbk", ["猫", "乌鸦"]),
    ],
)
def test_names_in_zips_without_the_flag(tmp_path, code, names):
    class Info(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):
            return self.filename.encode(code), 0

    with zipfile.ZipFile(tmp_path / "in.zip", "w") as zipped:
        packed(zipped, names=names, kind=Info)
    assert counts(tmp_path / "in.zip") == {name: {"": 3} for name in names}


@pytest.mark.parametrize(("claimed", "label"), [(b"cat", "猫"), (b"dog", "cat")])
def test_the_name_that_info_zip_writes_beside_one(tmp_path, claimed, label):
    """If it is still of the name that it lies beside."""
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as zipped:
        for k in range(3):
            info, name = zipfile.ZipInfo(f"cat/{k}.wav"), f"猫/{k}.wav".encode()
            checksum = zlib.crc32(claimed + f"/{k}.wav".encode())
            info.extra = struct.pack("<HHBL", 0x7075, 5 + len(name), 1, checksum) + name
            zipped.writestr(info, sound(k))
    assert counts(tmp_path / "in.zip") == {label: {"": 3}}


def packed(zipped: zipfile.ZipFile, form: str = "{}/{}.wav", names=LABELS, kind=str) -> None:
    """Three clips of every class."""
    for k in range(3):
        for n, name in enumerate(names):
            zipped.writestr(kind(form.format(name, k)), sound(10 * k + n))


@pytest.mark.parametrize(
    "form", ["{}\\{}.wav", "birds/{}/{}.wav", "a/b/c/d/e/f/{}/{}.wav"]
)  # fmt: skip
def test_zips_of_other_systems(tmp_path, form):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as zipped:
        packed(zipped, form)
        zipped.writestr("__MACOSX/birds/._0.wav", b"x")
        zipped.writestr(form.format("crow", 0).replace("0.wav", ".DS_Store"), b"x")
        zipped.writestr("Thumbs.db", b"x")
    assert counts(tmp_path / "in.zip") == UNSPLIT


@pytest.mark.parametrize("suffix", ["", ".caf", ".W64", ".1"])
def test_sounds_by_any_name(tmp_path, suffix):
    """Their content decides the format."""
    tree(tmp_path, [f"{label}/{k}{suffix}" for label in LABELS for k in "abc"])
    assert counts(tmp_path) == UNSPLIT


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["Crow", "crow ", "crow\u00a0"])
def test_labels_that_differ_by_case_or_blanks_are_one(tmp_path, other):
    names = [f"crow/{k}.wav" for k in "abc"]
    names += [f"{other}/d.wav", "barn owl/e.wav", "barn_owl/f.wav"]
    found = counts(tree(tmp_path, names))
    assert found["crow"] == {"": 4} and len(found) == 2
    said = remarks(tmp_path)
    assert "Taken as one class: 'barn owl', 'barn_owl'." in said and repr(other) in said


@pytest.mark.parametrize(
    ("label", "words"),
    [("a\u200bb", "cannot be seen"), ("a\x07", "cannot be seen"), ("n" * 121, "121 letters")],
)
def test_labels_that_cannot_be_used(tmp_path, label, words):
    tree(tmp_path, CLIPS, a_dot_csv=f"path,label\ncrow_0.wav,{label}\nowl_0.wav,owl\n")
    with pytest.raises(TaskError, match=words):
        counts(tmp_path)


def test_a_silent_class_and_long_clips_are_remarked(tmp_path):
    tree(tmp_path, CLASSES)
    for k in range(3):
        (tmp_path / "owl" / f"{k}.wav").write_bytes(wav(np.zeros(8000 * (11 + k)), 8000))
    said = remarks(tmp_path)
    assert "Every clip of 'owl' is silent." in said
    assert "3 clips such as owl/0.wav: This sound is silent" in said
    assert "3 clips such as owl/0.wav: Of more than 10 s, training hears the loudest." in said
