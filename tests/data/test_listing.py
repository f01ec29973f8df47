"""Folders, tables and zips as other programs and people leave them; the right reading of each."""

import codecs
import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sounds import noise, wav

from softmoa.data import own
from softmoa.data.names import fold_of, page_of, split_of
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
        *((name, "train") for name in "train Train TRAINING trn train_set trainset".split()),
        *((name, "train") for name in ("train_data", "TrainData", "1_train", "train-clean-100")),
        *((name, "valid") for name in ("valid", "validation", "Val", "dev", "dev-set", "val_wavs")),
        *((name, "test") for name in ("test", "TEST", "testing", "tst", "eval", "Evaluation set")),
        *((name, "") for name in ("crow", "train horn", "train_station", "contest", "testudo", "")),
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split


def test_names_of_folds():
    assert [fold_of(n) for n in ("fold1", "Fold_02", "fold-10", "folder1", "1")] == [
        "1", "2", "10", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        ("train", "eval"),
        ("Train", "TEST"),
        ("trn", "tst"),
        ("train_data", "test_data"),
        ("birds/training", "birds/testing"),
        ("a/b/c/train", "a/b/c/holdout"),
        ("data/train/audio", "data/test/audio"),
    ],
)
def test_split_folders(tmp_path, names):
    tree(tmp_path, [f"{n}/{label}/{k}.wav" for n in names for label in LABELS for k in range(2)])
    assert counts(tmp_path) == {label: {"train": 2, "test": 2} for label in LABELS}


def test_other_folders_beside_splits_are_named(tmp_path):
    names = [f"{n}/{label}/{k}.wav" for n in ("train", "test") for label in LABELS for k in (0, 1)]
    tree(tmp_path, [*names, "_background_noise_/hum.wav"], docs_in_a_dot_txt="x")
    assert counts(tmp_path) == {label: {"train": 2, "test": 2} for label in LABELS}
    said = "The folder '_background_noise_' beside test and train was not used."
    assert said in remarks(tmp_path)


def test_background_noise_beside_classes_is_named(tmp_path):
    tree(tmp_path, [*CLASSES, "_background_noise_/a.wav"])
    assert counts(tmp_path) == UNSPLIT
    assert "1 sounds of background noise" in remarks(tmp_path)


def test_a_test_folder_beside_the_classes(tmp_path):
    names = [*CLASSES, "test/crow/9.wav", "test/owl/9.wav"]
    assert counts(tree(tmp_path, names)) == {n: {"train": 3, "test": 1} for n in LABELS}


def test_splits_within_classes(tmp_path):
    names = [f"{n}/{s}/{k}.wav" for n in LABELS for s in ("train", "test") for k in range(2)]
    assert counts(tree(tmp_path, names)) == {n: {"train": 2, "test": 2} for n in LABELS}


@pytest.mark.parametrize("names", [("train", "tram", "bus"), ("test", "tone", "noise")])
def test_a_class_may_have_the_name_of_a_split(tmp_path, names):
    tree(tmp_path, [f"{n}/{k}.wav" for n in names for k in range(3)])
    assert counts(tmp_path) == {n: {"": 3} for n in names}


@pytest.mark.parametrize("name", ["fold{}", "fold_{}", "Fold 0{}", "split{}"])
def test_folds_are_groups(tmp_path, name):
    folds = [name.format(fold) for fold in (1, 2, 3)]
    tree(tmp_path, [f"{fold}/{n}/{k}.wav" for fold in folds for n in LABELS for k in "ab"])
    with own.opened(tmp_path) as mine:
        assert mine.task.labels == LABELS and mine.task.groups == ("1", "2", "3")
        assert len(mine.task.test) == 4


def test_splits_without_classes_are_one_sentence(tmp_path):
    tree(tmp_path, ["train/a.wav", "train/b.wav", "test/c.wav"])
    with pytest.raises(TaskError, match="The folders are splits; put a folder for each class"):
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
        lines("Path,Label,Split"),
        lines("path, label , split"),
        lines("file_name,label,set"),
        lines("filename,class,subset"),
        lines("filepath,category,partition"),
        lines("fname,target,Split"),
        lines("file,Class Name,dataset_split"),
        lines("wav,species,split"),
        lines("Datei,label,split"),
        lines("path,label,split", ";"),
        lines("path,label,split", "\t"),
        lines("path,label,split", "|"),
        "sep=;\n" + lines("path,label,split", ";"),
        lines('"path","label","split"', quote='"'),
        lines('"path";"label";"split"', ";", '"'),
        lines("path,label,split").replace("\n", "\r\n"),
        lines("path,label,split", prefix="./"),
        lines("path,label,split", prefix=".\\"),
        lines("path,label,split", prefix="/home/ann/birds/"),
        lines("path,label,split", prefix="C:\\Users\\ann\\birds\\"),
        lines("path,label,split", prefix="audio/"),
        lines("path,label,split").replace(".wav", ".mp3"),
        lines("path,label,split").replace(".wav", ""),
        lines("path,label,split").replace("crow_", "CROW_"),
        lines("path,label,split").replace(",valid", ",dev").replace(",test", ",eval"),
        lines("path,label,split") + "\n,,\n\n , ,\n",
        lines("path,label,split").split("\n", 1)[1],  # without names of columns
    ],
)
def test_tables(tmp_path, text):
    assert counts(tree(tmp_path, CLIPS, clips_dot_csv=text)) == SPLITS_OF


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["clips.csv", "labels.txt", "labels.TSV"])
def test_tables_in_codes_of_other_systems(tmp_path, code, name):
    tree(tmp_path, CLIPS)
    (tmp_path / name).write_bytes(lines("path,label,split", "\t").encode(code))
    assert counts(tmp_path) == SPLITS_OF


