"""Tables and conclusions from events with known answers."""

import math
from dataclasses import replace

import pytest
from scipy.stats import t as student

from softmoa.bundle import BundleInfo
from softmoa.events import Planned, Preparing, RunEvent, RunFailed, RunFinished
from softmoa.scoreboard import STUDENT, Scoreboard, conclusion, confusion
from softmoa.training import Evaluated, Finished, Started, Step

TITLES = {"a": "A", "b": "B", "c": "C"}


def finished(method: str, accuracy: float, seed: int = 0, predicted=(0, 1, 1)) -> RunFinished:
    info = BundleInfo("x", "task", method, {}, ("one", "two"), "tiny", "00")
    return RunFinished(
        f"{method}, seed {seed}", method, seed, 1000, 20, 3, 4.0, 15.0, 7.0, 0.5, accuracy,
        predicted, tuple(0.5 for _ in predicted), info, {},
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
            runs.append(finished(method, sum(said) / len(said), seed, said))
    result = board(*runs)
    truth = (1,) * len(runs[0].predicted)
    result.plan = Planned(
        "t", "T", ("no", "yes"), truth, ("",) * len(truth), "tiny", 1, None, True, {}, ()
    )
    return result


def test_the_gap_counts_clips_that_one_got_right_and_the_other_wrong():
    """Of 160 clips 3 for a and 1 for b: sum d = 2, sum d^2 = 4; then one either way is added."""
    same = "+" * 100 + "-" * 56
    gap, half, _ = raced(a=same + "+++-", b=same + "---+").gap("a", "b")
    assert gap == pytest.approx(2 / 160)
    assert half == pytest.approx(1.96 * math.sqrt(4 - 2**2 / 160 + 1) / 162)
    gap, half, _ = raced(a=same, b=same).gap("a", "b")
    assert gap == 0 and half == pytest.approx(1.96 / 158)


def test_clips_of_one_group_are_one_draw():
    """Eight clips of two speakers: a is right on all four of one, b of the other."""
    result = raced(a="++++----", b="----++++")
    result.plan = replace(result.plan, groups=(0, 0, 0, 0, 1, 1, 1, 1))
    assert result.gap("a", "b")[1] == pytest.approx(1.96 * math.sqrt(4**2 + 4**2 + 1) / 10)
    result.plan = replace(result.plan, groups=(0,) * 8)  # one speaker: every clip by itself
    assert result.gap("a", "b")[1] == pytest.approx(1.96 * math.sqrt(8 + 1) / 10)


def test_over_seeds_their_spread_is_added():
    """Seeds differ by 2 and by 0 of 4 clips: variance 1 / 8 over 2 seeds, t of one degree 12.71."""
    gap, half, seeds = raced(a=("++++", "++--"), b=("++--", "++--")).gap("a", "b")
    of_clips = 1.96 * math.sqrt(4 * 0.25**2 + 1) / 6
    assert (
        gap == 0.25
        and seeds == 2
        and half == pytest.approx(math.hypot(of_clips, 12.71 * math.sqrt(1 / 16)))
    )
    assert raced(a="++", b=()).gap("a", "b") == (0.0, math.inf, 0)


def test_the_quantiles_are_students():
    assert STUDENT == pytest.approx(student.ppf(0.975, range(1, len(STUDENT) + 1)), rel=1e-3)


def test_a_clear_winner_is_named_and_noise_is_not():
    right, half, poor = "+" * 90 + "-" * 10, "+" * 50 + "-" * 50, "+" * 30 + "-" * 70
    said = conclusion(raced(a=(right,) * 2, b=(half,) * 2), TITLES)
    assert said.startswith("A (90.0%) was clearly better than B (50.0%)")
    assert "100 test clips and 2 seeds" in said
    close = raced(a="+" * 84 + "-" * 16, b="-" * 10 + "+" * 82 + "-" * 8, c=poor)
    said = conclusion(close, TITLES)
    assert said.startswith("No clear difference between A and B") and "C" not in said
    assert conclusion(raced(a=right), TITLES) == ""


def test_one_seed_makes_no_clear_winner():
    said = conclusion(raced(a="+" * 90 + "-" * 10, b="+" * 50 + "-" * 50), TITLES)
    assert said.startswith("A (90.0%) was ahead of B (50.0%) on these 100 test clips")
    assert "another seed may turn it round" in said


def test_only_seeds_that_both_finished_count():
    """One of B's seeds is missing: what A did with it is no reason to believe in A."""
    good, poor = "+" * 90 + "-" * 10, "+" * 50 + "-" * 50
    said = conclusion(raced(a=(good, good), b=poor), TITLES)
    assert said.startswith("A (90.0%) was ahead of B (50.0%)")
    assert "With one seed that both finished that is no clear win" in said
    said = conclusion(raced(a=(good,) * 3, b=(poor,) * 2), TITLES)
    assert "clearly" in said and "100 test clips and 2 seeds that both finished" in said
    assert "both finished" not in conclusion(raced(a=(good,) * 2, b=(poor,) * 2), TITLES)


def test_answers_to_the_same_clips_tell_more_than_their_numbers():
    """6 clips more of 100: clear if b is right nowhere else, noise if they differ on 30."""
    nested = raced(a=("+" * 86 + "-" * 14,) * 2, b=("+" * 80 + "-" * 20,) * 2)
    crossed = raced(a="+" * 68 + "+" * 18 + "-" * 14, b="+" * 68 + "-" * 18 + "+" * 12 + "--")
    assert "clearly" in conclusion(nested, TITLES)
    assert "No clear difference" in conclusion(crossed, TITLES)


def test_a_wide_spread_over_seeds_is_noise_too():
    good, poor = "+" * 180 + "-" * 20, "+" * 140 + "-" * 60
    assert "clearly" in conclusion(raced(a=(good,) * 3, b=(poor,) * 3), TITLES)
    wide = raced(a=(poor, "+" * 200, "+" * 200), b=("+" * 200, poor, poor))
    assert "No clear difference" in conclusion(wide, TITLES)


def test_the_step_that_was_kept():
    ended = Finished(10, 1.0, 5, 0.9, 20.0, 1.0)
    assert board(RunEvent("a, seed 0", "a", 0, ended)).kept == {"a, seed 0": 5}


def test_confusion_counts():
    assert confusion(finished("a", 0.5, predicted=(0, 1, 1)), [0, 0, 1]) == [[1, 1], [0, 1]]
