"""Datasets in their official layouts: tiny trees, and the real files where they are."""

import numpy as np
import pytest
import soundfile

from softmoa import tasks
from softmoa.tasks import TaskError


def test_esc10_layout(tmp_path, monkeypatch):
    for folder in ("001 - Dog bark", "002 - Rain"):
        (tmp_path / "esc10" / folder).mkdir(parents=True)
        for name in ("1-100032-A.ogg", "5-9032-B.ogg"):
            soundfile.write(tmp_path / "esc10" / folder / name, np.zeros(8000), 16000)
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path))
    task = tasks.load("esc10")
    assert task.labels == ("dog bark", "rain") and task.groups == ("1", "5")
    assert [file.label for file in task.split("5")] == [0, 1]
    assert [mel.shape for mel, _ in tasks.log_mels(task.split("1"))] == [(48, 128)] * 2


def test_fsdd_layout(tmp_path, monkeypatch):
    (tmp_path / "fsdd").mkdir()
    for name in ("3_theo_0.wav", "7_george_49.wav"):
        soundfile.write(tmp_path / "fsdd" / name, np.zeros(4000), 8000)
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path))
    task = tasks.load("digits")
    assert task.groups == ("george", "theo")
    assert [task.labels[file.label] for file in task.split("theo")] == ["three"]


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path))
    with pytest.raises(TaskError, match="no task 'birds'; there are esc10"):
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
