"""Benchmarks from the Hub: the real client, tiny parquet files of the real layout, refusals."""

import io
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from hub_server import HubServer
from test_hub import point_at

from softmoa import tasks
from softmoa.__main__ import main
from softmoa.tasks import TaskError
from softmoa.tasks.from_hub import DATASETS, fetch

ESC50, CITY = (f"datasets/{DATASETS[name].repository.id}" for name in ("esc50", "urbansound8k"))


def wav(pitch: float) -> bytes:
    file = io.BytesIO()
    sound = 0.3 * np.sin(2 * np.pi * pitch * np.arange(3200) / 16000)
    soundfile.write(file, sound, 16000, format="WAV")
    return file.getvalue()


def parquet(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def esc50_rows() -> list[dict]:
    """Two classes in five folds, of which one is ESC-10's."""
    return [
        {
            "filename": f"{fold}-{100 + target}-A-{target}.wav",
            "fold": fold,
            "target": target,
            "category": ("dog", "crow_call")[target],
            "esc10": target == 0,
            "src_file": 100 + target,
            "take": "A",
            "audio": {"bytes": wav(300 + 900 * target), "path": None},
        }
        for fold in range(1, 6)
        for target in (0, 1)
    ]


def city_row(fold: int) -> dict:
    name = f"{fold}-3-0-0.wav"
    row = {"slice_file_name": name, "fsID": fold, "start": 0.0, "end": 0.2, "salience": 1}
    row |= {"fold": fold, "classID": 3, "class": "dog_bark"}
    return row | {"audio": {"bytes": wav(500), "path": name}}


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The Hub with ESC-50 in two files and UrbanSound8K in one; SOFTMOA_DATA is empty."""
    rows = esc50_rows()
    files = {
        "README.md": b"# ESC-50",
        "data/train-00000-of-00002.parquet": parquet(rows[:4]),
        "data/train-00001-of-00002.parquet": parquet(rows[4:]),
    }
    city = {"data/train-00000-of-00001.parquet": parquet([city_row(f) for f in range(1, 11)])}
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path / "data"))
    with HubServer({ESC50: files, CITY: city}) as server:
        point_at(monkeypatch, server.endpoint, tmp_path / "cache")
        yield server


def refusal(name: str = "esc50") -> str:
    with pytest.raises(TaskError) as error:
        fetch(name)
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and "Error" not in message
    assert list(tasks.data_root().iterdir()) == []  # nothing of a refused download stays
    return message


def test_a_benchmark_is_laid_out_as_its_authors_publish_it(server):
    assert fetch("esc50") == tasks.data_root() / "ESC-50-master"
    table = (tasks.data_root() / "ESC-50-master" / "meta" / "esc50.csv").read_text().splitlines()
    assert table[0] == "filename,fold,target,category,esc10,src_file,take"
    assert table[1] == "1-100-A-0.wav,1,0,dog,True,100,A" and len(table) == 11
    task = tasks.load("esc50")
    assert task.labels == ("dog", "crow call") and task.groups == ("1", "2", "3", "4", "5")
    assert len(tasks.log_mels(task.test)) == 2
    assert tasks.load("esc10").labels == ("dog bark",)
    asked = len(server.log)
    assert fetch("esc10") == tasks.data_root() / "ESC-50-master" and len(server.log) == asked


def test_city_sounds_keep_their_folds(server):
    fetch("urbansound8k")
    task = tasks.load("urbansound8k")
    assert [file.path.parts[-2:] for file in task.test] == [("fold10", "10-3-0-0.wav")]
    assert task.groups == tuple(map(str, range(1, 11)))


def test_offline_is_one_sentence(server, capsys):
    server.__exit__()
    assert "cannot be listed, since the Hub cannot be reached" in refusal()
    assert main(["fetch", "esc50"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_on_the_command_line(server, capsys):
    with pytest.raises(TaskError, match="`python -m softmoa fetch esc50` gets them"):
        tasks.load("esc50")
    assert main(["fetch", "esc50"]) == 0
    assert "2 classes; 6 clips to train on, 2 to validate, 2 to test." in capsys.readouterr().out
    assert main(["fetch", "tones"]) == 2
    assert "esc10, esc50, urbansound8k are" in capsys.readouterr().err


def test_a_file_that_is_no_parquet_is_refused(server):
    server.repositories[ESC50]["data/train-00000-of-00002.parquet"] = b"no parquet"
    assert "train-00000-of-00002.parquet of 'ashraq/esc50' cannot be read" in refusal()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filename": "../../evil.wav"}, "is a path"),
        ({"filename": ".."}, "is a path"),
        ({"audio": None}, "has no sound"),
        ({"fold": ...}, "has no column 'fold'"),
    ],
)
def test_rows_that_are_refused(server, change, words):
    row = {key: value for key, value in (esc50_rows()[0] | change).items() if value is not ...}
    more = esc50_rows()[1]
    if "fold" not in row:
        del more["fold"]
    server.repositories[ESC50] = {"data/train-00000-of-00001.parquet": parquet([more, row])}
    assert words in refusal()
    assert not list(tasks.data_root().parent.rglob("evil.wav"))


def test_a_repository_without_parquet_or_none_at_all(server):
    server.repositories[ESC50] = {"README.md": b""}
    assert "holds no parquet files" in refusal()
    del server.repositories[ESC50]
    assert "There is no 'ashraq/esc50' on the Hub" in refusal()


def test_without_pyarrow(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install '.[hub-datasets]'" in refusal()
    assert server.log == []
