"""Events of a stranger's comparison: each field has a bound, and what passes can be drawn."""

import copy
import json
import random
import zipfile
from itertools import permutations
from pathlib import Path

import pytest

from softmoa import ASSETS
from softmoa.data.tasks import TaskError
from softmoa.plots import race
from softmoa.training import run_directory, scoreboard
from softmoa.training.events import ComparisonEvent, RunFinished
from softmoa.training.scoreboard import Scoreboard
from softmoa.ui import standings

with zipfile.ZipFile(ASSETS / "comparisons" / "initials.zip") as packed:
    LINES = [json.loads(line) for line in packed.read("events.jsonl").splitlines()]
TESTED = len(LINES[0]["truth"])
RUNS = LINES[0]["runs"][:2]
BRIEF = [LINES[0] | {"runs": RUNS}]  # the same comparison, had it been of two runs
BRIEF += [x for x in LINES[1:] if x.get("run", RUNS[0]["run"]) in [run["run"] for run in RUNS]]


def read(folder: Path, lines: list) -> list[ComparisonEvent]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "events.jsonl").write_text(text + "\n")
    return run_directory.read(folder)


def changed(kind: str, **values) -> list:
    """The log with the first event of a kind changed."""
    lines = copy.deepcopy(LINES)
    next(line for line in lines if line["event"] == kind).update(values)
    return lines


def draw(saved: list[ComparisonEvent]) -> int:
    """Everything the page shows of it; the letters of its figures."""
    board = Scoreboard().add_all(saved)
    standings.verdict(board), standings.rows(board, True)
    figures = [standings.lanes(board, True), standings.curves(board, "loss", "step")]
    figures.append(standings.balance(board))
    for axes in permutations(standings.AXES, 2):
        figures.append(race.costs(standings.costs(board, *axes), *axes))
    for run in board.finished[:1]:
        figures.append(race.confusion(scoreboard.confusion(run, board.plan), board.plan.labels))
    return sum(len(figure.to_json()) for figure in figures)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Started", {"steps": 0}),
        ("Evaluated", {"accuracy": None}),
        ("RouterBalance", {"step": "0'/><img src=x onerror=alert(1)>"}),
        ("RunFinished", {"predicted": [999] * TESTED}),
        ("Planned", {"truth": [99] * TESTED}),
        ("Planned", {"groups": [10**9] * TESTED}),
        ("Planned", {"labels": ["x"] * 1500}),
        ("Planned", {"backbone_parameters": 0}),
        ("Planned", {"truth": [], "clips": []}),
        ("Planned", {"title": "t" * 10**6}),
        ("RouterBalance", {"share": [[1 / 40_000] * 40_000]}),
        ("RouterBalance", {"share": [[0.5, 0.5], [1.0]]}),
        ("Evaluated", {"loss": float("nan")}),
        ("Evaluated", {"loss": 1e300}),
        ("Step", {"step": 10**400}),
        ("RunFinished", {"seconds": float("inf")}),
    ],
)
def test_what_cannot_be_is_refused_at_the_door(tmp_path, kind, values):
    with pytest.raises(TaskError, match="holds no comparison"):
        read(tmp_path, changed(kind, **values))


@pytest.mark.parametrize("values", [{"fold": ""}, {"fold": "9"}, {"predicted": [0]}])
def test_a_probe_that_does_not_answer_its_fold_is_refused(tmp_path, values):
    lines = copy.deepcopy(LINES)
    tested = [x for x in lines if x["event"] == "ProbeScored" and x["split"] == "test"]
    tested[0].update(values)
    with pytest.raises(TaskError, match="holds no comparison"):
        read(tmp_path, lines)


@pytest.mark.parametrize("line", ['""', "[]", "5", "null", '{"event": 5}'])
def test_a_line_that_is_no_event_is_refused(tmp_path, line):
    for lines in ([*BRIEF, line], [line, *BRIEF]):
        with pytest.raises(TaskError, match="holds no comparison"):
            read(tmp_path, lines)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("fold", "/../../x"),
        ("method", "linear:..\\..\\x"),
        ("method", "linear:![a](http:&#47;&#47;x)"),
        ("options", {"a": [[[0] * 100] * 100]}),
    ],
)
def test_bundles_and_entries_are_named_by_no_path_and_no_html(tmp_path, place, value):
    lines = copy.deepcopy(LINES)
    if place == "fold":
        lines[0] |= {"folds": [value] * len(lines[0]["truth"])}
    lines[0]["runs"][0] |= {place: value}
    with pytest.raises(TaskError):
        read(tmp_path, lines)


