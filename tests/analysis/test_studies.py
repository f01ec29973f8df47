"""Studies: grids that are continued and retried, the same numbers on every engine, verdicts."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import counted_run
import encoders
import numpy as np
import pytest
import soundfile
import torch
from counted_run import Counted
from typer.testing import CliRunner

from analysis.studies import costs, trial, tune_rates
from analysis.studies.__main__ import app, measure, train
from analysis.studies.catalogue import TRAINING
from analysis.studies.claims import Claim, difference
from analysis.studies.departures import DEPARTURES
from analysis.studies.engine import Grid, Local, OnRay, finished, run_grid, run_id
from analysis.studies.trial import MEASURED, Arm, Trial
from softmoa.methods import METHODS, attach
from softmoa.methods.adapters import ConvAdapter
from softmoa.methods.mixtures import SoftMoAOptions
from softmoa.model import weights
from softmoa.model.ast import AST

ROOT = Path(__file__).parents[2]
TINY = {"shots": 2, "epochs": 2}


class Here:
    """One after the other, in this process."""

    def __call__(self, runs):
        for run in runs:
            yield run, run.execute()

    def one_at_a_time(self):
        return self


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """A file of a tiny backbone."""
    path = tmp_path_factory.mktemp("backbone") / "tiny.safetensors"
    weights.save_embedded(encoders.tiny(0.05, matrices=True), path)
    return str(path)


@pytest.fixture
def sounds(tmp_path, monkeypatch):
    """SOFTMOA_DATA with an ESC-10 of low and high tones, 4 of each in 3 folds."""
    random = np.random.default_rng(0)
    for label, pitch in (("low", 300), ("high", 2500)):
        folder = tmp_path / "data" / "esc10" / f"001 - {label}"
        folder.mkdir(parents=True)
        for k in range(12):
            sound = np.sin(2 * np.pi * pitch * random.uniform(0.8, 1.2) * np.arange(4800) / 16000)
            path = folder / f"{3 + k % 3}-{k}.ogg"
            soundfile.write(path, 0.3 * sound + random.normal(0, 0.1, 4800), 16000)
    monkeypatch.setenv("SOFTMOA_DATA", str(tmp_path / "data"))
    trial.load_task.cache_clear()
    yield tmp_path
    trial.load_task.cache_clear()


# --- engines --------------------------------------------------------------------------------------


def check_a_grid(tmp_path, engine):
    """Failed and killed runs are tried again, finished ones are not, and the cut-off one is."""
    log = tmp_path / "grid.jsonl"
    good = [Counted(str(tmp_path), f"good{k}") for k in range(4)]
    flaky, dying = Counted(str(tmp_path), "flaky", 1), Counted(str(tmp_path), "dying", dies=1)
    hopeless = Counted(str(tmp_path), "hopeless", 9)
    grid = run_grid([*good, flaky, hopeless], log, engine)
    assert set(grid.results) == {run_id(run) for run in (*good, flaky)}
    assert grid.failed == {hopeless: "ArithmeticError: not yet"}
    assert (flaky.times, hopeless.times) == (2, 2)
    # By itself: a process that dies may take the run beside it along, which is an attempt, too.
    runs = [*good, flaky, dying]
    grid = run_grid(runs, log, engine)
    assert set(grid.results) == {run_id(run) for run in runs} and dying.times == 2
    attempts = {line["run"]["name"]: line["attempts"] for line in map(json.loads, log.open())}
    assert attempts["flaky"] == attempts["dying"] == 2 and "hopeless" not in attempts

    whole, last = log.read_text().rstrip("\n").rsplit("\n", 1)
    cut = json.loads(last)["run"]["name"]
    log.write_text(f"{whole}\n{last[:20]}")
    before = {run: run.times for run in runs}
    again = run_grid(runs, log, engine)
    assert set(again.results) == set(grid.results) and not again.failed
    assert {run.name for run in runs if run.times > before[run]} == {cut}
    assert set(finished(log)) == set(grid.results)
    return grid


def test_a_grid_is_continued_and_what_failed_is_tried_again(tmp_path):
    check_a_grid(tmp_path, Local(2))


def test_a_process_that_dies_while_nobody_looks(tmp_path):
    """The next run cannot be handed to its pool; it is handed to a new one."""
    quick, *more = (Counted(str(tmp_path), f"run{k}") for k in range(4))
    dying = Counted(str(tmp_path), "dying", dies=1)
    outcomes = Local(2)([quick, dying, *more])
    found = dict([next(outcomes)])
    eventually(lambda: [1] * dying.times)
    time.sleep(2)  # the pool notices
    found |= dict(outcomes)
    assert set(found) == {quick, dying, *more}
    failed = {run for run, outcome in found.items() if isinstance(outcome, Exception)}
    assert dying in failed and len(failed) <= 2  # with what ran beside it


def test_what_a_run_leaves_to_defaults_is_in_its_id(monkeypatch):
    run = Trial("tones", Arm("soft-moa"), 0)
    assert run.resolved["options"]["experts"] == 7
    before = run_id(run)
    assert run_id(Trial("tones", Arm("soft-moa"), 0)) == before
    other = replace(METHODS["soft-moa"], options=partial(SoftMoAOptions, experts=14))
    monkeypatch.setitem(METHODS, "soft-moa", other)
    assert run_id(run) != before


@pytest.mark.parametrize("seconds", [0, 600])  # idle, and in the middle of a run
def test_no_process_outlives_the_one_that_was_killed(tmp_path, seconds):
    code = "\n".join(
        (
            "import time",
            "from counted_run import Counted",
            "from analysis.studies.engine import Local",
            "if __name__ == '__main__':",
            f"    for _ in Local(1)([Counted({str(tmp_path)!r}, 'run', seconds={seconds})]):",
            "        time.sleep(600)",
        )
    )
    (tmp_path / "grid.py").write_text(code)
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    environment = os.environ | {"PYTHONPATH": path}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "grid.py")], env=environment)
    try:
        worker = int(eventually(lambda: [m.read_text() for m in tmp_path.glob("run-*")][0]))
    finally:
        parent.kill()
        parent.wait()
    assert eventually(lambda: not alive(worker))


def eventually(look, seconds: float = 60):
    """What `look` returns, once that is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(IndexError):
            if found := look():
                return found
        time.sleep(0.1)
    return None


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_id_of_a_run_is_stable():
    run = Trial("tones", Arm("soft-moa", (("experts", 4),)), 0)
    assert run_id(run) == "63c42a9e2010" and run_id(run) != run_id(replace(run, seed=1))


