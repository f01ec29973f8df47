"""The command line and its JSON contract, on real clips and the shipped weights."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from softmoa.__main__ import main
from softmoa.weights import ASSETS

DOG = ASSETS / "examples" / "dog_bark.ogg"


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_classify_json_contract(capsys):
    code, out, _ = run(capsys, "classify", str(DOG), "--json", "--top-k", "3")
    report = json.loads(out)
    assert code == 0
    assert list(report) == [
        "file",
        "bundle",
        "backbone",
        "device",
        "duration_s",
        "labels",
        "experts",
        "timing_ms",
    ]
    assert report["file"] == str(DOG) and report["backbone"] == "ast-small"
    assert report["duration_s"] == pytest.approx(1.83, abs=0.05)
    assert len(report["labels"]) == 3
    probabilities = [row["probability"] for row in report["labels"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert [row["layer"] for row in report["experts"]] == list(range(6))
    for row in report["experts"]:
        assert row["site"] == "mhsa" and len(row["share"]) == len(row["contribution"]) == 7
        assert sum(row["share"]) == pytest.approx(1, abs=1e-4)
        assert sum(row["contribution"]) == pytest.approx(1, abs=1e-4)
    assert list(report["timing_ms"]) == ["decode", "features", "forward"]


def test_several_files_get_a_line_each_and_a_bad_one_stops_none(capsys, tmp_path):
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(8000 * 31), 8000)
    files = [str(DOG), "nowhere.wav", str(long)]
    code, out, err = run(capsys, "classify", *files, "--top-k", "2")
    assert code == 2 and [line.partition(": ")[0] for line in out.splitlines()] == files[::2]
    assert "Dog" in out and out.count(" %") == 4
    assert "nowhere.wav: There is no such file" in err and "first 30 s" in err
    code, out, _ = run(capsys, "classify", *files[::2], "--json")
    assert code == 0 and [json.loads(line)["file"] for line in out.splitlines()] == files[::2]


def test_where_results_cannot_be_stored_one_sentence_says_so(capsys):
    code, out, err = run(capsys, "compare", "--task", "tones", "--out", "/proc/none")
    assert (code, out) == (2, "") and "cannot be made" in err and err.count("\n") == 1


def test_a_split_is_drawn_for_ones_own_sounds_alone(capsys, tmp_path):
    out = str(tmp_path / "out")
    code, _, err = run(capsys, "compare", "--task", "tones", "--split-seed", "1", "--out", out)
    assert code == 2 and "split of 'tones' is fixed" in err
    assert run(capsys, "tasks", "--split-seed", "1")[0] == 2


def test_esc10_bundle_names_the_gallery_clips_of_its_classes(capsys):
    for clip, label in (("dog_bark", "dog bark"), ("rain", "rain"), ("rooster", "rooster")):
        path = next((ASSETS / "examples").glob(f"{clip}.*"))
        _, out, _ = run(capsys, "classify", str(path), "--bundle", "esc10-soft-moa", "--json")
        assert json.loads(out)["labels"][0]["label"] == label


def test_classify_as_text(capsys):
    code, out, err = run(capsys, "classify", str(DOG))
    assert code == 0 and "Dog" in out and "layer  6 mhsa" in out and err == ""


def test_a_bundle_may_be_given_by_path(capsys):
    path = ASSETS / "bundles" / "esc10-soft-moa.safetensors"
    code, out, _ = run(capsys, "classify", str(DOG), "--bundle", str(path), "--json")
    assert code == 0 and json.loads(out)["bundle"] == "esc10-soft-moa"


def test_bundles_and_backbones(capsys):
    code, out, _ = run(capsys, "bundles", "--json")
    bundles = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and len(bundles["esc10-soft-moa"]["labels"]) == 10
    code, out, _ = run(capsys, "backbones", "--json")
    assert [row["name"] for row in json.loads(out)] == ["ast-small", "ast-base"]
    assert run(capsys, "bundles")[1].startswith("tags")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["classify", "nowhere.wav"], "no such file"),
        (["classify", str(DOG), "--bundle", "magic"], "no bundle 'magic'"),
        (["classify", str(DOG), "--bundle", "pyproject.toml"], "cannot be read"),
        (
            ["classify", str(DOG), "--backbone", "ast-base", "--bundle", "esc10-soft-moa"],
            "belongs to the backbone 'ast-small'",
        ),
        (["classify", str(DOG), "--backbone", "ast-base"], "use 'ast-small', which is embedded"),
        (["classify", str(DOG), "--backbone", "../nowhere"], "no backbone '../nowhere'"),
        (["classify", "pyproject.toml"], "not a sound file"),
        (["classify", str(DOG), "--top-k", "0"], "--top-k"),
        (["classify", str(DOG), "--top-k", "many"], "--top-k"),
        (["classify"], "file"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(Path(__file__).parents[1])
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words.lower() in err.lower() and err.startswith("Error: ") and err.count("\n") == 1


def test_as_a_real_process():
    command = [sys.executable, "-m", "softmoa", "classify", "nowhere.wav"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_methods_and_tasks(capsys):
    code, out, _ = run(capsys, "methods", "--json")
    methods = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and methods["soft-moa"]["options"]["experts"] == 7
    code, out, _ = run(capsys, "tasks", "--json")
    tasks = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and tasks["instruments"]["available"]
    assert len(tasks["instruments"]["labels"]) == 11


def test_compare_json_contract(capsys, tmp_path):
    code, out, _ = run(
        capsys, "compare", "--task", "tones", "--methods", "linear", "--shots", "3",
        "--epochs", "1", "--seeds", "0,1", "--out", str(tmp_path), "--json",
    )  # fmt: skip
    rows = json.loads(out)
    assert code == 0 and [row["seed"] for row in rows] == [0, 1]
    assert list(rows[0]) == [
        "method", "seed", "trained_parameters", "train_clips", "epochs", "seconds",
        "clips_per_second", "peak_memory_mb", "val_accuracy", "test_accuracy",
    ]  # fmt: skip
    assert rows[0]["train_clips"] == 12 and len(list((tmp_path / "bundles").iterdir())) == 2
    header, *lines = (tmp_path / "results.csv").read_text().splitlines()
    assert header.split(",") == list(rows[0]) and len(lines) == 2


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--task", "birds"], "no task 'birds'"),
        (["--task", "tones", "--methods", "magic"], "no method 'magic'"),
        (["--task", "tones", "--seeds", "one"], "whole numbers"),
        (["--task", "tones", "--methods", "linear,linear"], "named twice"),
        (["--task", "tones", "--seeds", "99999999999999999999"], "below 2^32"),
        (["--task", ""], "no task ''"),
        (["--task", "tones", "--rate", "-1"], "above 0"),
        (["--task", "tones", "--rate", "nan"], "above 0"),
        (["--task", "tones", "--seconds", "inf"], "above 0"),
        (["--task", "tones", "--epochs", "1", "--seconds", "3"], "not by two"),
        (["--task", "tones", "--seconds", "-3"], "--seconds"),
        (["--task", "tones", "--preset", "paper"], "no recipe for 'tones', only for esc50"),
        (["--task", "tones", "--preset", "fast"], "no recipe 'fast'; there are short, paper"),
        (["--task", "tones", "--test", "ba"], "split of 'tones' is fixed"),
        (["--task", "assets", "--test", "ba"], "give your sounds a split"),
        (["--task", "pyproject.toml"], "not a zip file"),
        (["--task", "tones", "--shots", "100000", "--methods", "linear"], "fewer than"),
    ],
)
def test_bad_comparisons_are_one_line_and_exit_2(capsys, tmp_path, arguments, words):
    code, _, err = run(capsys, "compare", *arguments, "--out", str(tmp_path))
    assert code == 2 and words in err and err.count("\n") == 1


BRIEF = ("compare", "--task", "tones", "--methods", "bitfit", "--shots", "2", "--out")


def test_no_comparison_is_written_over_another_or_over_a_file(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, _, err = run(capsys, *BRIEF, str(tmp_path / "file"))
    assert code == 2 and "cannot be made: Not a directory" in err
    (tmp_path / "events.jsonl").write_text("mine")
    code, _, err = run(capsys, *BRIEF, str(tmp_path))
    assert code == 2 and "holds a comparison already" in err
    assert (tmp_path / "events.jsonl").read_text() == "mine"


def test_a_refused_comparison_leaves_its_folder_free(capsys, tmp_path):
    refused = ("compare", "--task", "tones", "--methods", "linear", "--shots", "9999", "--json")
    assert run(capsys, *refused, "--out", str(tmp_path))[0] == 2
    assert run(capsys, *BRIEF, str(tmp_path), "--epochs", "1", "--json")[0] == 0


def test_nothing_finished_is_no_success(capsys, tmp_path):
    code, out, err = run(capsys, *BRIEF, str(tmp_path), "--rate", "1e30", "--json")
    assert code == 1 and json.loads(out) == []
    assert err.startswith("BitFit, seed 0: The run stopped: the loss") and err.count("\n") == 1


def test_interrupted_with_what_was_finished(tmp_path):
    command = [sys.executable, "-m", "softmoa", *BRIEF, str(tmp_path), "--epochs", "1000"]
    # A suite that a shell started in the background ignores interrupts, and so would its children.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout and process.stderr
        for line in process.stdout:
            if "epoch 1," in line:
                process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130 and "Traceback" not in err
    assert err == f"Interrupted; what was finished is in {tmp_path}.\n"
    assert (tmp_path / "events.jsonl").exists()
