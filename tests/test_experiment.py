"""Whole comparisons on a tiny backbone and made-up sounds, through to files on disk."""

import csv
import gc
import json
import weakref
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from softmoa import bundle, experiment, run_directory, tasks, weights
from softmoa.ast import AST, ASTConfig
from softmoa.events import Preparing, RouterBalance, RunEvent, RunFailed, RunFinished
from softmoa.experiment import compare
from softmoa.methods import METHODS
from softmoa.methods.budget import parameters_of
from softmoa.plan import Choice, Comparison, plan
from softmoa.recipes import SHORT as SHORT_RECIPE
from softmoa.scoreboard import Scoreboard
from softmoa.tasks import LabelledFile, Task, TaskError
from softmoa.training import Evaluated, Started, Step, TrainingOptions, predict

SHORT = TrainingOptions(epochs=2, batch=8, mask_mels=8, mask_frames=8)


@pytest.fixture(scope="module")
def base() -> weights.Loaded:
    torch.manual_seed(0)
    model = AST(ASTConfig(32, 2, 4, 64, max_frames=64, classes=0, pool="mean")).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.05)
    return weights.Loaded("tiny", model, (), "00ff")


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Task:
    """Low against high tones in noise, 0.4 s each."""
    folder, files = tmp_path_factory.mktemp("tones"), []
    random = np.random.default_rng(0)
    for k in range(48):
        label, split = k % 2, ("train", "valid", "test")[k // 2 % 3]
        pitch = (300 if label else 2500) * random.uniform(0.8, 1.25)
        sound = np.sin(2 * np.pi * pitch * np.arange(6400) / 16000)
        path = folder / f"{k}.wav"
        soundfile.write(path, 0.3 * sound + random.normal(0, 0.1, 6400), 16000)
        files.append((split, LabelledFile(path, label, split)))

    def of(split: str) -> tuple[LabelledFile, ...]:
        return tuple(file for name, file in files if name == split)

    return Task("pitch", "Low or high", ("high", "low"), of("train"), of("valid"), of("test"))


def run(base, task, *methods, **options) -> list:
    comparison = Comparison(tuple(Choice.of(m, rate=1) for m in methods), SHORT, **options)
    return list(compare(base, task, comparison))


def test_runs_take_turns_and_end_with_results(base, task):
    events = run(base, task, "soft-moa", "linear", "adapter")
    finished = [event for event in events if isinstance(event, RunFinished)]
    assert {event.method for event in finished} == {"soft-moa", "linear", "adapter"}
    steps = [e.method for e in events if isinstance(e, RunEvent) and isinstance(e.event, Step)]
    assert set(steps[:3]) == {"soft-moa", "linear", "adapter"}  # each has had a turn
    for result in finished:
        assert len(result.predicted) == 16 and result.train_clips == 16
        assert result.test_accuracy > 0.8 and result.epochs == 2
        assert result.peak_memory_mb > 0 and result.clips_per_second > 0


def test_one_after_another_when_asked(base, task):
    events = run(base, task, "soft-moa", "adapter", interleave=False)
    order = [e.method for e in events if isinstance(e, RunEvent)]
    assert order == sorted(order, key=["soft-moa", "adapter"].index)


def test_seeds_repeat_exactly_and_differ_from_each_other(base, task):
    def losses(events):
        return {
            (e.method, e.seed, e.event.step): e.event.loss
            for e in events
            if isinstance(e, RunEvent) and isinstance(e.event, Step)
        }

    first = losses(run(base, task, "soft-moa", seeds=(0, 1)))
    assert first == losses(run(base, task, "soft-moa", seeds=(0, 1)))
    assert first["soft-moa", 0, 1] != first["soft-moa", 1, 1]


def test_few_shots(base, task):
    events = run(base, task, "linear", shots=3)
    assert [e.train_clips for e in events if isinstance(e, RunFinished)] == [6]


def test_the_backbone_is_left_as_it_was(base, task):
    before = {key: w.clone() for key, w in base.model.state_dict().items()}
    run(base, task, "full", "bitfit")
    after = base.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_one_failure_does_not_stop_the_others(base, task):
    choices = (Choice("soft-moa", METHODS["soft-moa"].options(), 1e30), Choice.of("linear"))
    events = list(compare(base, task, Comparison(choices, SHORT)))
    [failed] = [e for e in events if isinstance(e, RunFailed)]
    assert failed.method == "soft-moa" and failed.message.startswith("The run stopped: the loss")
    assert [e.method for e in events if isinstance(e, RunFinished)] == ["linear"]


@pytest.mark.parametrize("pool", ["special", "mean"])
def test_the_warm_head_reads_what_the_model_pools(base, task, pool, tmp_path):
    """Backbones of the Hub pool two tokens, a fresh head all of them: the linear solution, the
    method's start and the saved probe are one function, whatever the backbone's own head read."""
    model = AST(replace(base.model.config, pool=pool)).eval()
    model.load_state_dict(base.model.state_dict())
    pooled = weights.Loaded("tiny", model, (), "00ff")
    events = run(pooled, task, "linear", "soft-moa", "lora")
    before = {
        e.method: (e.event.accuracy, e.event.loss)
        for e in events
        if isinstance(e, RunEvent) and isinstance(e.event, Evaluated) and not e.event.step
    }
    assert before["soft-moa"] == pytest.approx(before["linear"], rel=1e-4)
    assert before["lora"] == pytest.approx(before["linear"], rel=1e-4)
    assert before["linear"][0] > 0.8
    for result in (e for e in events if isinstance(e, RunFinished)):
        saved, _ = bundle.load(run_directory.save_bundle(result, tmp_path), pooled)
        logits, labels = predict(saved, tasks.log_mels(task.test))
        assert logits.argmax(dim=1).tolist() == list(result.predicted)


def test_an_unreadable_test_clip_ends_the_comparison_before_training_does(base, task, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    bad = replace(task, test=(*task.test, LabelledFile(tmp_path / "bad.wav", 0, "test")))
    steps = 0
    with pytest.raises(TaskError, match="bad.wav"):
        for event in compare(base, bad, Comparison((Choice.of("soft-moa"),), SHORT)):
            steps += isinstance(event, RunEvent) and isinstance(event.event, Step)
    assert steps == 1


def test_closing_a_comparison_frees_its_models(base, task):
    models: list[weakref.ref] = []
    comparison = Comparison((Choice.of("soft-moa"), Choice.of("full")), SHORT)
    gc.disable()
    try:
        events = compare(base, task, comparison, lambda model: models.append(weakref.ref(model)))
        for event in events:
            if len(models) == 2 and isinstance(event, RunEvent) and isinstance(event.event, Step):
                break
        del event
        assert all(model() is not None for model in models)
        events.close()
        del events
        assert [model() for model in models] == [None, None]
    finally:
        gc.enable()


def test_impossible_comparisons_are_refused():
    with pytest.raises(ValueError, match="at least one method"):
        Comparison(())
    with pytest.raises(ValueError, match="named twice"):
        Comparison((Choice.of("linear"), Choice.of("linear")))


def test_what_is_on_disk_is_what_happened(base, task, tmp_path):
    comparison = Comparison((Choice.of("soft-moa"), Choice.of("linear")), SHORT)
    events = list(run_directory.record(compare(base, task, comparison), tmp_path))
    finished = {e.method: e for e in events if isinstance(e, RunFinished)}
    with (tmp_path / "results.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert list(rows[0]) == list(run_directory.COLUMNS)
    for row in rows:
        assert float(row["test_accuracy"]) == pytest.approx(finished[row["method"]].test_accuracy)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").open()]
    assert len(lines) == len(events)
    assert sum(line["event"] == "Started" for line in lines) == 2
    assert any(isinstance(e, Preparing) for e in events) and lines[0]["event"] == "Planned"
    assert any(isinstance(e, RunEvent) and isinstance(e.event, Started) for e in events)

    saved = run_directory.read(tmp_path)
    assert len(saved.bundles) == 2 and len(saved.events) == len(events)
    again, board = Scoreboard().add_all(saved.events), Scoreboard().add_all(events)
    assert again.plan.runs == board.plan.runs and again.plan.truth == board.plan.truth
    assert again.steps == board.steps and again.expected == board.expected
    assert [r.predicted for r in again.finished] == [r.predicted for r in board.finished]
    for old, new in zip(board.points, again.points, strict=True):
        assert (new.run, new.step) == (old.run, old.step)
        assert new.accuracy == pytest.approx(old.accuracy, abs=1e-5)
    result = finished["soft-moa"]
    model, info = bundle.load(run_directory.bundle_path(result, tmp_path / "bundles"), base)
    from softmoa.tasks import log_mels

    logits, _ = predict(model, log_mels(task.test))
    assert tuple(logits.argmax(dim=1).tolist()) == result.predicted
    assert info.metrics["test_accuracy"] == result.test_accuracy


def test_an_interrupted_folder_can_be_read(base, task, tmp_path):
    comparison = Comparison((Choice.of("linear"), Choice.of("soft-moa")), SHORT, interleave=False)
    events = run_directory.record(compare(base, task, comparison), tmp_path)
    for event in events:
        if isinstance(event, RunFinished):
            events.close()
            break
    with (tmp_path / "events.jsonl").open("a") as log:
        log.write('{"event": "St')  # as a killed process leaves it
    saved = run_directory.read(tmp_path)
    finished = [e.method for e in saved.events if isinstance(e, RunFinished)]
    assert finished == ["linear"] and len(saved.bundles) == 1


def test_a_packed_comparison_is_unpacked_and_nothing_else(base, task, tmp_path):
    comparison = Comparison((Choice.of("linear"),), SHORT)
    recorded = list(run_directory.record(compare(base, task, comparison), tmp_path / "run"))
    archive = run_directory.pack(tmp_path / "run")
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("../outside.txt", "no")
        packed.writestr("bundles/../../outside.safetensors", "no")
    run_directory.unpack(archive, tmp_path / "again" / "folder")
    saved = run_directory.read(tmp_path / "again" / "folder")
    assert len(saved.events) == len(recorded) and len(saved.bundles) == 1
    assert not list(tmp_path.rglob("outside*"))


def test_any_name_of_a_task_survives_packing(base, task, tmp_path):
    named = replace(task, name="my birds.v2 (ä)")
    events = compare(base, named, Comparison((Choice.of("linear"),), SHORT))
    list(run_directory.record(events, tmp_path / "run"))
    run_directory.unpack(run_directory.pack(tmp_path / "run"), tmp_path / "again")
    [path] = run_directory.read(tmp_path / "again").bundles
    assert path.name == "my birds.v2 (ä)-linear-seed0.safetensors"


@pytest.mark.parametrize(
    "kind, changes",
    [
        ("Started", {"steps": 0}),
        ("Started", None),
        ("Step", {"seconds": "abc"}),
        ("Evaluated", {"accuracy": None}),
        ("RouterBalance", {"share": [["a"]]}),
        ("RouterBalance", {"step": "0'/><img src=x onerror=alert(1)>"}),
        ("RunFinished", {"predicted": [999] * 16}),
        ("RunFinished", {"confidence": ["x"] * 16}),
        ("RunFinished", {"test_accuracy": {}}),
        ("Planned", {"truth": [7]}),
        ("Planned", {"groups": [0]}),
        ("Planned", {"groups": [10**9] * 16}),
        ("Planned", {"groups": [0.0] * 16}),
        ("Planned", {"training": {}}),
    ],
)
def test_a_forged_event_is_refused(base, task, tmp_path, kind, changes):
    events = compare(base, task, Comparison((Choice.of("soft-moa"),), SHORT))
    list(run_directory.record(events, tmp_path))
    log = tmp_path / "events.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert run_directory.read(tmp_path).events
    if changes is None:  # the line is missing
        forged = [line for line in lines if line["event"] != kind]
    else:
        forged = [line | changes if line["event"] == kind else line for line in lines]
    log.write_text("\n".join(map(json.dumps, forged)))
    with pytest.raises(TaskError, match="holds no comparison"):
        run_directory.read(tmp_path)


def test_a_damaged_zip_of_a_comparison_is_refused(base, task, tmp_path):
    events = compare(base, task, Comparison((Choice.of("linear"),), SHORT))
    list(run_directory.record(events, tmp_path / "run"))
    archive = run_directory.pack(tmp_path / "run")
    whole = archive.read_bytes()
    with zipfile.ZipFile(archive) as packed:
        begin = packed.getinfo("events.jsonl").header_offset + 60
    archive.write_bytes(whole[:begin] + b"\xff" * 40 + whole[begin + 40 :])
    with pytest.raises(TaskError, match="not a zip file that can be read"):
        run_directory.unpack(archive, tmp_path / "again")


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]\n[2]", '{"event": "Preparing"}\n{}', "sound\nsound", "[" * 200_000 + "\n{}"],
)
def test_what_is_no_comparison_is_refused_with_one_sentence(tmp_path, text):
    (tmp_path / "events.jsonl").write_text(text)
    with pytest.raises(TaskError, match="holds no comparison"):
        run_directory.read(tmp_path)
    (tmp_path / "bad.zip").write_bytes(b"PK nothing")
    with pytest.raises(TaskError, match="not a zip file"):
        run_directory.unpack(tmp_path / "bad.zip", tmp_path)


def test_the_share_of_every_expert_is_recorded_after_each_evaluation(base, task):
    events = run(base, task, "soft-moa", "topk-moa", "adapter")
    balances = [e for e in events if isinstance(e, RouterBalance)]
    assert {e.method for e in balances} == {"soft-moa", "topk-moa"}
    assert sorted(e.step for e in balances if e.method == "soft-moa") == [0, 2, 4]
    for event in balances:
        assert len(event.share) == 2 and {len(row) for row in event.share} == {7}
        assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in event.share)


def test_confidence_is_the_probability_of_the_true_class(base, task):
    [result] = [e for e in run(base, task, "linear") if isinstance(e, RunFinished)]
    for file, said, sure in zip(task.test, result.predicted, result.confidence, strict=True):
        assert (said == file.label) == (sure > 0.5)  # of two classes


def test_equal_parameters_are_equal_within_five_percent(base, task):
    config = weights.load("ast-small").model.config
    names = [name for name, method in METHODS.items() if method.sizes]
    comparison = plan(names, config=config, equal_parameters=True)
    target = parameters_of(config, "soft-moa", METHODS["soft-moa"].options())
    for choice in comparison.choices:
        assert parameters_of(config, choice.method, choice.options) == pytest.approx(
            target, rel=0.05
        )


def test_a_budget_in_steps_or_seconds_ends_the_run(base, task):
    config = base.model.config
    by_steps = plan(["adapter"], SHORT_RECIPE, 3, "steps", config=config, batch=8)
    events = list(compare(base, task, by_steps))
    assert sum(isinstance(getattr(e, "event", None), Step) for e in events) == 3
    by_time = plan(["adapter"], SHORT_RECIPE, 0.5, "seconds", config=config, batch=8)
    [result] = [e for e in compare(base, task, by_time) if isinstance(e, RunFinished)]
    assert 0.5 <= result.seconds < 2


def test_torchs_word_for_no_memory_is_known():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50, dtype=torch.uint8)
    assert experiment.out_of_memory(error.value)
    assert not experiment.out_of_memory(RuntimeError("shapes do not fit"))