def without_times(results):
    return {
        key: {name: value for name, value in result.items() if name not in MEASURED}
        for key, result in results.items()
    }


def trials(tiny: str) -> list[Trial]:
    return [
        Trial("esc10", Arm(method), seed, backbone=tiny, watched=method == "soft-moa", **TINY)
        for method in ("soft-moa", "linear")
        for seed in (0, 1)
    ]


def test_processes_give_the_same_numbers(sounds, tiny):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        here = run_grid(trials(tiny), sounds / "here.jsonl", Here())
    finally:
        torch.set_num_threads(threads)
    there = run_grid(trials(tiny), sounds / "there.jsonl", Local(2))
    assert len(here.results) == 4 and not there.failed
    assert without_times(here.results) == without_times(there.results)


@pytest.mark.timeout(900)
def test_a_ray_cluster_of_two_nodes(sounds, tiny, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else a busy machine starves them
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(counted_run)  # the nodes do not have the tests
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    apart = tempfile.mkdtemp(prefix="ray-")  # a socket's path must be short
    try:
        # Nodes of one machine need folders apart: each unpacks the code that is sent.
        cluster.add_node(num_cpus=1, temp_dir=apart)
        engine = OnRay(cluster.address)
        grid = check_a_grid(sounds, engine)
        assert len({result["node"] for result in grid.results.values()}) == 2
        on_ray = run_grid(trials(tiny), sounds / "ray.jsonl", engine)
    finally:
        cluster.shutdown()
        shutil.rmtree(apart, ignore_errors=True)
        ray.cloudpickle.unregister_pickle_by_value(counted_run)
    local = run_grid(trials(tiny), sounds / "local.jsonl", Local(2))
    assert len(on_ray.results) == 4 and not on_ray.failed
    assert without_times(on_ray.results) == without_times(local.results)


# --- studies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", TRAINING, ids=lambda study: study.name)
def test_every_study_on_a_tiny_backbone(study, sounds, tiny):
    grid = train(study, sounds, Here(), ["esc10"], [0], TINY | {"backbone": tiny})
    assert not grid.failed
    with (sounds / f"{study.name}.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    conditions = study.conditions(encoders.TINY)
    assert [row["condition"] for row in rows] == [c.label for c in conditions]
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)
    page = (sounds / f"{study.name}.md").read_text()
    for claim in study.claims:
        assert claim.text in page and (not isinstance(claim.b, str) or claim.b in page)
        if not claim.tasks:
            assert difference([r | numbers(r, claim) for r in rows], claim) is not None, claim
    # One seed proves nothing.
    assert "**holds**" not in page and "**cannot be tested at this size**" in page
    assert (sounds / f"{study.name}.png").read_bytes().startswith(b"\x89PNG")


def test_every_seed_tests_another_fold(sounds, tiny):
    """The tiny ESC-10 has the folds 3, 4 and 5; its own test is 5, and 3 follows."""
    study = next(study for study in TRAINING if study.name == "module")
    train(study, sounds, Here(), ["esc10", "tones"], [0, 1, 3], TINY | {"backbone": tiny})
    with (sounds / "module.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    tested = {(row["task"], row["seed"]): row["test"] for row in rows}
    assert [tested["esc10", seed] for seed in "013"] == ["5", "3", "5"]
    assert [tested["tones", seed] for seed in "013"] == ["", "", ""]
    page = (sounds / "module.md").read_text()
    assert "esc10, 2 clips per class, 2 epochs, tested on 5, 3 in turn; tones, 2 clips" in page
    kept = [json.loads(line) for line in (sounds / "module.jsonl").open()]
    of_fold = {line["run"]["test"]: line["result"]["right"] for line in kept}
    assert set(of_fold) == {"5", "3", ""} and len(of_fold["3"]) == 8


def test_a_task_has_its_usual_budget_unless_another_is_asked(tmp_path, tiny, monkeypatch):
    grids = []

    def planned(trials, path, engine):
        grids.append({trial.task: (trial.shots, trial.epochs) for trial in trials})
        return Grid({}, {}, 0)

    monkeypatch.setattr("analysis.studies.__main__.run_grid", planned)
    monkeypatch.setattr("softmoa.data.tasks.folds", lambda task: ("1", "2"))
    for shots in (0, 3):
        setting = {"shots": shots, "epochs": 0, "backbone": tiny}
        train(TRAINING[0], tmp_path, Here(), ["digits", "tones", "esc10"], [0], setting)
    assert grids == [
        {"digits": (50, 4), "tones": (20, 8), "esc10": (10, 4)},
        {"digits": (3, 4), "tones": (3, 8), "esc10": (3, 4)},
    ]


def numbers(row: dict[str, str], claim: Claim) -> dict[str, object]:
    value = row.get(claim.measure)
    return {claim.measure: float(value) if value else None, "right": "01"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["birds"], "There is no study 'birds'; there are methods, experts"),
        (["slots", "--engine", "moon"], "There is no engine 'moon'"),
        (["slots", "--gpus", "0.5"], "--address and --gpus are for --engine ray"),
        (["slots", "--seeds", "0,one"], "Seeds are whole numbers with commas between"),
        (["slots", "--tasks", "birds"], "There is no task 'birds'"),
        (
            ["slots", "--tasks", "tones", "--backbone", "none.safetensors"],
            "cannot be read as a safetensors file",
        ),
    ],
)
def test_what_cannot_be_followed_is_one_sentence(words, says, tmp_path):
    answer = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert answer.exit_code == 2 and says in answer.stderr
    assert answer.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_on_the_command_line(sounds, tiny):
    words = ["slots", "--tasks", "esc10", "--seeds", "0,1", "--shots", "2", "--epochs", "1"]
    words += ["--backbone", tiny, "--workers", "1", "--out", str(sounds / "out")]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0 and "16 runs, 0 of them finished before" in answer.stderr
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0 and "16 runs, 16 of them finished before" in again.stderr
    page = (sounds / "out" / "slots.md").read_text()
    assert "seeds 0, 1" in page and "Commit " in page and "one thread a run" in page


