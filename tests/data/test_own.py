"""One's own sounds: folders, tables and zips; hostile zips; remarks; the command line."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import pytest
import sounds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sounds import write

from softmoa.cli import main
from softmoa.data import own
from softmoa.data.archive import ZipLimits
from softmoa.data.own import DataLimits
from softmoa.data.tasks import SPLITS, Row, Task, TaskError

ROOT = Path(__file__).parents[2]
SMALL = DataLimits(classes=3, clips=40, zip=ZipLimits(files=60, file_mb=0.5, total_mb=2, depth=4))


def tone(path: Path, hertz: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, sounds.tone(hertz, seconds=0.4), format=path.suffix[1:].upper())


@pytest.fixture
def birds(tmp_path) -> Path:
    """Two classes of five clips, some in deeper folders or with upper-case suffixes."""
    folder = tmp_path / "birds"
    for k in range(5):
        tone(folder / "crow" / f"{k}.WAV", 300 + 5 * k)
        tone(folder / "owl" / ("deeper/" * (k % 2)) / f"{k}.flac", 900 + 5 * k)
    (folder / "crow" / "notes.txt").write_text("x")
    (folder / ".DS_Store").write_text("x")
    return folder


def zip_of(folder: Path, out: Path, top: str = "") -> Path:
    with zipfile.ZipFile(out, "w") as zipped:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                zipped.write(path, f"{top}{path.relative_to(folder)}")
    return out


def read(path: Path, limits: DataLimits = SMALL, seed: int = 0) -> own.OwnData:
    with own.opened(path, limits, seed) as mine:
        assert all(file.path.is_file() for file in mine.task.files)
        return mine


def names(task: Task) -> dict[str, list[tuple[str, str]]]:
    return {s: [(task.labels[f.label], f.path.name) for f in getattr(task, s)] for s in SPLITS}


# --- folders, tables, zips ------------------------------------------------------------------------


def test_a_folder_per_class(birds):
    mine = read(birds)
    assert mine.task.name == "birds" and mine.task.labels == ("crow", "owl")
    assert mine.task.counts == {"train": (3, 3), "valid": (1, 1), "test": (1, 1)}
    assert [r.kind for r in mine.remarks] == ["ignored", "tiny"]
    assert "one more or less right is 50 %" in mine.remarks[1].message


@pytest.mark.parametrize("top", ["", "birds/"])
def test_a_zip_is_its_folder(birds, tmp_path, top):
    mine = read(zip_of(birds, tmp_path / "birds.zip", top))
    assert names(mine.task) == names(read(birds).task)
    assert not any(file.path.exists() for file in mine.task.files)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\n../a.wav,x", "path '../a.wav' in a table leads elsewhere"),
        ("path,label\n/etc/passwd,x", "clip '/etc/passwd' of t.csv is missing"),
        ("path,label\nb.wav,x", "clip 'b.wav' of t.csv is missing"),
        ("path,label\na.wav,", "'a.wav' of t.csv has no label"),
        ("path,label,split\na.wav,x,middle", "'middle' of a.wav is none of train, valid, test"),
        ("path,label\na.wav,x", "1 class cannot be told apart"),
        ("path,label", "No sounds were found"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path, text, words):
    tone(tmp_path / "t" / "a.wav", 300)
    (tmp_path / "t" / "t.csv").write_text(text)
    with pytest.raises(TaskError, match=words):
        read(tmp_path / "t")


def test_a_class_that_vanishes_is_said(birds):
    (birds / "wren").mkdir()
    (birds / "jay").mkdir()
    for k in range(3):
        (birds / "jay" / f"{k}.wav").write_bytes(b"no sound")
    said = [remark.message for remark in read(birds).remarks]
    assert "No sound of 'jay' is left." in said
    assert "The folder 'wren' holds no sound." in said


def test_links_are_followed_once(birds, tmp_path):
    """To a folder elsewhere, and to one that holds the link."""
    for k in range(2):
        tone(tmp_path / "elsewhere" / f"{k}.wav", 500 + 5 * k)
    (birds / "crow" / "more").symlink_to(tmp_path / "elsewhere")
    (birds / "crow" / "again").symlink_to(birds / "crow")
    rows = read(birds).rows
    assert sum(row.label == "crow" for row in rows) == 7 and len(rows) == 12


def test_a_table_of_a_spreadsheet(birds):
    """Empty rows at its end, and accents in the one of two forms that the disk does not have."""
    stored, written = (unicodedata.normalize(form, "Käuzchen.wav") for form in ("NFD", "NFC"))
    tone(birds / "owl" / stored, 400)
    lines = [f"{path.relative_to(birds)},{path.parent.name}" for path in birds.glob("crow/*.WAV")]
    lines += [f"owl/{written},owl", "owl/0.flac,owl", "owl/2.flac,owl", ",", " , "]
    (birds / "t.csv").write_text("\n".join(["path,label", *lines]))
    assert sorted(row.label for row in read(birds).rows) == ["crow"] * 5 + ["owl"] * 3


def test_a_name_that_no_text_can_hold_is_refused(birds):
    os.rename(birds / "owl", os.fsencode(birds) + b"/k\xe4uzchen")
    with pytest.raises(TaskError, match="k\ufffduzchen.* is not in UTF-8; please rename it"):
        read(birds)


def test_a_time_in_a_name_is_no_drive(birds, tmp_path):
    (birds / "crow" / "0.WAV").rename(birds / "crow" / "12:30.WAV")
    assert len(read(zip_of(birds, tmp_path / "b.zip")).rows) == 10


def test_what_is_collected_is_written_and_read_again(birds, tmp_path):
    mine = read(birds, seed=5)
    rows = [
        Row(row.path, {"crow": "crow / à droite", "owl": "owl"}[row.label], group=f"g{k % 4}")
        for k, row in enumerate(mine.rows)
    ]
    before = own.build(rows, (), "birds", 5).task
    own.write_zip(rows, tmp_path / "out.zip")
    after = read(tmp_path / "out.zip", seed=5).task
    assert after.labels == before.labels == ("crow / à droite", "owl")
    groups, again = (
        {s: sorted((f.label, f.group) for f in getattr(task, s)) for s in SPLITS}
        for task in (before, after)
    )
    assert groups == again


def said_of(mine: own.OwnData) -> dict[str, str]:
    return {remark.kind: remark.message for remark in mine.remarks}


def test_remarks_on_copies_damage_and_imbalance(birds):
    for k in range(5, 25):
        tone(birds / "crow" / f"{k}.wav", 300 + 5 * k)
    (birds / "owl" / "copy.flac").write_bytes((birds / "owl" / "0.flac").read_bytes())
    (birds / "owl" / "crow.wav").write_bytes((birds / "crow" / "7.wav").read_bytes())
    (birds / "owl" / "torn.wav").write_bytes(b"RIFF")
    mine = read(birds)
    said = said_of(mine)
    assert said["duplicate"].startswith("Left out: 2 clips, a copy of another; 1 had another label")
    assert said["unreadable"].startswith("Left out: 1 clip, not readable, such as owl/torn.wav: Th")
    assert said["unbalanced"].startswith("'crow' has 25 clips and 'owl' 5")
    assert len(mine.rows) == 30


@pytest.mark.parametrize("first", [0, 1])
def test_a_file_that_may_not_be_read_is_left_out(birds, monkeypatch, first):
    """From the beginning, or once it was decoded."""
    opened, tries = Path.open, []

    def guarded(path, *args, **options):
        if path.name == "3.flac":
            tries.append(path)
            if len(tries) > first:
                raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", guarded)
    mine = read(birds)
    said = said_of(mine)["unreadable"]
    assert said.startswith("Left out: 1 clip, not readable, such as owl/3.flac: The ")
    assert "(Permission denied)" in said and len(mine.rows) == 9


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["a.wav"], "Left out: 1 sound, in no class folder."),
        (["a.wav", "b.OGG", ".c.wav", "d.txt"], "Left out: 2 sounds, in no class folder."),
    ],
)
@pytest.mark.parametrize("splits", [False, True])
def test_sounds_in_no_class_folder_are_remarked(tmp_path, splits, places, message):
    folder = tmp_path / "d"
    for k in range(3):
        for n, label in enumerate("xy"):
            tone(folder / (SPLITS[k] if splits else "") / label / f"{k}.wav", 200 + 9 * k + 400 * n)
    for k, name in enumerate(places):
        (folder / (SPLITS[k % 3] if splits and k else "") / name).write_bytes(b"x")
    mine = read(folder)
    said = [remark.message for remark in mine.remarks if remark.kind == "ignored"]
    assert message in said and len(mine.rows) == 6


def test_hidden_folders_are_no_classes(tmp_path):
    for k, split in enumerate(SPLITS):
        for label in ("x", "y", ".cache", "x/.thumbs"):
            tone(tmp_path / split / label / f"{k}.wav", 200 + 9 * k + 100 * len(label))
        tone(tmp_path / split / "y" / f"{k}.wav", 900 + 9 * k)
    mine = read(tmp_path)
    assert mine.task.labels == ("x", "y") and len(mine.rows) == 6 and not mine.remarks[1:]


def test_a_group_in_two_splits_is_remarked(birds):
    rows = [
        Row(row.path, row.label, SPLITS[min(k % 5, 2)], "ann")
        for k, row in enumerate(read(birds).rows)
    ]
    said = said_of(own.build(rows, (), "b"))["group"]
    assert said == "The group 'ann' is in test and train and valid at once."


# --- hostile zips ---------------------------------------------------------------------------------


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


HOSTILE = {
    "absolute": ([(entry("/etc/a.wav"), b"x")], "leads elsewhere"),
    "parent": ([(entry("a/../../b.wav"), b"x")], "leads elsewhere"),
    "drive": ([(entry("C:/b.wav"), b"x")], "leads elsewhere"),
    "backslash": ([(entry("a\\..\\b.wav"), b"x")], "leads elsewhere"),
    "link": ([(entry("a/b.wav", stat.S_IFLNK | 0o777), b"/etc/passwd")], "link or a device"),
    "fifo": ([(entry("a/b.wav", stat.S_IFIFO | 0o666), b"")], "link or a device"),
    "deep": ([(entry("a/b/c/d/e.wav"), b"x")], "more than 3 deep"),
    "many": ([(entry(f"a/{k}.wav"), b"x") for k in range(61)], "holds 61 files; at most 60"),
    "large": ([(entry("a/b.wav"), os.urandom(600_000))], "'a/b.wav' in the zip has 1 MB"),
    "total": ([(entry(f"a/{k}.wav"), os.urandom(450_000)) for k in range(5)], "unpacks to 2 MB"),
    "bomb": ([(entry("a/b.wav"), bytes(480_000))], "more than 100 times its size"),
    "twice": ([(entry("a/b.wav"), b"x"), (entry("a/b.wav"), b"y")], "two files of one name"),
    "file as folder": ([(entry("a.wav"), b"x"), (entry("a.wav/b.wav"), b"y")], "one name"),
    "no sounds": ([(entry("a/readme.txt"), b"x")], "No sounds were found"),
    "no sound inside": ([(entry("a/b.wav"), b"x"), (entry("b/c.wav"), b"y")], "None of the 2"),
    "classes": ([(entry(f"{k}/b.wav"), b"x") for k in range(4)], "4 classes; at most 3"),
    "clips": ([(entry(f"a/{k}.wav"), b"x") for k in range(41)], "41 clips; at most 40"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_zip_is_refused_and_leaves_nothing(tmp_path, monkeypatch, case):
    entries, words = HOSTILE[case]
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as zipped:
        for info, data in entries:
            zipped.writestr(info, data)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pytest.raises(TaskError, match=words):
        read(tmp_path / "in.zip")
    with pytest.raises(TaskError, match=words):
        own.rows_of_zip(tmp_path / "in.zip", scratch / "target", SMALL)
    assert list(scratch.iterdir()) == []


def test_headers_that_lie_about_the_size_are_not_believed(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr(entry("a/b.wav"), bytes(10**6))
    data = path.read_bytes().replace((10**6).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(TaskError, match="damaged"):
        own.rows_of_zip(path, tmp_path / "target", SMALL)
    assert not (tmp_path / "target").exists()


def test_an_encrypted_zip_is_refused(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("a/b.wav", b"x")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(TaskError, match="is encrypted"):
        read(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_zip_is_read_or_refused_and_leaves_nothing(birds, tmp_path, changes):
    path = tmp_path / "in.zip"
    data = bytearray(zip_of(birds, path).read_bytes())
    tail = 1500  # most damage where the headers are
    for place, value in changes:
        data[len(data) - 1 - int(place * (tail - 1))] = value
    path.write_bytes(data)
    target = tmp_path / "target"
    try:
        own.rows_of_zip(path, target, SMALL)
    except TaskError:
        assert not target.exists()
    else:
        shutil.rmtree(target)


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EINVAL"])
def test_a_full_disk_is_no_damaged_zip(birds, tmp_path, monkeypatch, code):
    path = zip_of(birds, tmp_path / "in.zip")

    def fail(*_):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(TaskError if code == "EINVAL" else OSError) as raised:
        own.rows_of_zip(path, tmp_path / "target", SMALL)
    assert ("damaged" in str(raised.value)) == (code == "EINVAL")
    assert not (tmp_path / "target").exists()


# --- the command line -----------------------------------------------------------------------------


def test_tasks_describes_a_folder(birds, capsys):
    assert main(["tasks", str(birds), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["clips"] == {"train": [3, 3], "valid": [1, 1], "test": [1, 1]}
    assert row["labels"] == ["crow", "owl"] and row["remarks"][0]["kind"] == "ignored"
    assert main(["tasks", str(birds)]) == 0
    assert "  owl: 3 train, 1 valid, 1 test\n" in capsys.readouterr().out


def test_a_zip_can_be_compared_and_its_bundle_classifies(birds, tmp_path):
    archive = zip_of(birds, tmp_path / "birds.zip", "birds/")
    command = [sys.executable, "-m", "softmoa", "compare", "--task", archive, "--json"]
    command += ["--methods", "linear", "--epochs", "1", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert row["train_clips"] == 6 and row["test_accuracy"] == 1.0
    assert "birds: 2 classes; 6 clips to train on" in done.stderr
    bundle = tmp_path / "out" / "bundles" / "birds-linear-seed0.safetensors"
    assert bundle.is_file()


def test_bad_data_are_one_line_and_exit_2(tmp_path, capsys):
    (tmp_path / "x.zip").write_text("no zip")
    for path, words in ((tmp_path / "x.zip", "not a zip"), (tmp_path, "No sounds were found")):
        assert main(["compare", "--task", str(path), "--out", str(tmp_path / "o")]) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
    assert main(["tasks", str(tmp_path / "nowhere")]) == 2
