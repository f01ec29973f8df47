"""What the papers claim, and what the numbers of a study say to it: a verdict by a fixed rule.

A claim compares two conditions in one measure. The difference is taken between runs of the same
task and seed, which had the same clips, and comes with a 95 % interval, widened so that those of a
page hold together. It holds the luck of the seeds and, for accuracies, that of the test clips.
Where another part is tested with every seed, its clips are joined, and their groups are the luck;
of fewer than GROUPS, such as speakers, the seeds are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal

import numpy as np

from softmoa.training.statistics import clip_error, half_width

Verdict = Literal[
    "holds",
    "does not hold here",
    "cannot be tested at this size",
    "not tested: the runs are the same",
]
Says = Literal["more", "less", "equal", "no less"]
Row = Mapping[str, Any]
SOFT_MOA = "Soft-MoA, arXiv 2402.00828"
SOFT_MOE = "Soft MoE, arXiv 2308.00951"
NEGLIGIBLE = 0.02  # an accuracy that differs by less is as good as equal
GROUPS = 30  # of test clips, from which their spread says what others would do


@dataclass(frozen=True)
class Claim:
    """`a` has more (less, as much, no less) of `measure` than `b`, another condition or a number.

    margin: what counts as equal, in units of the measure. tasks: those that the claim is about; all
    if empty.
    """

    text: str
    source: str
    a: str
    says: Says
    b: str | float
    measure: str = "test_accuracy"
    margin: float = NEGLIGIBLE
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """a - b, mean over tasks and seeds, ± the half width of its 95 % interval (infinite with one
    seed). left, right: the two means. identical: whether both gave the same answers with the same
    confidence in every run, as runs of identical weights do."""

    left: float
    right: float
    mean: float
    half: float
    seeds: int
    identical: bool = False


def difference(rows: Sequence[Row], claim: Claim, together: int = 1) -> Difference | None:
    """Over the tasks and seeds that both conditions have; None if there are none.

    together: claims whose intervals shall hold at once. Half width: see `statistics.half_width`,
    with the luck of the clips for accuracies alone. Of a task that tests a single group, the
    interval says nothing about other groups.
    """
    left, right = _by_cell(rows, claim, claim.a), _by_cell(rows, claim, claim.b)
    if not isinstance(claim.b, str):
        right = {cell: {claim.measure: claim.b} for cell in left}
    cells = sorted(left.keys() & right.keys())
    if not cells:
        return None
    apart = {c: left[c][claim.measure] - right[c][claim.measure] for c in cells}
    seeds, tasks = (sorted({cell[k] for cell in cells}) for k in (1, 0))
    half = math.inf
    if len(seeds) > 1:
        of_task = [[(left[c], right[c]) for c in cells if c[0] == task] for task in tasks]
        of_seeds, errors = zip(*(_luck(pairs, claim) for pairs in of_task), strict=True)
        series = [values for values in of_seeds if values]
        of_seed = [sum(values) / len(tasks) for values in zip(*series, strict=False)]
        half = half_width(of_seed or [0.0], math.hypot(*errors) / len(tasks), together)
    return Difference(
        mean(left[c][claim.measure] for c in cells),
        mean(right[c][claim.measure] for c in cells),
        mean(apart.values()),
        half,
        len(seeds),
        all("answers" in left[c] and left[c]["answers"] == right[c].get("answers") for c in cells),
    )


def verdict(found: Difference | None, claim: Claim) -> Verdict:
    """Whether the whole interval says so, says otherwise, or neither."""
    if found is None or not math.isfinite(found.half):
        return "cannot be tested at this size"
    if found.identical:
        return "not tested: the runs are the same"
    low, high = found.mean - found.half, found.mean + found.half
    if claim.says == "equal":
        says = -claim.margin <= low and high <= claim.margin
        against = low > claim.margin or high < -claim.margin
    elif claim.says == "no less":
        says, against = -claim.margin <= low, high < -claim.margin
    else:
        low, high = (low, high) if claim.says == "more" else (-high, -low)
        says, against = low > 0, high < 0
    if says:
        return "holds"
    return "does not hold here" if against else "cannot be tested at this size"


def _by_cell(rows: Sequence[Row], claim: Claim, condition: str | float) -> dict[Any, Row]:
    return {
        (row["task"], row["seed"]): row
        for row in rows
        if row["condition"] == condition
        and (not claim.tasks or row["task"] in claim.tasks)
        and row.get(claim.measure) is not None
    }


def _luck(pairs: Sequence[tuple[Row, Row]], claim: Claim) -> tuple[list[float], float]:
    """Of the seeds of one task: their differences, none where their clips are joined, and of
    accuracies the standard error over the test clips."""
    of_seed = [a[claim.measure] - b[claim.measure] for a, b in pairs]
    if claim.measure != "test_accuracy" or not isinstance(claim.b, str):
        return of_seed, 0.0
    apart = [_hits(a) - _hits(b) for a, b in pairs]
    if len({a.get("test", "") for a, _ in pairs}) == 1:
        return of_seed, clip_error(np.stack(apart), pairs[0][0]["groups"])
    named = [f"{k} {group}" for k, (a, _) in enumerate(pairs) for group in a["groups"]]
    groups = np.unique(named, return_inverse=True)[1].tolist()
    if max(groups) + 1 < GROUPS:
        return of_seed, 0.0
    return [], clip_error(np.concatenate(apart)[None], groups)


def _hits(row: Row) -> np.ndarray:
    return np.array([int(hit) for hit in row["right"]], float)
