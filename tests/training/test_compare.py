"""Whole comparisons on a tiny backbone and made-up sounds, through to files on disk."""

import csv
import gc
import json
import math
import re
import weakref
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from encoders import loaded, tiny
from sounds import tone, write

from softmoa.data import tasks
from softmoa.data.tasks import SPLITS, LabelledFile, Task, TaskError
from softmoa.methods import METHODS, bundle
from softmoa.model import weights
from softmoa.model.ast import AST
from softmoa.training import run_directory
from softmoa.training.compare import compare
from softmoa.training.events import Preparing, ProbeScored, RunFailed, RunFinished
from softmoa.training.fit import Evaluated, Step, TrainingOptions, predict
from softmoa.training.plan import Choice, Comparison, plan
from softmoa.training.recipes import SHORT as SHORT_RECIPE
from softmoa.training.scoreboard import Scoreboard

SHORT = TrainingOptions(epochs=2, batch=8)


@pytest.fixture(scope="module")
def base() -> weights.Loaded:
    return loaded(tiny(0.05, matrices=True))


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Task:
    """Low against high tones in noise, 0.4 s each."""
    folder, files = tmp_path_factory.mktemp("tones"), []
    random = np.random.default_rng(0)
    for k in range(48):
        label, split = k % 2, SPLITS[k // 2 % 3]
        pitch = (300 if label else 2500) * random.uniform(0.8, 1.25)
        sound = tone(pitch, seconds=0.4, peak=0.3) + random.normal(0, 0.1, 6400)
        files.append(LabelledFile(write(folder / f"{k}.wav", sound), label, split))
    parts = (tuple(file for file in files if file.group == split) for split in SPLITS)
    return Task("pitch", "Low or high", ("high", "low"), *parts)


def events_of(events, *kinds: type) -> list:
    """Those of some kinds, or of runs in which such a one happened."""
    return [e for e in events if isinstance(e, kinds) or isinstance(getattr(e, "event", 0), kinds)]


def recorded(base, task, folder, *methods: str, **options) -> list:
    """A whole comparison, written into a folder."""
    comparison = Comparison(tuple(map(Choice.of, methods)), SHORT, **options)
    return list(run_directory.record(compare(base, task, comparison), folder))


def run(base, task, *methods, **options) -> list:
    comparison = Comparison(tuple(Choice.of(m, 1) for m in methods), SHORT, **options)
    return list(compare(base, task, comparison))


def test_runs_take_turns_and_end_with_results(base, task):
    events = run(base, task, "soft-moa", "linear", "adapter")
    finished = events_of(events, RunFinished)
    assert {event.method for event in finished} == {"soft-moa", "linear", "adapter"}
    steps = [event.method for event in events_of(events, Step)]
    assert set(steps[:3]) == {"soft-moa", "linear", "adapter"}  # each has had a turn
    for result in finished:
        assert len(result.predicted) == 16 and result.train_clips == 16
        assert result.test_accuracy > 0.8 and result.epochs == 2
        assert result.peak_memory_mb > 0 and result.clips_per_second > 0


def test_without_validation_clips_the_epochs_are_counted_all_the_same(base, task):
    events = run(base, replace(task, train=task.train[:15], valid=()), "adapter")
    [result] = events_of(events, RunFinished)
    assert result.epochs == 2 and math.isnan(result.val_accuracy)


def test_seeds_repeat_exactly_and_differ_from_each_other(base, task):
    def losses(events):
        return {(e.method, e.seed, e.event.step): e.event.loss for e in events_of(events, Step)}

    first = losses(run(base, task, "soft-moa", seeds=(0, 1)))
    assert first == losses(run(base, task, "soft-moa", seeds=(0, 1)))
    assert first["soft-moa", 0, 1] != first["soft-moa", 1, 1]


def test_the_backbone_is_left_as_it_was(base, task):
    before = {key: w.clone() for key, w in base.model.state_dict().items()}
    run(base, task, "full", "bitfit")
    after = base.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_one_failure_does_not_stop_the_others(base, task):
    choices = (Choice("soft-moa", METHODS["soft-moa"].options(), 1e30), Choice.of("linear"))
    events = list(compare(base, task, Comparison(choices, SHORT)))
    [failed] = events_of(events, RunFailed)
    assert failed.method == "soft-moa" and failed.message.startswith("The run stopped: the loss")
    assert [e.method for e in events_of(events, RunFinished)] == ["linear"]


@pytest.mark.parametrize("pool", ["special", "mean"])
def test_the_warm_head_reads_what_the_model_pools(base, task, pool, tmp_path):
    """Backbones of the Hub pool two tokens, a fresh head all of them: the linear solution, the
    method's start and the saved probe are one function, whatever the backbone's own head read."""
    model = AST(replace(base.model.config, pool=pool)).eval()
    model.load_state_dict(base.model.state_dict())
    pooled = loaded(model)
    events = run(pooled, task, "linear", "soft-moa", "lora")
    starts = [e for e in events_of(events, Evaluated) if not e.event.step]
    before = {e.method: (e.event.accuracy, e.event.loss) for e in starts}
    assert before["soft-moa"] == pytest.approx(before["linear"], rel=1e-4)
    assert before["lora"] == pytest.approx(before["linear"], rel=1e-4)
    valid, tested = events_of(events, ProbeScored)
    assert before["linear"][0] == valid.accuracy > 0.8 and tested.split == "test"
    finished = events_of(events, RunFinished)
    assert {e.probe_accuracy for e in finished} == {tested.accuracy}
    list(run_directory.record(events, tmp_path))
    for result in finished:
        path = run_directory.bundle_path(tmp_path, events[0], result.run)
        saved, _ = bundle.load(path, pooled)
        logits, labels = predict(saved, tasks.log_mels(task.test))
        assert logits.argmax(dim=1).tolist() == list(result.predicted)


def test_an_unreadable_test_clip_ends_the_comparison_before_training_does(base, task, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    bad = replace(task, test=(*task.test, LabelledFile(tmp_path / "bad.wav", 0, "test")))
    steps = 0
    with pytest.raises(TaskError, match="bad.wav"):
        for event in compare(base, bad, Comparison((Choice.of("soft-moa"),), SHORT)):
            steps += len(events_of([event], Step))
    assert steps == 1


def test_closing_a_comparison_frees_its_models(base, task):
    models: list[weakref.ref] = []
    comparison = Comparison((Choice.of("soft-moa"), Choice.of("full")), SHORT)
    gc.disable()
    try:
        events = compare(base, task, comparison, lambda model: models.append(weakref.ref(model)))
        for event in events:
            if len(models) == 2 and events_of([event], Step):
                break
        del event
        assert all(model() is not None for model in models)
        events.close()
        del events
        assert [model() for model in models] == [None, None]
    finally:
        gc.enable()


def test_several_entries_of_one_method_have_names_of_their_own(base, task, tmp_path):
    entries = ("soft-moa", "soft-moa:experts=2:placement=ffn", "adapter:reduction=8")
    choices = tuple(Choice.parse(entry) for entry in entries)
    assert [choice.entry for choice in choices] == list(entries)
    comparison = Comparison(choices, SHORT)
    events = list(run_directory.record(compare(base, task, comparison), tmp_path))
    names = ["soft-moa", "soft-moa:experts=2:placement=ffn", "adapter"]
    plan = run_directory.read(tmp_path)[0]
    assert [run.method for run in plan.runs] == names
    assert plan.runs[1].run == "Soft-MoA, experts 2, placement ffn, seed 0"
    assert plan.runs[1].options["experts"] == 2 and plan.runs[0].options["experts"] == 7
    assert {row.method for row in Scoreboard().add_all(events).rows()} == set(names)
    files = {path.name for path in (tmp_path / "bundles").iterdir()}
    assert "pitch-soft-moa-experts2-placementffn-seed0.safetensors" in files and len(files) == 3
    path = run_directory.bundle_path(tmp_path, plan, plan.runs[1].run)
    assert bundle.load(path, base)[1].options["placement"] == "ffn"


def folds_of(task: Task) -> tuple[Task, Task]:
    """One after the other tests what else validates."""
    return task, replace(task, valid=task.test, test=task.valid)


def test_folds_follow_each_other_and_every_clip_is_tested_once(base, task, tmp_path):
    comparison = Comparison((Choice.of("soft-moa"), Choice.of("linear")), SHORT, folds=("a", "b"))
    compared = compare(base, folds_of(task), comparison)
    events = list(run_directory.record(compared, tmp_path))
    board = Scoreboard().add_all(events)
    assert len(board.plan.truth) == 32 and len({run.run for run in board.finished}) == 4
    assert set(board.plan.clips_in("b")) == set(range(16, 32))
    assert not any(np.isnan(right).any() for right in board.right("soft-moa").values())
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert sorted(row["fold"] for row in rows) == ["a", "a", "b", "b"]
    assert len(list(tmp_path.glob("bundles/*.safetensors"))) == 4


def test_a_comparison_goes_on_where_it_was_interrupted(base, task, tmp_path, monkeypatch):
    """In the middle of its second run: what comes out is what an undisturbed one gives."""
    monkeypatch.setattr("softmoa.training.fit.KEEP_EVERY", 0.0)
    options = TrainingOptions(epochs=4, batch=8)
    choices = Choice.of("adapter"), Choice.of("soft-moa")
    comparison = Comparison(choices, options, interleave=False)
    whole = Scoreboard().add_all(compare(base, task, comparison))

    cut = run_directory.record(compare(base, task, comparison), tmp_path)
    for event in cut:
        if events_of([event], Step) and (event.method, event.event.step) == ("soft-moa", 6):
            cut.close()
    with (tmp_path / "events.jsonl").open("a") as log:
        log.write('{"event": "St')  # as a killed process leaves it
    earlier = run_directory.left(tmp_path)
    assert earlier.over == {"Bottleneck adapter, seed 0"}
    assert {run: of.step for run, of in earlier.under_way.items()} == {"Soft-MoA, seed 0": 4}
    trained = []
    again = compare(base, task, comparison, lambda _: trained.append(1), earlier=earlier)
    board = Scoreboard().add_all(run_directory.record(again, tmp_path, earlier))
    assert len(trained) == 1
    for old, new in zip(whole.finished, board.finished, strict=True):
        assert (new.predicted, new.epochs) == (old.predicted, old.epochs)
        assert new.confidence == pytest.approx(old.confidence, abs=1e-6)
    points = [(point.run, point.step) for point in board.points]
    assert points == [(point.run, point.step) for point in whole.points]
    assert len(list(csv.DictReader((tmp_path / "results.csv").open()))) == 2
    assert not list((tmp_path / "checkpoints").iterdir())

    other = replace(comparison, seeds=(1,))
    with pytest.raises(TaskError, match="another comparison"):
        left = run_directory.left(tmp_path)
        list(run_directory.record(compare(base, task, other, earlier=left), tmp_path, left))
    assert len(run_directory.read(tmp_path)) > 2


def test_what_is_on_disk_is_what_happened(base, task, tmp_path):
    events = recorded(base, task, tmp_path, "soft-moa", "linear")
    finished = {e.method: e for e in events_of(events, RunFinished)}
    with (tmp_path / "results.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert list(rows[0]) == list(run_directory.COLUMNS)
    for row in rows:
        assert float(row["test_accuracy"]) == pytest.approx(finished[row["method"]].test_accuracy)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").open()]
    assert len(lines) == len(events)
    assert sum(line["event"] == "Started" for line in lines) == 2
    assert events_of(events, Preparing) and lines[0]["event"] == "Planned"

    saved = run_directory.read(tmp_path)
    assert len(list(tmp_path.glob("bundles/*.safetensors"))) == 2 and len(saved) == len(events)
    again, board = Scoreboard().add_all(saved), Scoreboard().add_all(events)
    assert again.plan.runs == board.plan.runs and again.plan.truth == board.plan.truth
    assert again.progress == board.progress and again.expected == board.expected
    assert [r.predicted for r in again.finished] == [r.predicted for r in board.finished]
    for old, new in zip(board.points, again.points, strict=True):
        assert (new.run, new.step) == (old.run, old.step)
        assert new.accuracy == pytest.approx(old.accuracy, abs=1e-5)
    result = finished["soft-moa"]
    path = run_directory.bundle_path(tmp_path, events[0], result.run)
    model, info = bundle.load(path, base)
    logits, _ = predict(model, tasks.log_mels(task.test))
    assert tuple(logits.argmax(dim=1).tolist()) == result.predicted
    assert info.metrics["test_accuracy"] == result.test_accuracy
    assert info.test_clips == tasks.digest(task.test)


def test_a_packed_comparison_is_unpacked_and_nothing_else(base, task, tmp_path):
    events = recorded(base, task, tmp_path / "run", "linear")
    archive, again = run_directory.pack(tmp_path / "run"), tmp_path / "again" / "folder"
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("notes.txt", "no")
    run_directory.unpack(archive, again)
    assert len(run_directory.read(again)) == len(events)
    assert sum(path.is_file() for path in again.rglob("*")) == 3
    for outside in ("../outside.csv", "bundles/../../outside.safetensors"):
        with zipfile.ZipFile(archive, "a") as packed:
            packed.writestr(outside, "no")
        with pytest.raises(TaskError, match="leads elsewhere"):
            run_directory.unpack(archive, tmp_path / "other")
        assert not list(tmp_path.rglob("outside*")) and not (tmp_path / "other").exists()


def test_a_log_of_before_the_two_starts_had_names_opens(base, task, tmp_path):
    events = recorded(base, task, tmp_path, "linear")
    log = tmp_path / "events.jsonl"
    old = re.sub(r'"start": ?"probe"', '"warm_head": true', log.read_text())
    assert old.count("warm_head") == 1
    log.write_text(old)
    assert run_directory.read(tmp_path)[0].start == events[0].start == "probe"


@pytest.mark.parametrize(
    "text", ["", "[1]\n[2]", '{"event": "Preparing"}\n{}', "[" * 200_000 + "\n{}"]
)
def test_what_is_no_comparison_is_refused_with_one_sentence(tmp_path, text):
    (tmp_path / "events.jsonl").write_text(text)
    with pytest.raises(TaskError, match="holds no comparison"):
        run_directory.read(tmp_path)
    (tmp_path / "bad.zip").write_bytes(b"PK nothing")
    with pytest.raises(TaskError, match="not a zip file"):
        run_directory.unpack(tmp_path / "bad.zip", tmp_path / "new")


def test_a_budget_in_steps_or_seconds_ends_the_run(base, task):
    config = base.model.config
    by_steps = plan(["adapter"], SHORT_RECIPE, 3, "steps", config=config, batch=8)
    events = list(compare(base, task, by_steps))
    assert len(events_of(events, Step)) == 3
    by_time = plan(["adapter"], SHORT_RECIPE, 0.5, "seconds", config=config, batch=8)
    seconds = [e.event.seconds for e in events_of(compare(base, task, by_time), Step)]
    assert all(spent < 0.5 for spent in seconds[:-1])  # the first step that ends later is the last
