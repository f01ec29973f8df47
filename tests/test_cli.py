"""The command line and its JSON contract, on real clips and the shipped weights."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import write

from softmoa.cli import main
from softmoa.data.audio import load
from softmoa.methods import METHODS, attach, bundle, share, trained_state
from softmoa.methods.bundle import BundleInfo
from softmoa.model.weights import ASSETS, load_backbone

DOG = ASSETS / "examples" / "dog_bark.ogg"


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_several_files_get_a_line_each_and_a_bad_one_stops_none(capsys, tmp_path):
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(8000 * 31), 8000)
    files = [str(DOG), "nowhere.wav", str(long)]
    code, out, err = run(capsys, "classify", *files, "--top-k", "2")
    assert code == 2 and [line.partition(": ")[0] for line in out.splitlines()] == files[::2]
    assert "Dog" in out and out.count("%") == 4
    assert "nowhere.wav: There is no such file" in err and "first 30 s" in err
    code, out, _ = run(capsys, "classify", *files[::2], "--json")
    said = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [line["file"] for line in said] == files[::2]
    assert "notes" not in said[0] and "Only the first 30 s were used." in said[1]["notes"]


def test_a_long_sound_is_told_as_stretches_of_time(capsys, tmp_path):
    dog, rain = (
        load(ASSETS / "examples" / f"{name}.ogg").waveform for name in ("dog_bark", "rain")
    )
    sound = np.concatenate([dog.repeat(8)[: 10 * 16_000], rain.repeat(20)[: 35 * 16_000]])
    path = str(write(tmp_path / "both.wav", sound))
    arguments = "timeline", path, "--bundle", "esc10-soft-moa"
    code, out, err = run(capsys, *arguments)
    assert (code, err.strip()) == (0, "")  # no bar where nobody looks
    assert out == "0.00\t10.00\tdog bark\n10.00\t45.00\train\n"
    report = json.loads(run(capsys, *arguments, "--json", "--overlap", "0.5")[1])
    assert report["duration_s"] == 45 and len(report["windows"]) == 17
    assert report["windows"][-1]["labels"][0]["label"] == "rain" and len(report["places"]) == 6
    code, out, err = run(capsys, "timeline", "nowhere.wav")
    assert (code, out) == (2, "") and err.startswith("Error: nowhere.wav: There is no such file")
    assert run(capsys, "classify", "nowhere.wav") == (code, out, err)


def test_without_a_command_the_help_is_shown(capsys):
    code, out, err = run(capsys)
    assert code == 2 and "Usage:" in out + err and "classify" in out + err
    assert "Error" not in out + err


def test_a_spreadsheet_takes_no_label_of_a_timeline_for_a_formula(capsys, tmp_path):
    base = load_backbone("ast-small")
    model, label = share(base.model), "=1+1"
    attach(model, "linear", METHODS["linear"].options(), 1)
    head = {"base": base.name, "base_sha256": base.sha256}
    info = BundleInfo("x", "x", "linear", {}, (label,), **head)
    bundle.save(tmp_path / "x.safetensors", trained_state(model), info)
    _, out, _ = run(capsys, "timeline", str(DOG), "--bundle", str(tmp_path / "x.safetensors"))
    assert out.rstrip().split("\t")[-1] == f"'{label}"


def test_where_results_cannot_be_stored_one_sentence_says_so(capsys):
    code, out, err = run(capsys, "compare", "--task", "tones", "--out", "/proc/none")
    assert (code, out) == (2, "") and "/proc/none" in err and err.count("\n") == 1


def test_esc10_bundle_names_the_gallery_clips_of_its_classes(capsys):
    for clip, label in (("dog_bark", "dog bark"), ("rain", "rain"), ("rooster", "rooster")):
        path = next((ASSETS / "examples").glob(f"{clip}.*"))
        _, out, _ = run(capsys, "classify", str(path), "--bundle", "esc10-soft-moa", "--json")
        assert json.loads(out)["labels"][0]["label"] == label


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["classify", str(DOG), "--bundle", "pyproject.toml"], "cannot be read"),
        (
            ["classify", str(DOG), "--backbone", "ast-base", "--bundle", "esc10-soft-moa"],
            "belongs to the backbone 'ast-small'",
        ),
        (["classify", str(DOG), "--backbone", "ast-base"], "use 'ast-small', which is embedded"),
        (["classify", str(DOG), "--backbone", "../nowhere"], "no backbone '../nowhere'"),
        (["classify", "pyproject.toml"], "not a sound file"),
        (["classify", str(DOG), "--device", "cuda:9"], "no device 'cuda:9' here; there are auto,"),
        (["classify", str(DOG), "--top-k", "0"], "--top-k"),
        (["classify"], "file"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(Path(__file__).parents[1])
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words.lower() in err.lower() and err.startswith("Error: ") and err.count("\n") == 1


def test_compare_with_every_seed(capsys, tmp_path):
    code, out, _ = run(
        capsys, "compare", "--task", "tones", "--methods", "linear", "--shots", "3",
        "--epochs", "1", "--seeds", "0,1", "--out", str(tmp_path), "--json",
    )  # fmt: skip
    rows = json.loads(out)
    assert code == 0 and [row["seed"] for row in rows] == [0, 1]
    assert rows[0]["train_clips"] == 12 and len(list((tmp_path / "bundles").iterdir())) == 2
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--task", "tones", "--seeds", "one"], "whole numbers"),
        (["--task", "tones", "--methods", "linear,linear"], "named twice"),
        (
            [
                "--task",
                "tones",
                "--methods",
                "linear,adapter",
                "--seeds",
                ",".join(map(str, range(101))),
            ],
            "202 runs are more",
        ),
        (["--task", "tones", "--rate", "nan"], "rate"),
        (
            ["--task", "tones", "--methods", "linear:rate=-1"],
            "must be greater than 0",
        ),
        (["--task", "tones", "--start", "warm"], "--start"),
        (["--task", "tones", "--epochs", "1", "--seconds", "3"], "not by two"),
        (["--task", "tones", "--preset", "paper"], "no recipe for 'tones', only for esc50"),
        (["--task", "tones", "--test", "ba"], "split of 'tones' is fixed"),
        (["--task", "initials", "--folds", "1,9"], "no '9' in 'initials'; there are 1, 2, 3, 4, 5"),
        (["--task", "tones", "--folds", "all"], "'tones' has no folds; its split is fixed."),
        (["--task", "tones", "--methods", "soft-moa:experts=0"], "experts must be greater"),
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
    assert code == 2 and err == f"Error: File exists: {tmp_path / 'file'}.\n"
    (tmp_path / "events.jsonl").write_text("mine")
    code, _, err = run(capsys, *BRIEF, str(tmp_path))
    assert code == 2 and "holds no comparison that can be read" in err
    assert (tmp_path / "events.jsonl").read_text() == "mine"


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
    assert err == "\nInterrupted; what was finished is kept.\n"
    assert (tmp_path / "events.jsonl").exists()
