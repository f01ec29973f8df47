"""Labelled data: the embedded tasks, official layouts on tiny trees, few shots, the cache."""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from softmoa.data import tasks
from softmoa.data.tasks import SPLITS, MelCache, TaskError, few_shot

EMBEDDED = ("instruments", "tones", "initials", "words")


def rows_of(name: str) -> list[dict[str, str]]:
    with (tasks.EMBEDDED / name / "manifest.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """ESC-10 and FSDD in their official layouts, very small."""
    for folder in ("001 - Dog bark", "002 - Rain"):
        (tmp_path / "esc10" / folder).mkdir(parents=True)
        for name in ("1-100032-A.ogg", "4-181286-A.ogg", "5-9032-A.ogg"):
            soundfile.write(tmp_path / "esc10" / folder / name, np.zeros(8000), 16000)
    (tmp_path / "fsdd").mkdir()
    for name in ("3_theo_0.wav", "7_george_49.wav", "0_yweweler_1.wav"):
        soundfile.write(tmp_path / "fsdd" / name, np.zeros(4000), 8000)
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path))
    return tmp_path


# --- embedded tasks -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EMBEDDED)
def test_no_group_is_in_two_splits(name):
    splits: dict[str, set[str]] = {}
    for row in rows_of(name):
        splits.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_folds_of_initials_test_every_clip_once_and_share_no_syllable():
    assert tasks.folds("initials") == ("1", "2", "3", "4", "5")
    tested: set[Path] = set()
    for fold in tasks.folds("initials"):
        task = tasks.load("initials", fold)
        assert {len(task.labels)} == {22} and min(task.counts["train"]) >= 10
        assert not {f.group for f in task.train} & {f.group for f in (*task.valid, *task.test)}
        assert not {f.group for f in task.valid} & {f.group for f in task.test}
        tested |= {file.path for file in task.test}
    assert len(tested) == 961 == len(tasks.load("initials").files)


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_clip_is_usable_and_none_occurs_in_two_splits(name):
    seconds = {"instruments": 1.25, "tones": 0.36, "initials": 0.36, "words": 1.0}[name]
    heard: dict[bytes, str] = {}
    for row in rows_of(name):
        samples, rate = soundfile.read(tasks.EMBEDDED / name / row["path"], dtype="float32")
        assert rate == 16000 and samples.shape == (round(seconds * 16000),), row["path"]
        assert float(row["seconds"]) == seconds
        assert 0.01 < np.sqrt(np.mean(samples**2)) and np.abs(samples).max() <= 1.1, row["path"]
        rounded = np.round(samples * 2000).astype(np.int16).tobytes()
        assert heard.setdefault(rounded, row["split"]) == row["split"], row["path"]


# --- few shots ------------------------------------------------------------------------------------


def test_few_shots_are_balanced_nested_and_seeded():
    task = tasks.load("instruments")
    five, ten = few_shot(task, 5, seed=1), few_shot(task, 10, seed=1)
    assert five.counts["train"] == (5,) * 11 and ten.counts["train"] == (10,) * 11
    assert set(five.train) < set(ten.train) < set(task.train)
    assert (five.valid, five.test) == (task.valid, task.test)
    assert five == few_shot(task, 5, seed=1)
    assert five != few_shot(task, 5, seed=2)


# --- official layouts -----------------------------------------------------------------------------


def test_esc10_layout(tree):
    task = tasks.load("esc10")
    assert task.labels == ("dog bark", "rain") and task.groups == ("1", "4", "5")
    assert [file.group for file in task.train + task.valid + task.test] == list("114455")
    assert [file.label for file in task.test] == [0, 1]
    assert [mel.shape for mel, _ in tasks.log_mels(task.test)] == [(48, 128)] * 2
    other = tasks.load("esc10", test="1", valid="5")
    assert {file.group for file in other.test} == {"1"} and other.train == task.valid


def test_the_real_esc10(data):
    task = tasks.load("esc10")
    assert Counter(file.group for file in task.files) == dict.fromkeys("12345", 80)
    assert task.counts == {"train": (24,) * 10, "valid": (8,) * 10, "test": (8,) * 10}
    assert task.labels[0] == "dog bark"


def test_the_real_fsdd(data):
    task = tasks.load("digits")
    assert sorted(Counter(file.group for file in task.files).values()) == [500] * 6
    assert [len(getattr(task, split)) for split in SPLITS] == [2000, 500, 500]


# --- manifests and log-mels -----------------------------------------------------------------------


def test_a_clip_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(TaskError, match=f"{tmp_path.name}/a.wav: The file is empty"):
        tasks.log_mels([tasks.LabelledFile(tmp_path / "a.wav", 0, "")])


def test_the_cache_remembers_forgets_and_notices_changes(tmp_path):
    paths = [tmp_path / f"{k}.wav" for k in range(3)]
    for path in paths:
        soundfile.write(path, np.zeros(16000), 16000)  # 98 frames
    cache = MelCache(2 * 98 * 128 * 4)
    first = cache.log_mel(paths[0], 10)
    assert cache.log_mel(paths[0], 10) is first and cache.bytes == 98 * 128 * 4
    assert len(cache.log_mel(paths[0], 0.5)) == 48 and cache.bytes == (98 + 48) * 128 * 4
    cache.log_mel(paths[1], 10)  # the first, longest unused, has to go
    assert cache.bytes == (48 + 98) * 128 * 4
    assert cache.log_mel(paths[0], 10) is not first
    second = cache.log_mel(paths[1], 10)
    soundfile.write(paths[1], 0.1 * np.sin(np.arange(16000)), 16000)
    os.utime(paths[1], ns=(1, 1))
    assert not second.equal(cache.log_mel(paths[1], 10))
    assert cache.bytes <= cache.limit
