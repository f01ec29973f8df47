"""Verdicts on claims: the whole interval over seeds and test clips must say so."""

import math

import numpy as np
import pytest

from analysis.studies.claims import Claim, difference, verdict


def rows(condition: str, accuracies: list[float], clips: int = 200, a_group: int = 1) -> list[dict]:
    return [
        {
            "groups": [k // a_group for k in range(clips)],
            "condition": condition,
            "task": "t",
            "seed": seed,
            "test_accuracy": round(a * clips) / clips,
            "right": ("1" * round(a * clips)).ljust(clips, "0"),
        }
        for seed, a in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("left", "right", "says", "expected"),
    [
        ([0.90, 0.91, 0.90], [0.70, 0.71, 0.69], "more", "holds"),
        ([0.70, 0.71, 0.69], [0.90, 0.91, 0.90], "more", "does not hold here"),
        ([0.90, 0.60, 0.80], [0.70, 0.71, 0.69], "more", "cannot be tested at this size"),
        ([0.90], [0.20], "more", "cannot be tested at this size"),
        ([0.80, 0.80, 0.80], [0.80, 0.80, 0.80], "equal", "holds"),
        ([0.90, 0.91, 0.90], [0.70, 0.71, 0.69], "equal", "does not hold here"),
    ],
)
def test_a_verdict_needs_the_whole_interval(left, right, says, expected):
    claim = Claim("", "", "a", says, "b")
    found = difference(rows("a", left) + rows("b", right), claim)
    assert found is not None and found.mean == pytest.approx(np.mean(left) - np.mean(right))
    assert verdict(found, claim) == expected


def test_seeds_that_test_different_speakers_hold_the_luck_of_the_clips():
    """Then the t interval of the three differences is all: 0.10, 0.20, 0.00 give 4.303 * 0.0577."""
    claim = Claim("", "", "a", "more", "b")
    both = rows("a", [0.8, 0.9, 0.7], 20, 20) + rows("b", [0.7, 0.7, 0.7], 20, 20)
    same = difference(both, claim)
    apart = difference([row | {"test": f"speaker {row['seed']}"} for row in both], claim)
    assert apart.half == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
    assert same.half > apart.half and same.mean == apart.mean == pytest.approx(0.1)


def test_folds_of_many_groups_are_one_large_test_set():
    """Of 60 clips in groups of two, 6 groups are right in one alone: 0.2 ± 1.96 SE, by hand.

    The squares of 30 groups weigh 30/29 (2.0452 / 1.96)² = 1.1264, for t stands in place of z.
    """
    claim = Claim("", "", "a", "more", "b")
    both = rows("a", [0.8, 0.9, 0.7], 20, 2) + rows("b", [0.6, 0.7, 0.5], 20, 2)
    found = difference([row | {"test": f"fold {row['seed']}"} for row in both], claim)
    squares = 6 * (2 - 2 * 0.2) ** 2 + 24 * (2 * 0.2) ** 2
    assert found.mean == pytest.approx(0.2)
    assert found.half == pytest.approx(1.95996 * math.sqrt(1.1264 * squares + 1) / 62, rel=1e-4)


def test_intervals_of_many_claims_hold_together():
    """Five at once are each at 99 %: 4.604 for the t of two degrees of freedom becomes 9.925."""
    claim = Claim("", "", "a", "more", "b", "share")
    both = [row | {"share": row["test_accuracy"]} for row in rows("a", [0.8, 0.9, 0.7])]
    both += [row | {"share": 0.5} for row in rows("b", [0.7] * 3)]
    one, five = (difference(both, claim, together) for together in (1, 5))
    assert five.half / one.half == pytest.approx(9.9248 / 4.3027, rel=1e-4)


def test_identical_runs_are_no_evidence():
    """Arms that both ended with the weights of the probe agree on everything, and say nothing."""
    claim = Claim("", "", "a", "equal", "b")
    both = rows("a", [0.8] * 3, 2000) + rows("b", [0.8] * 3, 2000)
    assert verdict(difference(both, claim), claim) == "holds"
    same = [row | {"answers": f"{row['seed']:012x}"} for row in both]
    assert verdict(difference(same, claim), claim) == "not tested: the runs are the same"
