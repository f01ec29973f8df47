"""Tables and conclusions from events with known answers."""

import pytest

from softmoa.bundle import BundleInfo
from softmoa.events import Preparing, RunEvent, RunFailed, RunFinished
from softmoa.scoreboard import Scoreboard, conclusion, confusion, standard_error
from softmoa.training import Evaluated, Started, Step

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


def test_standard_error_of_a_fair_coin():
    """p = 1/2 on 98 clips: with one right and one wrong more, sqrt(0.25 / 100) = 0.05."""
    [row] = board(finished("a", 0.5)).rows()
    assert standard_error(row, 98) == pytest.approx(0.05)
    [certain] = board(finished("a", 1.0)).rows()
    assert standard_error(certain, 98) > 0


def test_a_clear_winner_is_named_and_noise_is_not():
    rows = board(finished("a", 0.9), finished("b", 0.5)).rows()
    assert conclusion(rows, 200, TITLES).startswith("A (90.0%) was clearly better than B (50.0%)")
    close = board(finished("a", 0.84), finished("b", 0.82), finished("c", 0.3)).rows()
    sentence = conclusion(close, 200, TITLES)
    assert sentence.startswith("No clear difference between A and B") and "C" not in sentence
    assert conclusion(rows[:1], 200, TITLES) == ""


def test_a_wide_spread_over_seeds_is_noise_too():
    narrow = [finished(m, p, s) for s in range(3) for m, p in (("a", 0.9), ("b", 0.8))]
    wide = [finished("a", p, s) for s, p in enumerate((0.7, 1.0, 1.0))]
    wide += [finished("b", p, s) for s, p in enumerate((1.0, 0.7, 0.7))]
    assert "clearly" in conclusion(board(*narrow).rows(), 2000, TITLES)
    assert "No clear difference" in conclusion(board(*wide).rows(), 2000, TITLES)


def test_confusion_counts():
    assert confusion(finished("a", 0.5, predicted=(0, 1, 1)), [0, 0, 1]) == [[1, 1], [0, 1]]