def test_a_table_in_the_code_page_of_a_spreadsheet(tmp_path):
    tree(tmp_path, CLIPS[:3] + ["k.wav"])
    text = "path;label\n" + "".join(f"{clip};Krähe\n" for clip in CLIPS[:3]) + "k.wav;Käuzchen\n"
    (tmp_path / "a.csv").write_bytes(text.encode("cp1252"))
    assert counts(tmp_path) == {"Krähe": {"": 3}, "Käuzchen": {"": 1}}


def test_metadata_of_audiofolder_in_split_folders(tmp_path):
    tree(tmp_path, [f"{split}/{split}{k}.wav" for split in ("train", "test") for k in range(4)])
    for split in ("train", "test"):
        rows = [f"{split}{k}.wav,{LABELS[k % 2]}" for k in range(4)]
        (tmp_path / split / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    assert counts(tmp_path) == {label: {"train": 2, "test": 2} for label in LABELS}


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


def test_lists_of_speech_commands(tmp_path):
    names = [f"{label}/{k}.wav" for label in LABELS for k in range(4)]
    tree(tmp_path, names, validation_list_dot_txt="crow/0.wav\nowl/0.wav\n")
    (tmp_path / "testing_list.txt").write_text("crow/1.wav\nowl/1.wav\n")
    assert counts(tmp_path) == SPLITS_OF


def test_the_layout_of_esc50(tmp_path):
    rows = [f"{c},{1 + k % 4},{k // 4},{label_of(c)},A" for k, c in enumerate(CLIPS)]
    text = "\n".join(["filename,fold,target,category,take", *rows])
    tree(tmp_path, [f"audio/{clip}" for clip in CLIPS], meta_in_birds_dot_csv=text)
    with own.listed(tmp_path) as (rows, said):
        assert {row.label for row in rows} == set(LABELS)
        assert sorted({row.group for row in rows}) == ["1", "2", "3", "4"]
    assert any("birds.csv that were not used: target, take." in r.message for r in said)


def test_speakers_are_groups(tmp_path):
    rows = [f"{c},{label_of(c)},s{k % 4}" for k, c in enumerate(CLIPS)]
    tree(tmp_path, CLIPS, a_dot_csv="\n".join(["path,label,Speaker ID", *rows]))
    with own.listed(tmp_path) as (rows, _):
        assert {row.group for row in rows} == {"s0", "s1", "s2", "s3"}


def test_a_table_of_splits_beside_class_folders(tmp_path):
    names = [f"{label}/{k}.wav" for label in LABELS for k in range(4)]
    rows = [f"{name},{split}" for name, split in zip(names, SPLIT, strict=True)]
    tree(tmp_path, names, splits_dot_csv="\n".join(["file,split", *rows]))
    assert counts(tmp_path) == SPLITS_OF


@pytest.mark.parametrize("text", ["recorder,place\nA,B\n", "", "\0\0\0", "file,seconds\nx.wav,3\n"])
def test_a_stray_table_beside_class_folders_is_named(tmp_path, text):
    assert counts(tree(tmp_path, CLASSES, notes_dot_csv=text)) == UNSPLIT
    assert "no clips are named there: notes.csv." in remarks(tmp_path)


def test_what_a_table_lacks_is_said(tmp_path):
    rows = lines("path,label,mood") + "\ngone.wav,owl,\n"
    tree(tmp_path, [*CLIPS, "more.caf"], a_dot_csv=rows)
    said = remarks(tmp_path)
    assert "Columns of a.csv that were not used: mood." in said
    assert "Left out: 1 row of a.csv without their sound, such as 'gone.wav'." in said
    assert "Left out: 1 sound, not named by a.csv." in said


def test_tables_that_contradict_each_other_are_refused(tmp_path):
    one, other = (f"path,label\ncrow_0.wav,{label}" for label in "xy")
    tree(tmp_path, CLIPS, a_dot_csv=one, b_dot_csv=other)
    with pytest.raises(TaskError, match="a.csv and b.csv say different things of 'crow_0.wav'"):
        counts(tmp_path)


def test_names_in_two_folders_are_not_mixed_up(tmp_path):
    table = "path,label\nb/1.wav,x\n1.wav,y\n2.wav,z"
    tree(tmp_path, ["a/1.wav", "b/1.wav", "b/2.wav"], t_dot_csv=table)
    assert counts(tmp_path) == {"x": {"": 1}, "z": {"": 1}}


# --- zips -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("utf-8", ["猫", "собака", "naïve café"]),
        ("cp437", ["Käuzchen", "mañana", "crow"]),
        ("cp850", ["São Paulo", "Käuzchen"]),
        ("cp1252", ["élan", "Vögel", "œuf"]),
        ("cp1251", ["Собака", "кошка"]),
        ("cp866", ["собака", "кошка"]),
        ("cp1253", ["γάτα", "σκύλος"]),
        ("shift-jis", ["猫", "カラス"]),
        ("gbk", ["猫", "乌鸦"]),
        ("big5", ["貓", "烏鴉"]),
        ("euc-kr", ["고양이", "까마귀"]),
    ],
)
def test_names_in_zips_without_the_flag(tmp_path, code, names):
    class Info(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):
            return self.filename.encode(code), 0

    with zipfile.ZipFile(tmp_path / "in.zip", "w") as zipped:
        packed(zipped, names=names, kind=Info)
    assert counts(tmp_path / "in.zip") == {name: {"": 3} for name in names}


