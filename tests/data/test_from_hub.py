"""Benchmarks from the Hub: the real client, tiny parquet files of the real layout, refusals."""

import io

import pyarrow
import pyarrow.parquet
import pytest
from hub_server import HubServer, point_at
from refusals import refusal
from sounds import tone, wav

from softmoa.cli import main
from softmoa.data import tasks
from softmoa.data.benchmarks import ON_HUB
from softmoa.data.from_hub import fetch
from softmoa.data.tasks import TaskError

ESC50, CITY = (f"datasets/{ON_HUB[name].hub}" for name in ("esc50", "urbansound8k"))


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
            "audio": {"bytes": wav(tone(300 + 900 * target, seconds=0.2)), "path": None},
        }
        for fold in range(1, 6)
        for target in (0, 1)
    ]


def city_row(fold: int) -> dict:
    name = f"{fold}-3-0-0.wav"
    row = {"slice_file_name": name, "fsID": fold, "start": 0.0, "end": 0.2, "salience": 1}
    row |= {"fold": fold, "classID": 3, "class": "dog_bark"}
    return row | {"audio": {"bytes": wav(tone(500, seconds=0.2)), "path": name}}


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


def unfetched() -> str:
    message = refusal(TaskError, fetch, "esc50")
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
    assert "the Hub cannot be reached" in unfetched()
    assert main(["fetch", "esc50"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


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
    assert words in unfetched()
    assert not list(tasks.data_root().parent.rglob("evil.wav"))
