"""Comparisons behind the tab, in this process: what they leave behind, and the keys to them."""

import json
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import gradio as gr
import pytest

from softmoa.data import tasks
from softmoa.data.limits import Limits, limits
from softmoa.data.values import InputError
from softmoa.lens.classifier import open_classifier
from softmoa.methods import METHODS
from softmoa.model.weights import ASSETS, load_backbone
from softmoa.training import recipes
from softmoa.training.plan import plan
from softmoa.training.scoreboard import Scoreboard
from softmoa.ui import checks, compare, compare_form, compare_runs, comparing, jobs, standings
from softmoa.ui.jobs import Job

EXAMPLE = ASSETS / "comparisons" / "initials.zip"


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """Where comparisons are kept meanwhile."""
    monkeypatch.setattr(comparing, "runs", lambda: tmp_path)
    return tmp_path


def asked(*methods: str, epochs: int = 1, shots: int = 2):
    config = load_backbone(comparing.BACKBONE).model.config
    return plan(methods, recipes.SHORT, epochs, config=config, shots=shots)


def test_a_finished_run_can_be_found_classified_with_and_reopened():
    task = tasks.load("tones")
    job = comparing.begin(task, asked("linear"))
    with job.watched():
        job.wait(300)
    assert job.state == "finished"
    run = comparing.finished_run(job, "Linear probe, seed 0")
    key = comparing.bundle_key(job, run)
    path = comparing.bundle_of_key(key)
    assert str(path.parent) not in key and open_classifier(str(path)).labels == task.labels
    for other in ("", "run/x/y", "esc10-soft-moa", f"run/{job.id}/none", str(path)):
        assert comparing.bundle_of_key(other) is None

    again = comparing.reopen(compare_runs.files(job)[1])
    assert again.over and again.task is not None
    assert comparing.finished_run(again, run.run).predicted == run.predicted
    assert comparing.bundle_path(again, run).read_bytes() == path.read_bytes()
    plain = comparing.reopen(job.folder / "events.jsonl")
    assert comparing.bundle_path(plain, run) is None


def test_a_router_collapses_in_the_second_recording(folder):
    """In every seed top-1 leaves 5 of 16 experts without work in each layer; with Switch's loss
    one at most."""
    board = Scoreboard().add_all(comparing.example("collapse").events)
    idle = {
        run: [sum(share < 0.005 for share in layer) for layer in course[-1].share]
        for run, course in board.balance.items()
    }
    assert len(idle) == 9
    for run, layers in idle.items():
        if run.startswith("Top-k"):
            assert max(layers) <= 1 if "loss" in run else min(layers) >= 5, run
    assert "work: Top-k MoA, experts 16 (4.3 of 16). Not: Soft" in standings.verdict(board)[1]


def test_a_run_with_experts_to_see_is_chosen_first(folder):
    job = comparing.example("initials")
    board = Scoreboard().add_all(job.events)
    best = compare_runs.preselected(job, board)
    assert best == "Soft-MoA, experts 16, fold 1, seed 0"
    board.finished = [
        replace(run, test_accuracy=1.0) if run.method.startswith("adapter") else run
        for run in board.finished
    ]
    assert compare_runs.preselected(job, board) == best
    board.balance.clear()
    assert compare_runs.preselected(job, board).startswith("Bottleneck adapter")


def test_a_race_says_on_what_it_was_and_that_it_was_recorded(folder):
    job = comparing.example("initials")
    said = compare.progress(job, Scoreboard().add_all(job.events))
    assert "Recorded race: Mandarin initials. The first consonant of a syllable" in said
    assert "; all training clips, 961 test clips, on cpu. Done: 35 of 35 runs in 65 min." in said
    job = Job(folder=folder / "x", events=job.events, state="finished")
    assert ">Mandarin initials; all" in compare.progress(job, Scoreboard().add_all(job.events))


def test_the_estimate_says_that_it_is_on_its_way():
    first, second = compare_form.estimating(*FORM)
    assert first == "Estimating…" and second.startswith("1 runs, about **")


def test_what_visitors_bring_pushes_out_nobodys_own(folder):
    mine = folder / jobs.new_id()
    mine.mkdir()
    saved(mine)
    brought = [comparing.reopen(EXAMPLE).id for _ in range(comparing.MOST_REOPENED + 2)]
    comparing.sweep()
    assert comparing.find(mine.name).state == "finished"
    assert [identity for identity in brought if comparing.find(identity)] == brought[2:]
    kept, runs = comparing.find(brought[-1]).events, 35
    assert sum(type(event).__name__ == "RunEvent" for event in kept) < 20 * runs


def test_who_brings_many_pushes_out_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(comparing, "runs", lambda: tmp_path)
    few = comparing.reopen(EXAMPLE, address=b"few")
    many = [
        comparing.reopen(EXAMPLE, address=b"many").id for _ in range(comparing.MOST_REOPENED + 2)
    ]
    comparing.sweep()
    assert comparing.find(few.id) and [each for each in many if comparing.find(each)] == many[3:]


def saved(folder: Path, **plan) -> Path:
    """The recorded comparison with another plan, as a file of a stranger's."""
    with zipfile.ZipFile(EXAMPLE) as packed:
        first, *others = packed.read("events.jsonl").decode().splitlines()
    lines = [json.dumps(json.loads(first) | plan), *others]
    (folder / "events.jsonl").write_text("\n".join(lines))
    return folder / "events.jsonl"