def test_what_may_come_once_comes_once_and_what_must_come_comes(tmp_path):
    last = next(line for line in BRIEF if line["event"] == "RunFinished")
    without = [line for line in BRIEF if line["event"] != "Started"]
    assert read(tmp_path, BRIEF)
    for lines in (without, [*BRIEF, last], [*BRIEF, BRIEF[0]]):
        with pytest.raises(TaskError):
            read(tmp_path, lines)


def test_a_line_that_would_unpack_far_is_not_parsed(tmp_path):
    with pytest.raises(TaskError, match="longer than any"):
        read(tmp_path, [LINES[0], '{"event": "Step", "x": [' + "[]," * 2_000_000 + "[]]}"])


def test_more_values_than_any_comparison_has_are_refused(tmp_path, monkeypatch):
    values = sum(json.dumps(line).count(",") for line in BRIEF)
    monkeypatch.setattr(run_directory, "MOST_VALUES", values)
    assert read(tmp_path, BRIEF)
    with pytest.raises(TaskError, match="larger than any"):
        read(tmp_path, [*BRIEF, *[BRIEF[-1]] * 2])


def test_runs_without_validation_clips_are_drawn(tmp_path):
    lines = [x | {"val_accuracy": None} if x["event"] == "RunFinished" else x for x in LINES]
    lines = [x for x in lines if x["event"] != "Evaluated"]
    events = read(tmp_path, lines)
    assert draw(events)
    board = Scoreboard().add_all(events)
    assert {row[1] for row in standings.rows(board, True).values()} == {""}


def test_a_zip_that_unpacks_far_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("bundles/a.safetensors", bytes(10**7))
    with pytest.raises(TaskError, match="unpacks to more than"):
        run_directory.unpack(tmp_path / "in.zip", tmp_path / "out")


def test_what_is_written_is_json_and_what_was_not_measured_is_read_back(tmp_path):
    lines = changed("RunFinished", val_accuracy=float("nan"), probe_accuracy=None)
    events = read(tmp_path, lines)  # with NaN, as of old
    again = [run_directory.as_line(event) for event in events]
    text = [run_directory.to_json(line) for line in again]
    for line in text:
        json.loads(line, parse_constant=pytest.fail)
    assert repr(read(tmp_path, text)) == repr(events)


def test_the_largest_log_is_drawn_no_larger_than_a_screen(tmp_path):
    """Thousands of evaluations, 256 experts in 128 mixtures, 1,000 classes."""
    lines = changed("Planned", labels=[f"class {k}" for k in range(1000)])
    at = next(k for k, line in enumerate(lines) if line["event"] == "RouterBalance")
    lines[at : at + 1] = [
        lines[at] | {"share": [[1 / 256] * 256] * 128, "step": k} for k in range(9)
    ]
    run = lines[at]["run"]
    lines = [
        x for x in lines if x["event"] != "RouterBalance" or x["run"] != run or len(x["share"]) > 9
    ]
    at = next(k for k, line in enumerate(lines) if line["event"] == "Evaluated")
    lines[at : at + 1] = [lines[at] | {"step": k} for k in range(5000)]
    assert draw(read(tmp_path, lines)) < 3_000_000


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, 100))]
)
def test_mutated_logs_are_refused_or_can_be_drawn(tmp_path, seed):
    rng = random.Random(seed)
    odd = [None, -1, 0, 1e308, float("nan"), "", "x" * 500, [], {}, [[]], True, 2**70, "NaN", [1]]
    used = 0
    for _ in range(100):
        lines = copy.deepcopy(BRIEF)
        for _ in range(rng.randint(1, 2)):
            line = rng.choice(lines[:1] * 10 + lines)
            at = line
            while True:
                key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
                if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.7:
                    at = at[key]
                    continue
                number = isinstance(at[key], int | float)
                near = [at[key] + 1, at[key] / 2, at[key] * 2] * 5 if number else []
                at[key] = rng.choice(odd + near)
                break
        try:
            saved = read(tmp_path, lines)
        except TaskError:
            continue
        used += 1
        draw(saved)
        assert all(isinstance(e.test_accuracy, float) for e in saved if isinstance(e, RunFinished))
    assert used > 5
