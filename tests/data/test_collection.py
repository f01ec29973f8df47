"""Takes by class: trimming with known answers, limits, zips, and what stays on disk."""

import os
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds
import torch

from softmoa.data import collection, folders, own
from softmoa.data.archive import ZipLimits
from softmoa.data.collection import trim
from softmoa.data.own import DataLimits
from softmoa.data.tasks import TaskError
from softmoa.model.weights import ASSETS
from softmoa.ui.explore_files import EXPORTS

LIMITS = DataLimits(classes=3, clips=12, zip=ZipLimits())
EXAMPLES = ASSETS / "examples"


def tone(hertz: float, seconds: float = 0.5) -> torch.Tensor:
    return torch.from_numpy(sounds.tone(hertz, seconds=seconds, peak=0.3)).float()


def recorded(hertz: float, seconds: float = 0.5) -> tuple[int, np.ndarray]:
    return 16_000, tone(hertz, seconds).numpy()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "ROOT", tmp_path / "collections")
    return collection.new(30)


@pytest.fixture
def two(empty):
    """Two classes of five takes."""
    now = empty
    for label, base in (("low", 200), ("high", 2000)):
        now = now.add_label(label, LIMITS)
        for k in range(5):
            now, _ = now.add_take(label, recorded(base + 20 * k), LIMITS)
    return now


def add_zip(now, path: Path, limits: DataLimits):
    with collection.unpacked(path, limits) as (rows, remarks):
        return now.add_clips(rows, remarks, limits)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- trimming -------------------------------------------------------------------------------------


def test_silence_goes_but_for_a_tenth_of_a_second():
    sound = torch.cat([torch.zeros(16_000), tone(440), torch.zeros(8_000)])
    trimmed = trim(sound)
    assert len(trimmed) == 8_000 + 2 * 1_600
    assert torch.equal(trimmed, sound[16_000 - 1_600 : 24_000 + 1_600])


@pytest.mark.parametrize("samples", [0, 100, 16_000])
def test_silence_is_said(samples):
    with pytest.raises(TaskError, match="Nothing was heard"):
        trim(torch.zeros(samples))


# --- collecting -----------------------------------------------------------------------------------


def test_all_sounds_together_take_no_more_room_than_one_zip_may(two, tmp_path):
    kept = sum(path.stat().st_size for path in files(two.folder)) / 1e6
    full = replace(LIMITS, zip=ZipLimits(total_mb=1.02 * kept))
    two.add_take("low", recorded(300, 0.05), full)
    with pytest.raises(TaskError, match="MB are kept"):
        two.add_take("low", recorded(300), full)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as packed:
        packed.write(two.rows[0].path, "low/again.wav")
    with pytest.raises(TaskError, match="MB are kept"):
        add_zip(two, tmp_path / "more.zip", full)
    assert len(files(two.folder)) == 11  # what was refused is not there


def test_takes_become_a_task(two):
    data = two.build()
    assert data.task.labels == ("high", "low")
    assert data.task.counts == {"train": (3, 3), "valid": (1, 1), "test": (1, 1)}
    assert [r.kind for r in data.remarks] == ["tiny"]
    samples, rate = soundfile.read(two.rows[0].path)
    assert rate == 16_000 and len(samples) == 8_000


def test_what_cannot_be_used_is_one_sentence(empty, two):
    for text, words in (("  ", "a name"), ("x" * 41, "at most 40"), ("LOW", "'LOW' already")):
        with pytest.raises(TaskError, match=words):
            two.add_label(text, LIMITS)
    with pytest.raises(TaskError, match="At most 3 classes"):
        two.add_label("c", LIMITS).add_label("d", LIMITS)
    full = two
    for k in range(2):
        full, _ = full.add_take("low", recorded(600 + k), LIMITS)
    with pytest.raises(TaskError, match="At most 12 clips"):
        full.add_take("low", recorded(700), LIMITS)
    with pytest.raises(TaskError, match="at least two classes"):
        empty.build()
    with pytest.raises(TaskError, match="'c' has no clips yet"):
        two.add_label("c", LIMITS).build()


def test_a_class_name_never_leaves_the_folder(empty):
    now, _ = empty.add_label("../../x", LIMITS).add_take("../../x", recorded(300), LIMITS)
    assert now.rows[0].path.resolve().is_relative_to(empty.folder.resolve())
    assert now.rows[0].label == "../../x"


def test_a_collection_is_written_and_read_into_another_with_the_same_splits(two, tmp_path):
    own.write_zip(two.rows, tmp_path / "mine.zip")
    other = add_zip(collection.new(30), tmp_path / "mine.zip", LIMITS)
    assert other.labels == ("low", "high") and len(other.rows) == 10

    def splits(task):
        return [
            sorted((f.label, f.path.read_bytes()) for f in part)
            for part in (task.train, task.valid, task.test)
        ]

    assert splits(other.build().task) == splits(two.build().task)
    twice = add_zip(other, tmp_path / "mine.zip", DataLimits(3, 40))
    assert len(twice.rows) == 10 == len(files(other.folder))
    assert twice.remarks[-1].kind == "duplicate"


def test_nothing_of_a_refused_zip_stays(two, tmp_path):
    before = sorted(collection.ROOT.rglob("*"))
    own.write_zip(two.rows, tmp_path / "mine.zip")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as zipped:
        zipped.writestr("a/../../x.wav", b"x")
    with pytest.raises(TaskError, match="leads elsewhere"):
        add_zip(two, tmp_path / "bad.zip", LIMITS)
    with pytest.raises(TaskError, match="20 clips; at most 3 and 12"):
        add_zip(two, tmp_path / "mine.zip", LIMITS)
    assert sorted(collection.ROOT.rglob("*")) == before


def test_visitors_files_are_for_this_user_only(two):
    assert {two.folder.parent.stat().st_mode & 0o777, two.folder.stat().st_mode & 0o777} == {0o700}
    for root in (folders.temporary("collections"), EXPORTS):
        assert root.parent == Path(tempfile.gettempdir())
        assert root.name.endswith(f"-{os.getuid()}")


def test_folders_of_visitors_long_gone_are_swept_away(two):
    os.utime(two.folder, (0, 0))
    assert not two.swept
    collection.new(30)
    assert not two.folder.exists() and two.swept
    collection.delete(two)
    collection.delete(None)


def test_links_are_swept_and_what_they_lead_to_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "broken").symlink_to(tmp_path / "nowhere")
    folders.sweep(root, 0)
    assert not list(root.iterdir()) and (tmp_path / "elsewhere").is_dir()


@pytest.mark.parametrize("kind", ["link", "open", "foreign"])
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, kind, monkeypatch):
    folder = tmp_path / "runs"
    folders.make_private(folder)
    folders.make_private(folder)
    if kind == "link":
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    if kind == "open":
        folder.chmod(0o777)
    if kind == "foreign":
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="not yours alone"):
        folders.make_private(folder)


def test_a_label_that_a_spreadsheet_would_run_is_written_as_text(two, tmp_path):
    rows = [replace(row, label="=1+1" if row.label == "low" else row.label) for row in two.rows]
    own.write_zip(rows, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as packed:
        assert b",'=1+1," in packed.read("clips.csv") and b",=1+1," not in packed.read("clips.csv")
    with own.listed(tmp_path / "out.zip") as (read, _):
        assert {row.label for row in read} == {"=1+1", "high"}
