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

from analysis.studies import costs, trial
from analysis.studies.__main__ import app, measure, train
from analysis.studies.catalogue import TRAINING
from analysis.studies.claims import Claim, difference
from analysis.studies.departures import DEPARTURES
from analysis.studies.engine import Local, OnRay, finished, run_grid, run_id
from analysis.studies.trial import MEASURED, Arm, Trial
from softmoa.methods import METHODS, attach
from softmoa.methods.mixtures import SoftMoAOptions
from softmoa.model import weights
from softmoa.model.ast import AST

ROOT = Path(__file__).parents[2]
TINY = {"shots": 2, "epochs": 1}


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
    """SOFTMOA_DATA with an ESC-10 of low and high tones, 8 of each in 3 folds."""
    random = np.random.default_rng(0)
    for label, pitch in (("low", 300), ("high", 2500)):
        folder = tmp_path / "data" / "esc10" / f"001 - {label}"
        folder.mkdir(parents=True)
        for k in range(24):
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


def test_what_a_run_leaves_to_defaults_is_in_its_id(monkeypatch):
    run = Trial("tones", Arm("soft-moa"), 0)
    assert run.resolved["options"]["experts"] == 7
    before = run_id(run)
    assert run_id(Trial("tones", Arm("soft-moa"), 0)) == before
    other = replace(METHODS["soft-moa"], options=partial(SoftMoAOptions, experts=14))
    monkeypatch.setitem(METHODS, "soft-moa", other)
    assert run_id(run) != before


def test_no_process_outlives_the_one_that_was_killed(tmp_path):
    code = "\n".join(
        (
            "import time",
            "from counted_run import Counted",
            "from analysis.studies.engine import Local",
            "if __name__ == '__main__':",
            f"    for _ in Local(1)([Counted({str(tmp_path)!r}, 'run', seconds=600)]):",
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


def without_times(results):
    return {
        key: {name: value for name, value in result.items() if name not in MEASURED}
        for key, result in results.items()
    }


def trials(tiny: str) -> list[Trial]:
    return [
        Trial("esc10", Arm(method), 0, backbone=tiny, watched=method == "soft-moa", **TINY)
        for method in ("soft-moa", "linear")
    ]


def test_processes_give_the_same_numbers(sounds, tiny):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        here = run_grid(trials(tiny), sounds / "here.jsonl", Here())
    finally:
        torch.set_num_threads(threads)
    there = run_grid(trials(tiny), sounds / "there.jsonl", Local(2))
    assert len(here.results) == 2 and not there.failed
    assert without_times(here.results) == without_times(there.results)


@pytest.mark.timeout(900)
def test_a_ray_cluster_of_two_nodes(tmp_path, monkeypatch):
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
        grid = check_a_grid(tmp_path, OnRay(cluster.address))
        assert len({result["node"] for result in grid.results.values()}) == 2
    finally:
        cluster.shutdown()
        shutil.rmtree(apart, ignore_errors=True)
        ray.cloudpickle.unregister_pickle_by_value(counted_run)


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
    assert study.claims
    for claim in study.claims:
        assert claim.text in page
        assert {claim.a, claim.b} - {c.label for c in conditions} <= {0.0, 3.0}, claim
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
    assert "esc10, 2 clips per class, 1 epochs, tested on 5, 3 in turn; tones, 2 clips" in page
    kept = [json.loads(line) for line in (sounds / "module.jsonl").open()]
    of_fold = {line["run"]["test"]: line["result"]["right"] for line in kept}
    assert set(of_fold) == {"5", "3", ""} and len(of_fold["3"]) == 16


def numbers(row: dict[str, str], claim: Claim) -> dict[str, object]:
    value = row.get(claim.measure)
    return {claim.measure: float(value) if value else None, "right": "01"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["birds"], "There is no study 'birds'; there are methods, experts"),
        (["slots", "--engine", "moon"], "There is no engine 'moon'"),
        (["slots", "--tasks", "birds"], "There is no task 'birds'"),
    ],
)
def test_what_cannot_be_followed_is_one_sentence(words, says, tmp_path):
    answer = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert answer.exit_code == 2 and says in answer.stderr
    assert answer.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


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


def with_method(departure: str = "", **options) -> AST:
    model = encoders.tiny(0.05, matrices=True)
    attach(model, "soft-moa", METHODS["soft-moa"].options(**options), classes=3)
    for block in model.blocks:
        torch.manual_seed(1)
        torch.nn.init.normal_(block.beside_attn.experts.up)
    if departure:
        DEPARTURES[departure](model)
    return model


@pytest.mark.parametrize(("departure", "times"), [("fast router", 10), ("slow router", 0.1)])
def test_a_router_at_another_pace_begins_the_same_and_takes_other_steps(departure, times):
    ours, theirs = with_method(), with_method(departure)
    x = torch.randn(2, 10, 32)
    torch.testing.assert_close(theirs.blocks[0](x), ours.blocks[0](x))
    theirs.train()
    mixture = theirs.blocks[0].beside_attn
    phi, up = mixture.router.phi.detach().clone(), mixture.experts.up.detach().clone()
    optimiser = torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=0)
    theirs.blocks[0](x).square().sum().backward()
    optimiser.step()
    assert (mixture.router.phi - phi).abs().median().item() == pytest.approx(times * 1e-3, rel=0.05)
    assert (mixture.experts.up - up).abs().median().item() == pytest.approx(1e-3, rel=0.05)


def test_added_twice_adds_the_mixture_after_the_ffn():
    ours, theirs = with_method(), with_method(departure="twice")
    x = torch.randn(2, 10, 32)
    block = ours.blocks[0]
    with torch.no_grad():
        again = block.beside_attn(block.ln_attn(x))
        apart = theirs.blocks[0](x) - block(x)
    assert again.abs().max() > 0.1
    torch.testing.assert_close(apart, again)
