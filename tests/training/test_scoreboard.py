"""Tables and conclusions from events with known answers."""

import math
from dataclasses import replace

import pytest
from scipy.stats import norm, t

from softmoa.training.events import Planned, PlannedRun, ProbeScored, RunFinished
from softmoa.training.fit import TrainingOptions
from softmoa.training.scoreboard import Scoreboard, conclusion, confusion, frontier, outlook
from softmoa.training.statistics import clips_needed, half_width

NAMES = {"a": "adapter", "b": "bitfit", "c": "full"}


def finished(method: str, accuracy: float, seed: int = 0, predicted=(0, 1, 1)) -> RunFinished:
    return RunFinished(
        f"{method}, seed {seed}", method, seed, 1000, 20, 3, 4.0, 15.0, 7.0, 0.5, accuracy,
        predicted, tuple(0.5 for _ in predicted),
    )  # fmt: skip


def board(*events) -> Scoreboard:
    return Scoreboard().add_all(events)


def test_rows_are_means_over_seeds_with_their_spread():
    rows = board(finished("a", 0.8), finished("b", 0.5), finished("a", 0.6, seed=1)).rows()
    assert [row.method for row in rows] == ["a", "b"]
    assert rows[0].test_accuracy == pytest.approx(0.7)
    assert rows[0].spread == pytest.approx(0.1414, abs=1e-4) and rows[0].seeds == 2
    assert rows[1].spread == 0.0


def raced(**right: str | tuple[str, ...]) -> Scoreboard:
    """Methods with a string per seed: "+" for a clip it got right; the truth is always class 1."""
    runs = []
    for method, seeds in right.items():
        for seed, clips in enumerate((seeds,) if isinstance(seeds, str) else seeds):
            said = tuple(int(answer == "+") for answer in clips)
            runs.append(finished(NAMES[method], sum(said) / len(said), seed, said))
    result = board(*runs)
    truth = (1,) * len(runs[0].predicted)
    names, training = ("",) * len(truth), TrainingOptions()
    planned = tuple(PlannedRun(run.run, run.method, run.seed, 1000, 1e-3, {}) for run in runs)
    result.plan = Planned(
        "t", "T", ("no", "yes"), truth, names, "tiny", 1, None, "probe", training, planned
    )
    return result


def test_the_gap_is_over_the_seeds_that_both_finished():
    gap, half, seeds = raced(a=("++++", "++--"), b=("++--", "++--")).gap("adapter", "bitfit")
    assert gap == 0.25 and seeds == 2
    # Two clips a quarter above the mean and two below; four draws are few.
    squares = 4 * 0.25**2 * 4 / 3 * (t.ppf(0.975, 3) / norm.ppf(0.975)) ** 2
    assert half == pytest.approx(half_width([0.5, 0.0], math.sqrt(squares + 1) / 6))
    assert raced(a="++", b=()).gap("adapter", "bitfit") == (0.0, math.inf, 0)


def test_a_clear_winner_is_named_and_noise_is_not():
    right, half, poor = "+" * 90 + "-" * 10, "+" * 50 + "-" * 50, "+" * 30 + "-" * 70
    said = conclusion(raced(a=(right,) * 2, b=(half,) * 2))
    assert said.startswith("Bottleneck adapter (90.0%) was clearly better than BitFit (50.0%)")
    assert "100 test clips and 2 seeds" in said
    close = raced(a="+" * 84 + "-" * 16, b="-" * 10 + "+" * 82 + "-" * 8, c=poor)
    said = conclusion(close)
    assert (
        said.startswith("No clear difference between Bottleneck adapter and BitFit")
        and "Full" not in said
    )
    assert conclusion(raced(a=right)) == ""


def test_identical_runs_cannot_be_called_equal():
    """Two methods whose runs ended with the weights they started from, such as the probe's."""
    same = "+" * 60 + "-" * 40
    said = conclusion(raced(a=(same, same), b=(same, same)))
    assert "nothing can be said of the methods" in said and "No clear difference" not in said
    board = raced(a=same, b=same)
    board.finished[1] = replace(board.finished[1], confidence=(0.4,) * 100)
    assert conclusion(board).startswith("No clear difference")


def test_folds_are_pooled_clip_by_clip_and_paired_by_seed():
    """Two folds of two clips and one of one: 2 of 3 against 1 of 3, and only what both finished."""
    runs, answers = [], {"adapter": ((1, 1), (0,)), "bitfit": ((1, 0), (0,))}
    planned = []
    for method, folds in answers.items():
        for fold, said in zip("12", folds, strict=True):
            name = f"{method}, fold {fold}"
            planned.append(PlannedRun(name, method, 0, 1000, 1e-3, {}, fold))
            of_fold = finished(method, sum(said) / len(said), 0, said)
            runs.append(replace(of_fold, run=name, fold=fold))
    plan = Planned(
        "t", "T", ("no", "yes"), (1, 1, 1), ("",) * 3, "tiny", 1, None, "probe",
        TrainingOptions(), tuple(planned), folds=("1", "1", "2"),
    )  # fmt: skip
    pooled = board(plan, *runs)
    assert [row.test_accuracy for row in pooled.rows()] == pytest.approx([2 / 3, 1 / 3])
    assert pooled.gap("adapter", "bitfit")[0] == pytest.approx(1 / 3)
    assert board(plan, *runs[:3]).gap("adapter", "bitfit")[0] == pytest.approx(1 / 2)
    assert confusion(runs[1], plan).tolist() == [[0, 0], [1, 0]]
    # Where the adapter lacks its hard fold it is not the better one for that: only clips that both
    # were tested on count.
    first, second = (1, 0), (1, 1)
    hard = [
        replace(run, predicted=p)
        for run, p in zip((runs[0], runs[2]), (first, second), strict=True)
    ]
    lead = board(plan, *hard, runs[3]).lead()
    assert lead.clips == 2 and lead.rows[0].method == "bitfit"
    assert lead.gap == pytest.approx(1 / 2)


def test_before_a_race_it_is_said_what_it_can_tell():
    """Of 300 clips at 60 %: 0.192 of them differ, 2.8 sqrt(0.192 * 300 + 1) / 300 = 7.1."""
    assert clips_needed(0.6, 0.07) == 308  # 0.192 (2.8016 / 0.07)^2
    clips = raced(a=("+" * 300,) * 2, b=("-" * 300,) * 2)
    assert outlook(clips) == ""
    clips.add(ProbeScored(0, "valid", 0.6, (), ()))
    said = outlook(clips)
    assert "probe has 60.0%" in said and "differ by 7.1% or more, 2 seeds" in said
    clips.add(ProbeScored(0, "valid", 0.99, (), ()))
    assert "Nothing can separate" in outlook(clips)
    few = raced(a="+" * 20)
    few.add(ProbeScored(0, "valid", 0.9, (), ()))
    assert "Nothing can separate" in outlook(few)


def test_the_pareto_line_of_any_two_columns():
    """b costs more than a and is no better; c is the best and the dearest."""
    [row] = board(finished("a", 0.5)).rows()
    a = replace(row, trained_parameters=10, test_accuracy=0.5)
    b = replace(row, method="b", trained_parameters=20, test_accuracy=0.5)
    c = replace(row, method="c", trained_parameters=30, test_accuracy=0.7)
    assert frontier([c, b, a], "trained_parameters", "test_accuracy") == [a, c]
    assert frontier([a, b, c], "val_accuracy", "test_accuracy") == [c]