def test_labels_of_conditions_and_claims_agree():
    for study in TRAINING:
        labels = [condition.label for condition in study.conditions(encoders.TINY)]
        assert len(set(labels)) == len(labels)
        for claim in study.claims:
            assert claim.a in labels and (not isinstance(claim.b, str) or claim.b in labels)


def test_costs_are_those_of_the_formulas(tmp_path):
    for form in ("soft", "dense"):
        slots = ((3, 20, 4), (1, 20, 4)) if form == "soft" else ()
        for n, m, p in (
            (2, 30, 1),
            (3, 30, 1),
            (5, 48, 1),
            *slots,
        ):  # of one slot torch counts less
            run = costs.Measurement(form, n, m, p, width=32, bottleneck=3, clips=2, rounds=1)
            found = run.execute()
            for name in ("parameters", "mflop", "memory_mb"):
                assert found[name] == pytest.approx(found[f"{name}_formula"], rel=1e-6), (name, run)
    # The naive forms are known for their memory: all answers of all experts.
    stack = costs.Measurement("dense, stack", 4, 30, width=32, bottleneck=3, clips=2, rounds=1)
    found = stack.execute()
    assert found["memory_mb"] == pytest.approx(found["memory_mb_formula"])
    measure(tmp_path, Here(), quick=True)
    page = (tmp_path / "costs.md").read_text()
    claim = "The formula gives the parameters of the folded forms [this page]"
    assert f"{claim} | at most 0.0% off | **holds**" in page