def packed(zipped: zipfile.ZipFile, form: str = "{}/{}.wav", names=LABELS, kind=str) -> None:
    """Three clips of every class."""
    for k in range(3):
        for n, name in enumerate(names):
            zipped.writestr(kind(form.format(name, k)), sound(10 * k + n))


@pytest.mark.parametrize(
    "form", ["{}/{}.wav", "{}\\{}.wav", "birds/{}/{}.wav", "a\\b\\c\\d\\{}\\{}.wav",
             "a/b/c/d/e/f/{}/{}.wav"]
)  # fmt: skip
def test_zips_of_other_systems(tmp_path, form):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as zipped:
        packed(zipped, form)
        zipped.writestr("__MACOSX/birds/._0.wav", b"x")
        zipped.writestr(form.format("crow", 0).replace("0.wav", ".DS_Store"), b"x")
        zipped.writestr("Thumbs.db", b"x")
    assert counts(tmp_path / "in.zip") == UNSPLIT


def test_a_class_that_a_zip_loses_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as zipped:
        packed(zipped)
        zipped.writestr("wren/1.pdf", b"x")
    said = remarks(tmp_path / "in.zip")
    assert "The folder 'wren' holds no sound." in said and "no sound (.pdf)" in said


@pytest.mark.parametrize("suffix", ["", ".caf", ".wave", ".W64", ".m4b", ".mkv", ".1"])
def test_sounds_by_any_name(tmp_path, suffix):
    """Their content decides the format."""
    tree(tmp_path, [f"{label}/{k}{suffix}" for label in LABELS for k in "abc"])
    assert counts(tmp_path) == UNSPLIT


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["Crow", "crow ", "CROW", "crow\u00a0"])
def test_labels_that_differ_by_case_or_blanks_are_one(tmp_path, other):
    names = [f"crow/{k}.wav" for k in "abc"]
    names += [f"{other}/d.wav", "barn owl/e.wav", "barn_owl/f.wav"]
    found = counts(tree(tmp_path, names))
    assert found["crow"] == {"": 4} and len(found) == 2
    assert "Taken as one class: 'barn owl', 'barn_owl'." in remarks(tmp_path)


@pytest.mark.parametrize(
    ("label", "words"),
    [("a\u200bb", "cannot be seen"), ("a\x07", "cannot be seen"), ("n" * 121, "121 letters")],
)
def test_labels_that_cannot_be_used(tmp_path, label, words):
    tree(tmp_path, CLIPS, a_dot_csv=f"path,label\ncrow_0.wav,{label}\nowl_0.wav,owl\n")
    with pytest.raises(TaskError, match=words):
        counts(tmp_path)


def test_one_clip_of_each_class(tmp_path):
    tree(tmp_path, [f"{label}/0.wav" for label in LABELS])
    with pytest.raises(TaskError, match="class 'crow' has 1 clip; at least 3"):
        own.opened(tmp_path).__enter__()


def test_a_silent_class_and_long_clips_are_remarked(tmp_path):
    tree(tmp_path, CLASSES)
    for k in range(3):
        (tmp_path / "owl" / f"{k}.wav").write_bytes(wav(np.zeros(8000 * (11 + k)), 8000))
    said = remarks(tmp_path)
    assert "Every clip of 'owl' is silent." in said
    assert "3 clips such as owl/0.wav: This sound is silent" in said
    assert "3 clips such as owl/0.wav: Of more than 10 s, training hears the loudest." in said


def test_a_text_of_ascii_is_utf_8():
    assert page_of(b"plain") == "utf-8" and codecs.lookup(page_of("é".encode())).name == "utf-8"
