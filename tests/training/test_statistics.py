"""Intervals by hand, and against scipy's and numpy's own."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, t

from softmoa.training.statistics import Z95, clip_error, half_width, spread, wilson


def few(draws: int) -> float:
    """What the squares of so many draws are widened by."""
    return draws / (draws - 1) * (t.ppf(0.975, draws - 1) / Z95) ** 2


def test_clips_of_which_only_one_got_right_count():
    """Of 160 clips 3 for a and 1 for b: sum d = 2, sum d^2 = 4; then one either way is added."""
    apart = np.array([[1, 1, 1, -1] + [0] * 156])
    squares = (4 - 2**2 / 160) * few(160)
    assert clip_error(apart, range(160)) == pytest.approx(math.sqrt(squares + 1) / 162)
    assert clip_error(np.zeros((1, 156)), ()) == pytest.approx(1 / 158)


def test_clips_of_one_group_are_one_draw():
    """Eight clips of two speakers: a is right on all four of one, b of the other."""
    apart = np.array([[1, 1, 1, 1, -1, -1, -1, -1]])
    squares = (4**2 + 4**2) * few(2)
    assert clip_error(apart, [0] * 4 + [1] * 4) == pytest.approx(math.sqrt(squares + 1) / 10)
    for one_group in ([0] * 8, ()):  # every clip by itself
        assert clip_error(apart, one_group) == pytest.approx(math.sqrt(8 * few(8) + 1) / 10)


def test_of_two_speakers_little_is_known():
    """Their interval is that of Student's t of the two means, but for the clips that are added."""
    apart = np.array([[1.0] * 400 + [0.5] * 400])
    half = Z95 * clip_error(apart, [0] * 400 + [1] * 400)
    two = np.array([1.0, 0.5])
    assert half == pytest.approx(t.ppf(0.975, 1) * two.std(ddof=1) / math.sqrt(2), rel=0.01)


def test_seeds_and_clips_add_in_squares():
    seeds = [0.1, 0.2, 0.0]
    of_seeds = t.ppf(0.975, 2) * np.std(seeds, ddof=1) / math.sqrt(3)
    assert half_width(seeds, 0.0) == pytest.approx(of_seeds)
    assert half_width(seeds, 0.03) == pytest.approx(math.hypot(of_seeds, Z95 * 0.03))
    assert half_width([0.1], 0.03) == pytest.approx(Z95 * 0.03)
    assert half_width([], 0.03) == math.inf and spread([0.5]) == 0.0


def test_an_accuracys_interval():
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx(binomtest(8, 10).proportion_ci(0.95, "wilson"))
    assert all(map(math.isnan, wilson(0, 0)))