# --- departures -----------------------------------------------------------------------------------


def with_method(method: str = "soft-moa", departure: str = "", **options) -> AST:
    model = encoders.tiny(0.05, matrices=True)
    attach(model, method, METHODS[method].options(**options), classes=3)
    for block in model.blocks:
        torch.manual_seed(1)
        last = block.beside_attn.up if method == "conv-adapter" else block.beside_attn.experts.up
        torch.nn.init.normal_(last.weight if method == "conv-adapter" else last)
    if departure:
        DEPARTURES[departure].plugged(model)
    return model


def test_added_twice_adds_the_mixture_after_the_ffn():
    ours, theirs = with_method(), with_method(departure="twice")
    x = torch.randn(2, 10, 32)
    block = ours.blocks[0]
    with torch.no_grad():
        again = block.beside_attn(block.ln_attn(x))
        apart = theirs.blocks[0](x) - block(x)
    assert again.abs().max() > 0.1
    torch.testing.assert_close(apart, again)


def test_the_other_axis_leaves_columns_long_and_shrinks_the_slots():
    ours, theirs = with_method(normalize=True), with_method(normalize=True, departure="other axis")
    x = torch.randn(2, 10, 32)
    router = theirs.blocks[0].beside_attn.router
    routing = router(x)
    torch.testing.assert_close(routing.dispatch_weights.sum(dim=1), torch.ones(2, 7, 1))
    raw = ours.blocks[0].beside_attn.router(x).dispatch(x)
    assert routing.dispatch(x).norm() < 0.3 * raw.norm()
    torch.testing.assert_close(
        routing.dispatch(x),
        torch.einsum("bmnp,bmd->bnpd", routing.dispatch_weights, x / x.norm(dim=-1, keepdim=True)),
    )


