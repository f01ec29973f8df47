"""The paper's table from the command line: official layouts, a backbone of the Hub, stopped and
gone on with."""

import csv
from pathlib import Path
from statistics import mean, stdev

import pytest
from hub_server import HubServer, point_at
from sounds import tone, write
from test_hub import NAME, TINY, checkpoint

from softmoa.cli import main
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.model import weights
from softmoa.training import reproduce


@pytest.fixture
def hub(tmp_path, monkeypatch):
    files = checkpoint(tmp_path / "checkpoint", **TINY)
    with HubServer({NAME: files}) as server:
        point_at(monkeypatch, server.endpoint, tmp_path / "cache")
        yield server
    weights.load_backbone.cache_clear()
    reproduce._inputs.cache_clear()


def sound(path: Path, hertz: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, tone(hertz, seconds=0.25, peak=0.3))


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A handful of ESC-50 and of Speech Commands, as their authors lay them out."""
    root = tmp_path / "data"
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, name in enumerate(("dog", "rain")):
            for take in "AB":
                file = f"{fold}-{target}-{take}-{target}.wav"
                sound(root / "ESC-50-master" / "audio" / file, 300 + 900 * target + 10 * fold)
                rows.append(f"{file},{fold},{target},{name},False,{target},{take}")
    (root / "ESC-50-master" / "meta").mkdir()
    (root / "ESC-50-master" / "meta" / "esc50.csv").write_text("\n".join(rows))
    words = root / "SpeechCommands"
    for k, word in enumerate(("cat", "off")):
        for speaker in "abcdef":
            sound(words / word / f"{speaker}_nohash_0.wav", 300 + 900 * k)
    for file, speaker in (("validation_list.txt", "e"), ("testing_list.txt", "f")):
        names = [f"{word}/{speaker}_nohash_0.wav" for word in ("cat", "off")]
        (words / file).write_text("\n".join(names))
    monkeypatch.setenv("SOFTMOA_DATA", str(root))
    return root


def rows(out: Path, benchmark: str) -> dict[str, dict[str, str]]:
    found = {}
    for path in out.glob(f"{benchmark}/*/results.csv"):
        with path.open(newline="") as table:
            [found[path.parent.name]] = csv.DictReader(table)
    return found


COMMAND = ["reproduce", "esc50", "--backbone", NAME, "--methods", "linear,soft-moa", "--folds",
           "1,2", "--epochs", "1", "--device", "cpu", "--out"]  # fmt: skip


def test_a_table_that_was_stopped_goes_on(hub, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    events = reproduce.Cell.events

    def stopped(cell):
        if cell.entry == "soft-moa":
            raise KeyboardInterrupt
        return events(cell)

    monkeypatch.setattr(reproduce.Cell, "events", stopped)
    assert main([*COMMAND, str(out)]) == 130
    assert list(rows(out, "esc50")) == ["fold1-linear-seed0"]
    [log] = out.glob("esc50/*/events.jsonl")
    written = log.stat().st_mtime_ns
    monkeypatch.setattr(reproduce.Cell, "events", events)
    assert main([*COMMAND, str(out)]) == 0
    assert log.stat().st_mtime_ns == written
    found = rows(out, "esc50")
    assert len(found) == 4 and {row["device"] for row in found.values()} == {"cpu"}
    page = (out / "esc50" / "results.md").read_text()
    assert "4 of 4 runs are over, on cpu: 1 epochs, batch 32" in page
    for name, title in (("linear", "Linear probe"), ("soft-moa", "Soft-MoA")):
        accuracy = [100 * float(found[f"fold{k}-{name}-seed0"]["test_accuracy"]) for k in (1, 2)]
        [line] = [line for line in page.splitlines() if line.startswith(f"| {title} |")]
        assert f"| {mean(accuracy):.2f} ± {stdev(accuracy):.2f} | 2 |" in line
    assert "| 75.85 |" in page  # of the linear probe on ESC-50, as published
    [bundle] = out.glob("esc50/fold2-soft-moa-seed0/bundles/*")
    opened = open_classifier(str(bundle), NAME)
    assert opened.labels == ("dog", "rain") and opened.info.device == "cpu"
    assert len(classify(opened, data / "ESC-50-master/audio/1-0-A-0.wav").records) == 2
    again = [*COMMAND, str(out)]
    again[again.index("--epochs") + 1] = "2"
    capsys.readouterr()
    assert main(again) == 2
    assert "holds a run of other epochs or shots" in capsys.readouterr().err


def test_a_fixed_split_and_processes_that_share_it(hub, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = ["reproduce", "speech-commands", "--backbone", NAME, "--methods", "linear,bitfit",
               "--epochs", "1", "--out", str(out)]  # fmt: skip
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)  # each finds what there is
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, names in (("0", {"linear-seed0"}), ("1", {"linear-seed0", "bitfit-seed0"})):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert main(command) == 0
        assert ("1 epochs of batch" in capsys.readouterr().out) == (rank == "0")
        assert rows(out, "speech-commands").keys() == names


def test_a_dry_run_without_data_or_weights(tmp_path, monkeypatch, capsys):
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path))
    monkeypatch.setattr(reproduce, "ASTConfig", lambda **_: weights.ASTConfig(
        32, 2, 4, 64, max_frames=64, classes=0, pool="mean"))  # fmt: skip
    command = ["reproduce", "urbansound8k", "--methods", "soft-moa", "--seeds", "0,1", "--dry-run"]
    assert main(command) == 0
    said, progress = capsys.readouterr()
    assert progress == "[1/1] measuring Soft-MoA\n"
    assert "20 runs (1 methods, 10 folds, 2 seeds), 30 epochs of batch 32, on cpu" in said
    assert "ast-base is not here" in said and "the data are not here" in said


@pytest.mark.parametrize(
    "arguments, words",
    [(["digits"], "no table for 'digits'"), (["esc50", "--methods", "x"], "no row 'x'"),
     (["esc50", "--folds", "9"], "no fold '9'"), (["urbansound8k"], "are not in")],
)  # fmt: skip
def test_what_cannot_be_run_is_one_sentence(data, arguments, words, capsys):
    assert main(["reproduce", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