@pytest.mark.parametrize(
    "change",
    [
        {"task": "/tmp/other/instruments"},
        {"runs": [{"run": str(k), "method": "linear", "seed": k, "trained_parameters": 1,
                   "learning_rate": 1.0, "options": {}} for k in range(201)]},
    ],
)  # fmt: skip
def test_a_comparison_that_none_wrote_is_refused(folder, change):
    assert comparing.reopen(saved(folder)).over
    with pytest.raises(tasks.TaskError, match="holds no comparison that can be read"):
        comparing.reopen(saved(folder, **change))


def test_a_link_lets_others_watch_but_not_stop(monkeypatch):
    form = [*FORM[:2], ["soft-moa"], *FORM[3:5], 30, *FORM[6:]]
    identity, began = compare_form.begin(*form, "", [])
    job = comparing.find(identity)
    assert began == [job.key]
    with job.watched():
        with pytest.raises(gr.Error, match="Only the browser that started"):
            compare_form.stop(identity, [identity])
        for stranger in ([], None, "x" * 12, [identity]):
            compare_form.open_recorded("initials", identity, stranger)
        assert not job.asked_to_stop and not job.over
        compare_form.stop(identity, began)
        job.wait(60)
    assert job.state == "stopped"


FORM = ["tones", [], ["linear"], 5, "epochs", 2, 1, "short", True, False, True, "", False]


@pytest.mark.parametrize(
    "place, value, words",
    [
        (0, "birds", "Choose a task"),
        (2, [], "at least one method"),
        (3, 7, "number of clips"),
        (5, float("nan"), "Choose 1 to 30"),
        (6, 4, "1 to 3 seeds"),
        (11, "magic:experts=2", "no method 'magic'"),
        (11, "linear", "takes part once"),
        (12, True, "has no folds"),
    ],
)
def test_what_the_form_may_not_say(place, value, words):
    asked_for = FORM[:place] + [value] + FORM[place + 1 :]
    with pytest.raises(InputError, match=words):
        compare_form.asked_for(*asked_for)
    assert words in compare_form.describe(*asked_for)


def test_entries_with_options_and_folds_race_beside_the_methods():
    form = [*FORM[:11], "soft-moa:experts=2, soft-moa:experts=16", False]
    _, comparison = compare_form.asked_for(*form)
    assert list(comparison.entries) == ["linear", "soft-moa:experts=2", "soft-moa:experts=16"]
    task, comparison = compare_form.asked_for("initials", *FORM[1:12], True)
    assert comparison.folds == tasks.folds("initials") and len(comparison.runs) == 5
    assert task.test == tasks.load("initials", comparison.folds[0]).test


def test_the_server_bounds_runs_and_seconds():
    many = list(METHODS)[:7]
    with pytest.raises(tasks.TaskError, match="21 runs; at most 20"):
        compare_form.asked_for(*FORM[:2], many, *FORM[3:6], 3, *FORM[7:])
    assert compare_form.asked_for(*FORM)[1].training.seconds == limits().run_seconds


def test_the_server_bounds_memory_and_steps(monkeypatch):
    monkeypatch.setattr(comparing, "limits", lambda: Limits(run_memory_mb=1))
    with pytest.raises(tasks.TaskError, match=r"Full fine-tuning would hold .* MB of memory"):
        comparing.begin(tasks.load("tones"), asked("full"))
    assert "at most 1 MB" in compare_form.describe(*FORM[:2], ["full"], *FORM[3:])
    monkeypatch.setattr(comparing, "limits", lambda: Limits(run_steps=3))
    assert compare_form.asked_for(*FORM)[1].training.steps == 3


def test_a_lent_gpu_bounds_a_comparison(monkeypatch):
    """Rather than to be cut off in the middle."""
    monkeypatch.setattr(comparing.device, "zero_gpu", lambda: True)
    assert comparing.affordable(tasks.load("tones"), asked("linear")).costs
    with pytest.raises(tasks.TaskError, match=r"it is lent for 120 s at most"):
        comparing.affordable(tasks.load("tones"), asked("linear", "lora", epochs=200, shots=40))


def test_old_comparisons_are_swept_away(monkeypatch, folder):
    monkeypatch.setattr(comparing, "limits", lambda: Limits(comparisons=2, comparison_hours=1))
    for name, hours in (("aged", 2), ("third", 0.9), ("second", 0.5), ("first", 0.1)):
        (folder / name).mkdir()
        log = folder / name / "events.jsonl"
        log.touch()
        os.utime(log, (time.time() - 3600 * hours,) * 2)
    comparing.sweep()
    assert {path.name for path in folder.iterdir()} == {"second", "first"}


def test_a_second_server_says_so(monkeypatch, folder, capsys):
    monkeypatch.setattr(comparing, "_locks", [])
    comparing.claim()
    assert capsys.readouterr().err == ""
    comparing.claim()
    assert "Another server keeps its comparisons in" in capsys.readouterr().err


def test_a_sound_that_a_full_disk_cannot_take_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    checks.check_room()
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: Mock(free=10))
    with pytest.raises(gr.Error, match="cannot store that now: No space left"):
        checks.check_room()
