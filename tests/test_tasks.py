"""Datasets in their official layouts: tiny trees, and the real files where they are."""

import numpy as np
import pytest
import soundfile

from softmoa import tasks
from softmoa.tasks import TaskError


def test_esc10_layout(tmp_path, monkeypatch):
    for folder in ("001 - Dog bark", "002 - Rain"):
        (tmp_path / "esc10" / folder).mkdir(parents=True)
        for name in ("1-100032-A.ogg", "4-1-A.ogg", "5-9032-B.ogg"):
            soundfile.write(tmp_path / "esc10" / folder / name, np.zeros(8000), 16000)
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path))
    task = tasks.load("esc10")
    assert task.labels == ("dog bark", "rain") and task.groups == ("1", "4", "5")
    assert [file.label for file in task.split("5")] == [0, 1]
    assert [file.group for file in task.train + task.valid + task.test] == ["1"] * 2 + ["4"] * 2 + [
        "5"
    ] * 2
    assert {file.group for file in tasks.load("esc10", test="1", valid="5").test} == {"1"}
    assert [mel.shape for mel, _ in tasks.log_mels(task.split("1"))] == [(48, 128)] * 2


def test_fsdd_layout(tmp_path, monkeypatch):
    (tmp_path / "fsdd").mkdir()
    for name in ("3_theo_0.wav", "7_george_49.wav", "1_yweweler_3.wav"):
        soundfile.write(tmp_path / "fsdd" / name, np.zeros(4000), 8000)
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path))
    task = tasks.load("digits")
    assert task.groups == ("george", "theo", "yweweler")
    for split, digit in ((task.train, "seven"), (task.valid, "three"), (task.test, "one")):
        assert [task.labels[file.label] for file in split] == [digit]


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path))
    with pytest.raises(TaskError, match="no task 'birds'; there are instruments"):
        tasks.load("birds")
    with pytest.raises(TaskError, match="data of 'esc10' are not in"):
        tasks.load("esc10")
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(TaskError, match="set SOFTMOA_DATA"):
        tasks.load("esc10")


def test_the_real_esc10(data):
    task = tasks.load("esc10")
    assert len(task.files) == 400 and task.groups == ("1", "2", "3", "4", "5")
    assert all(len(task.split(fold)) == 80 for fold in task.groups)
    counts = [sum(file.label == k for file in task.files) for k in range(10)]
    assert counts == [40] * 10 and task.labels[0] == "dog bark"


def test_the_real_fsdd(data):
    task = tasks.load("digits")
    assert len(task.files) == 3000 and len(task.groups) == 6
    assert all(len(task.split(speaker)) == 500 for speaker in task.groups)


EMBEDDED = [name for name, source in tasks.TASKS.items() if isinstance(source, tasks.Embedded)]


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_tasks_hold_sound_and_share_nothing_between_splits(name):
    task = tasks.load(name)
    heard: dict[bytes, str] = {}
    groups: dict[str, set[str]] = {}
    for split in tasks.SPLITS:
        files = getattr(task, split)
        assert {file.label for file in files} == set(range(len(task.labels)))
        groups[split] = {file.group for file in files}
        for file in files:
            samples, rate = soundfile.read(file.path, dtype="float32")
            assert rate == 16_000 and samples.ndim == 1 and 0.2 < len(samples) / rate < 2
            assert np.sqrt(np.mean(samples**2)) > 1e-3
            key = np.round(samples * 2000).astype(np.int16).tobytes()
            assert heard.setdefault(key, split) == split, f"{file.path} is also in {heard[key]}"
    assert not groups["train"] & groups["test"] and not groups["valid"] & groups["test"]
    assert not groups["train"] & groups["valid"]


def test_embedded_tasks_are_small():
    files = [path for path in tasks.EMBEDDED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10e6


def test_few_shots_are_balanced_nested_and_seeded():
    task = tasks.load("tones")
    five, ten, other = (tasks.few_shot(task, n, seed) for n, seed in ((5, 0), (10, 0), (5, 1)))
    assert five.counts["train"] == (5,) * len(task.labels)
    assert set(five.train) < set(ten.train) < set(task.train)
    assert five.train == tasks.few_shot(task, 5, 0).train != other.train
    assert (five.valid, five.test) == (task.valid, task.test)
    for shots in (0, 10_000):
        with pytest.raises(TaskError):
            tasks.few_shot(task, shots)


def test_log_mels_come_from_the_cache_until_it_is_full(tmp_path):
    paths = []
    for k in range(3):
        paths.append(tmp_path / f"{k}.wav")
        soundfile.write(paths[-1], np.full(16_000, 0.1 * k), 16_000)
    cache = tasks.MelCache(limit=98 * 128 * 4 * 2)
    first = cache.log_mel(paths[0], 10)
    assert cache.log_mel(paths[0], 10) is first
    cache.log_mel(paths[1], 10)
    cache.log_mel(paths[2], 10)
    assert len(cache) == 2 and cache.bytes <= cache.limit
    assert cache.log_mel(paths[0], 10) is not first