def test_both_projections_at_zero_never_move():
    model = with_method(departure="both zero")
    for block in model.blocks:
        torch.nn.init.zeros_(block.beside_attn.experts.up)
    model.reset_head(3)
    torch.nn.init.normal_(model.head.linear.weight)
    model(torch.randn(2, 64, 128)).square().sum().backward()
    experts = model.blocks[0].beside_attn.experts
    assert not experts.down.grad.any() and not experts.up.grad.any() and experts.up_bias.grad.any()


def test_a_dead_convolution_gets_no_gradient():
    model = with_method("conv-adapter", departure="dead convolution")
    adapter = model.blocks[0].beside_attn
    assert isinstance(adapter, ConvAdapter)
    adapter(torch.randn(2, 10, 32)).square().sum().backward()
    assert adapter.conv.weight.grad is None and adapter.down.weight.grad.any()


def test_departures_change_the_output_as_they_say(sounds, tiny):
    def changes(departure: str, **options) -> dict:
        arm = Arm("soft-moa", tuple(options.items()), departure=departure)
        return Trial("esc10", arm, 0, backbone=tiny, **TINY).execute()

    twice = changes("twice")
    assert twice["change_at_start"] == 0.0  # a fresh mixture adds nothing, once or twice
    assert changes("no positions")["change_at_start"] > 0.01
    drawn = changes("both drawn")
    assert drawn["change_at_start"] > 1e-4 and drawn["change_trained"] == 0.0


def test_only_some_layers(sounds, tiny):
    of_all, of_last = (
        Trial("esc10", Arm("soft-moa", layers=layers), 0, backbone=tiny, **TINY).execute()
        for layers in ((), (1,))
    )
    assert of_last["trained_parameters"] * 2 == of_all["trained_parameters"]


# --- learning rates -------------------------------------------------------------------------------


def test_rates_are_tuned_once_and_the_best_is_chosen(tmp_path):
    table, base = tmp_path / "rates.csv", weights.load("ast-small")
    asked = {"methods": ["linear"], "shots": 2, "epochs": 1}
    tune_rates.tune(table, base, ["tones"], [0.1, 1.0], [0], **asked)
    rows = tune_rates.read(table)
    assert [row["rate"] for row in rows] == ["0.0001", "0.001"]
    assert all(0.2 < float(row["accuracy"]) <= 1 for row in rows)  # chance is 25 %
    tune_rates.tune(table, base, ["tones"], [0.1, 1.0], [0], **asked)
    assert tune_rates.read(table) == rows
    other = replace(base, sha256="f" * 64)  # another backbone wants rates of its own
    tune_rates.tune(table, other, ["tones"], [0.1], [0], **asked)
    assert [row["backbone"] for row in tune_rates.read(table)[2:]] == ["f" * 12]


def test_the_highest_accuracy_then_the_lowest_loss_is_chosen():
    base = {"backbone": "f" * 12, "task": "t", "shots": "2", "epochs": "1", "method": "lora"}

    def row(factor, accuracy, loss, seed="0"):
        return base | {"factor": factor, "accuracy": accuracy, "loss": loss, "seed": seed}

    rows = [row("0.1", "0.5", "1.0"), row("0.3", "0.5", "0.9"), row("1", "failed", "failed")]
    assert tune_rates.scores(rows, "lora") == {0.1: (0.5, -1.0), 0.3: (0.5, -0.9), 1.0: (0.0, -1e9)}
    text = tune_rates.report(rows)
    assert "| lora | 0.005 | 50.0 | **50.0** | 0.0 | 0.0015 |" in text
    text = tune_rates.report([*rows, row("3", "0.6", "0.8")])
    assert "| **50.0** | 0.0 | 60.0 | 0.0015 |" in text and "10.0 points (lora at × 3)" in text
    assert "| lora | 0.005 | 60.0 |  |" in tune_rates.report([row("3", "0.6", "0.8")])
