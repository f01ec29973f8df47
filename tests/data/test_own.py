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
from sounds import write

from softmoa.cli import main
from softmoa.data import own
from softmoa.data.archive import ZipLimits
from softmoa.data.own import DataLimits
from softmoa.data.tasks import SPLITS, Task, TaskError

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
    assert "one more or less right is 50%" in mine.remarks[1].message


@pytest.mark.parametrize("top", ["", "birds/"])
def test_a_zip_is_its_folder(birds, tmp_path, top):
    mine = read(zip_of(birds, tmp_path / "birds.zip", top))
    assert names(mine.task) == names(read(birds).task)
    assert not any(file.path.exists() for file in mine.task.files)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\n../a.wav,x", "path '../a.wav' in a table leads elsewhere"),
        ("path,label\nb.wav,x", "clip 'b.wav' of t.csv is missing"),
        ("path,label\na.wav,", "'a.wav' of t.csv has no label"),
        ("path,label,split\na.wav,x,middle", "'middle' of a.wav is none of train, valid, test"),
        ('path,label,split\na.wav,x,"mid\ndle"', "'mid dle' of a.wav is none of"),
        ("path,label\na.wav,x", "1 class cannot be told apart"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path, text, words):
    tone(tmp_path / "t" / "a.wav", 300)
    (tmp_path / "t" / "t.csv").write_text(text)
    with pytest.raises(TaskError, match=words):
        read(tmp_path / "t")


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
    "long": ([(entry(f"{150 * 'é'}/b.wav"), b"x")], "too long for a file"),
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
    assert list(scratch.iterdir()) == []


def test_headers_that_lie_about_the_size_are_not_believed(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr(entry("a/b.wav"), bytes(10**6))
    data = path.read_bytes().replace((10**6).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(TaskError, match="damaged"):
        read(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("a/b.wav", b"x")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(TaskError, match="is encrypted"):
        read(path)


@pytest.mark.parametrize("code", ["ENOSPC", "EACCES", "EINVAL"])
def test_a_full_disk_is_no_damaged_zip(birds, tmp_path, monkeypatch, code):
    path = zip_of(birds, tmp_path / "in.zip")

    def fail(*_):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(TaskError if code == "EINVAL" else OSError) as raised:
        read(path)
    assert ("damaged" in str(raised.value)) == (code == "EINVAL")


@pytest.mark.parametrize("packed", [True, False])
def test_where_names_can_only_be_ascii_that_is_said(birds, tmp_path, packed):
    (birds / "owl").rename(birds / "猫")
    path = zip_of(birds, tmp_path / "in.zip") if packed else birds
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "softmoa", "tasks", str(path)]
    done = subprocess.run(
        command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ") and "PYTHONUTF8=1 to be set." in done.stderr


# --- the command line -----------------------------------------------------------------------------


def test_a_zip_can_be_compared(birds, tmp_path, capsys):
    archive = zip_of(birds, tmp_path / "birds.zip", "birds/")
    command = ["compare", "--task", str(archive), "--methods", "linear", "--epochs", "1", "--json"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    [row] = json.loads(said.out)
    assert row["train_clips"] == 6 and row["test_accuracy"] == 1.0
    assert "birds: 2 classes; 6 clips to train on" in said.err
    assert (tmp_path / "out" / "bundles" / "birds-linear-seed0.safetensors").is_file()
