"""Tables and conclusions from events with known answers."""

import math
import re
from dataclasses import replace

import pytest

from softmoa.training.events import (
    Planned,
    PlannedRun,
    Preparing,
    ProbeScored,
    RunEvent,
    RunFailed,
    RunFinished,
)
from softmoa.training.fit import Evaluated, Started, Step, TrainingOptions
from softmoa.training.scoreboard import (
    PROBE,
    Scoreboard,
    conclusion,
    confusion,
    frontier,
    outlook,
)
from softmoa.training.statistics import clips_needed, half_width

NAMES = {"a": "adapter", "b": "bitfit", "c": "full"}


def finished(method: str, accuracy: float, seed: int = 0, predicted=(0, 1, 1)) -> RunFinished:
    return RunFinished(
        f"{method}, seed {seed}", method, seed, 1000, 20, 3, 4.0, 15.0, 7.0, 0.5, accuracy,
        predicted, tuple(0.5 for _ in predicted),
    )  # fmt: skip


def board(*events) -> Scoreboard:
    return Scoreboard().add_all(events)


def test_events_become_points_and_progress():
    result = board(
        Preparing("reading", 3, 10),
        RunEvent("a, seed 0", "a", 0, Started(1000, 40)),
        RunEvent("a, seed 0", "a", 0, Evaluated(0, 0, 0.0, 1.2, 0.25)),
        RunEvent("a, seed 0", "a", 0, Step(10, 1.5, 0.9, 8)),
        RunFailed("b, seed 0", "b", 0, "no."),
    )
    assert [(p.step, p.accuracy) for p in result.points] == [(0, 0.25)]
    assert result.progress == {"a, seed 0": pytest.approx(0.95 / 4), "b, seed 0": 1.0}
    assert result.preparing.done == 3 and [r.message for r in result.failed] == ["no."]


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
    assert half == pytest.approx(half_width([0.5, 0.0], math.sqrt(4 * 0.25**2 + 1) / 6))
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


def test_one_seed_makes_no_clear_winner():
    said = conclusion(raced(a="+" * 90 + "-" * 10, b="+" * 50 + "-" * 50))
    assert said.startswith(
        "Bottleneck adapter (90.0%) was ahead of BitFit (50.0%) on these 100 test clips"
    )
    assert "another seed may turn it round" in said


def test_only_seeds_that_both_finished_count():
    """One of B's seeds is missing: what A did with it is no reason to believe in A."""
    good, poor = "+" * 90 + "-" * 10, "+" * 50 + "-" * 50
    said = conclusion(raced(a=(good, good), b=poor))
    assert said.startswith("Bottleneck adapter (90.0%) was ahead of BitFit (50.0%)")
    assert "With one seed that both finished that is no clear win" in said
    said = conclusion(raced(a=(good,) * 3, b=(poor,) * 2))
    assert "clearly" in said and "100 test clips and 2 seeds that both finished" in said
    assert "both finished" not in conclusion(raced(a=(good,) * 2, b=(poor,) * 2))


def test_answers_to_the_same_clips_tell_more_than_their_numbers():
    """6 clips more of 100: clear if b is right nowhere else, noise if they differ on 30."""
    nested = raced(a=("+" * 86 + "-" * 14,) * 2, b=("+" * 80 + "-" * 20,) * 2)
    crossed = raced(a="+" * 68 + "+" * 18 + "-" * 14, b="+" * 68 + "-" * 18 + "+" * 12 + "--")
    assert "clearly" in conclusion(nested)
    assert "No clear difference" in conclusion(crossed)


def test_a_wide_spread_over_seeds_is_noise_too():
    good, poor = "+" * 180 + "-" * 20, "+" * 140 + "-" * 60
    assert "clearly" in conclusion(raced(a=(good,) * 3, b=(poor,) * 3))
    wide = raced(a=(poor, "+" * 200, "+" * 200), b=("+" * 200, poor, poor))
    assert "No clear difference" in conclusion(wide)


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
            runs.append(replace(finished(method, sum(said) / len(said), 0, said), run=name))
    plan = Planned(
        "t", "T", ("no", "yes"), (1, 1, 1), ("",) * 3, "tiny", 1, None, "probe",
        TrainingOptions(), tuple(planned), folds=("1", "1", "2"),
    )  # fmt: skip
    pooled = board(plan, *runs)
    assert [row.test_accuracy for row in pooled.rows()] == pytest.approx([2 / 3, 1 / 3])
    assert pooled.gap("adapter", "bitfit")[0] == pytest.approx(1 / 3)
    assert board(plan, *runs[:3]).gap("adapter", "bitfit")[0] == pytest.approx(1 / 2)
    assert confusion(runs[1], plan).tolist() == [[0, 0], [1, 0]]


def test_who_is_above_the_probe_is_said_where_the_methods_are_level():
    good = "+" * 70 + "-" * 30
    raced_ = raced(a=(good,) * 2, b=("-" + good[:-1],) * 2)
    for seed in (0, 1):
        said = tuple(int(k < 40) for k in range(100))
        raced_.add(ProbeScored(seed, "test", 0.4, said, (0.5,) * 100))
    assert raced_.gap("adapter", PROBE)[0] == pytest.approx(0.3)
    said = conclusion(raced_)
    assert "No clear difference" in said and "All are above the linear probe (40.0%)" in said
    assert re.search(r"from \+30\.0 ± \d+\.\d to \+30\.0 ± ", said)


def test_the_probe_is_a_mean_over_the_seeds():
    result = board(*(ProbeScored(s, "test", a, (), ()) for s, a in ((0, 0.5), (1, 0.6))))
    assert result.probe("test") == pytest.approx(0.55) and result.probe("valid") is None


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


def test_confusion_counts():
    plan = replace(raced(a="+++").plan, truth=(0, 0, 1))
    found = confusion(finished("adapter", 0.5, predicted=(0, 1, 1)), plan)
    assert found.tolist() == [[1, 1], [0, 1]]
