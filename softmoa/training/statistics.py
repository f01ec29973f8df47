"""How much a difference between two methods means: one set of rules for the app and the studies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

import numpy as np
from scipy.special import ndtri, stdtrit  # the quantiles of scipy.stats, without its second

Z95 = float(ndtri(0.975))
Z80 = float(ndtri(0.8))
# Correlation, over the test clips, of which ones two methods answer rightly: 0.66 to 0.79 between
# Soft-MoA and six others in the recorded race: taken as less, so that a race promises less.
ALIKE = 0.6


def spread(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 for a single value."""
    return stdev(values) if len(values) > 1 else 0.0


def wilson(right: int, clips: int) -> tuple[float, float]:
    """95 % interval of an accuracy (Wilson 1927), as if the clips were independent."""
    if not clips:
        return math.nan, math.nan
    from scipy.stats import binomtest

    ends = binomtest(right, clips).proportion_ci(method="wilson")
    return float(ends.low), float(ends.high)


def half_width(of_seeds: Sequence[float], clips: float, together: int = 1) -> float:
    """Half the 95 % interval of a mean difference: sqrt((t SE_seeds)^2 + (z SE_clips)^2).

    of_seeds: the difference of each seed. clips: standard error over the test clips. t has as many
    degrees of freedom as there are seeds but one. Of a single seed this holds the luck of the clips
    alone; without any it is infinite. together: intervals that hold all at once in 95 % of cases
    (Bonferroni).
    """
    if not of_seeds:
        return math.inf
    level = 1 - 0.025 / together
    half = float(ndtri(level)) * clips
    if len(of_seeds) > 1:
        t = float(stdtrit(len(of_seeds) - 1, level))
        half = math.hypot(half, t * stdev(of_seeds) / math.sqrt(len(of_seeds)))
    return half


def smallest_difference(accuracy: float, clips: int) -> float:
    """Of two methods' accuracies: what a race on so many clips finds in four of five cases.

    accuracy: about that of both. Holds the luck of the clips alone, as `half_width` of many seeds;
    clips that are not independent tell less.
    """
    disagreeing = 2 * accuracy * (1 - accuracy) * (1 - ALIKE)
    return (Z95 + Z80) * math.sqrt((disagreeing * clips + 1) / clips**2) if clips else math.inf


def clips_needed(accuracy: float, difference: float) -> int:
    """About how many test clips `smallest_difference` is at most `difference` from."""
    disagreeing = 2 * accuracy * (1 - accuracy) * (1 - ALIKE)
    return math.ceil(disagreeing * ((Z95 + Z80) / difference) ** 2)


def clip_error(apart: np.ndarray, groups: Sequence[int]) -> float:
    """Standard error, over the test clips, of the mean difference of two methods' answers.

    apart: (seeds, clips), 1 where one is right and the other wrong, -1 the other way round, else 0.
    groups: of every clip, such as its speaker; clips of one group count as one draw. Where all are
    of one group, or none is named, every clip counts by itself, and nothing is said about other
    groups. As Agresti and Min (2005) advise for paired answers, clips that fall on either side are
    added, so that methods that agree on every clip are not taken for equal with certainty. Of few
    groups the sum of squares is short by one, and t stands for z (Cameron and Miller 2015).
    """
    of_clip = apart.mean(axis=0)
    if len(set(groups)) <= 1:
        groups = range(len(of_clip))
    of_group = np.bincount(np.asarray(groups), of_clip - of_clip.mean())
    few, draws = 1.0, len(set(groups))
    if draws > 1:
        few = draws / (draws - 1) * (float(stdtrit(draws - 1, 0.975)) / Z95) ** 2
    return math.sqrt(few * float(of_group @ of_group) + 1) / (len(of_clip) + 2)
