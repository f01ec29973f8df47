"""What a comparison's events amount to on the page: verdict, rows of the table, figures.

Everything is made from a Scoreboard, so a saved comparison looks like the one that just ran.
"""

from __future__ import annotations

import math
from itertools import cycle
from statistics import mean

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from softmoa.lens.balance import at_work
from softmoa.methods import METHODS
from softmoa.plots import race
from softmoa.plots.race import Cost, Curve, Lane
from softmoa.plots.style import METHODS as COLOURS
from softmoa.plots.style import QUIET
from softmoa.training import scoreboard
from softmoa.training.cost import duration
from softmoa.training.plan import ENDLESS, title
from softmoa.training.scoreboard import Scoreboard
from softmoa.training.statistics import spread

NO_VERDICT = "Nothing to compare yet: two methods must finish."
COLUMNS = ["Method", "Validation", "Test", "Trained parameters", "Time", "Step memory", "Runs"]
AXES = {
    "trained parameters": "trained_parameters",
    "seconds": "seconds",
    "step memory, MB": "memory_mb",
    "validation accuracy": "val_accuracy",
    "test accuracy": "test_accuracy",
}  # of the figure of costs: columns of `MethodResult`
PROBE = "linear"
MOST_POINTS = 200  # of a curve: a screen shows no more
COLLAPSED = 0.5  # part of the experts: a mixture with fewer at work has collapsed
# Those that race most often come first. From the 13th on, dashes.
LEADING = ("soft-moa", "topk-moa", "dense-moa", "lora", "adapter", "bitfit", "full", "prefix")
ORDERED = [*LEADING, *(name for name in METHODS if name not in {PROBE, *LEADING})]
COLOUR = dict(zip(ORDERED, cycle(COLOURS), strict=False)) | {PROBE: QUIET}
DASH = {name: "dash" if k >= len(COLOURS) else "solid" for k, name in enumerate(ORDERED)}
DASH[PROBE] = "dot"


def colours(board: Scoreboard) -> dict[str, str]:
    """Of a method its own; where entries are of one method, those that no other has."""
    entries = dict.fromkeys(run.method for run in board.plan.runs) if board.plan else {}
    found = {entry: COLOUR[entry] for entry in entries if entry in COLOUR}
    free = cycle([colour for colour in COLOURS if colour not in found.values()] or COLOURS)
    return found | {entry: next(free) for entry in entries if entry not in COLOUR}


def verdict(board: Scoreboard) -> tuple[str, str]:
    """Markdown: who won by how much or that it is too close; then what collapsed, what is as good
    for less, and what would decide it."""
    plan, lead = board.plan, board.lead()
    if plan is None or lead is None:
        return f"### {NO_VERDICT}", ""
    found, gap, half, seeds, same, clips = lead
    best, second = found[:2]
    points = f"{100 * gap:.1f}" + f" ± {100 * half:.1f}" * math.isfinite(half) + " points"
    who, above, probe = title(best.method), "", scoreboard.probe_title(found)
    tied = scoreboard.tied(board, found)
    gain, luck, _ = board.gap(best.method, scoreboard.PROBE)
    if not lead.clear and gain > luck:
        above = f"{who} is {100 * gain:.1f} ± {100 * luck:.1f} points above {probe}. "
        who = "it"
    if lead.clear:
        head = f"{who} wins by {points}"
    elif gap > half:
        head = f"With one seed, {who} is {points} ahead"
    elif gap < 0.0005:
        head = f"Too close to call: {who} and {title(second.method)} are level"
    else:
        head = f"Too close to call: {who} is {points} ahead of the next"
    part = best.trained_parameters / (plan.backbone_parameters or 1)
    won = (
        f"### {above}{head}\n{title(best.method)}: **{best.test_accuracy:.1%}** of "
        f"{clips} test clips, {best.trained_parameters:,} trained parameters "
        f"({part:.2%} of the backbone), {duration(best.seconds)} for a run."
    )
    said = [words] if (words := collapse(board)) else []
    cheap = min(tied, key=lambda row: (row.trained_parameters, row.seconds))
    if gain <= luck < math.inf:
        said.append(f"Cheapest that is not clearly worse: {probe}, 0 parameters.")
    elif len(tied) > 1:
        size, time = f"{cheap.trained_parameters:,} parameters", duration(cheap.seconds)
        said.append(f"Cheapest that is not clearly worse: {title(cheap.method)}, {size}, {time}.")
    if not lead.clear and not same:
        # The interval's width falls with the root of the number of clips.
        times = math.ceil((half / gap) ** 2) if gap > 0 else math.inf
        if second.test_accuracy >= scoreboard.SATURATED:
            needed = "a harder task; nearly every clip is right already"
        elif seeds < 3:
            needed = "three seeds, under More settings"
        elif times <= 20:
            needed = f"about {times} times as many test clips or seeds"
        else:
            needed = "nothing in reach; take the cheapest"
        said.append(f"**What would decide it:** {needed}.")
    said.append(f"*{scoreboard.conclusion(board)}*")
    return won, "  \n".join(said)


def collapse(board: Scoreboard) -> str:
    """Which mixtures collapsed and which did not, with the experts at work in the end as means over
    runs and layers; empty where there are none of several experts."""
    ends: dict[str, list[torch.Tensor]] = {}
    for course in board.balance.values():
        if len(course[-1].share[0]) > 1:
            ends.setdefault(course[-1].method, []).append(torch.tensor(course[-1].share))
    told: dict[bool, list[str]] = {True: [], False: []}
    for method, shares in ends.items():
        working, experts = at_work(shares), shares[0].shape[-1]
        few = working < COLLAPSED * experts
        told[few].append(f"{title(method)} ({working:.1f} of {experts})")
    fell, stood = (", ".join(told[few]) for few in (True, False))
    if not fell:
        return f"**No mixture collapsed**; experts at work: {stood}." if stood else ""
    said = f"**Collapsed**, with fewer than half of its experts at work: {fell}."
    return said + f" Not: {stood}." * bool(stood)


def reached(board: Scoreboard) -> dict[str, list[float]]:
    """Method -> the last validation accuracy of each of its runs that has one; the best first."""
    last = {point.run: (point.method, point.accuracy) for point in board.points}
    last |= {run.run: (run.method, run.val_accuracy) for run in board.finished}
    found: dict[str, list[float]] = {}
    for method, accuracy in last.values():
        if not math.isnan(accuracy):  # as without validation clips
            found.setdefault(method, []).append(accuracy)
    return dict(sorted(found.items(), key=lambda of: -mean(of[1])))


def lanes(board: Scoreboard, over: bool) -> go.Figure:
    """Every method on its track, the best validation accuracy first."""
    found, paint, tracks = reached(board), colours(board), []
    for method, row in rows(board, over).items():
        name, _, _, size, time, _, so_far = row
        at, cost = found.get(method, [math.nan]), f"{size.partition(' ')[0]} · {time or so_far}"
        told = [f"{k}: {v}" for k, v in zip(COLUMNS, row, strict=True) if v]
        tracks.append(Lane(name, paint[method], mean(at), spread(at), cost, told))
    return race.lanes(tracks, board.probe("valid"), "validation accuracy", "parameters · time")


def rows(board: Scoreboard, over: bool) -> dict[str, list[str]]:
    """Method -> its row of the table of `COLUMNS`, the best validation accuracy first."""
    if (plan := board.plan) is None:
        return {}
    done, found = {row.method: row for row in board.rows()}, reached(board)
    failed = {of.method: of.message for of in board.failed}
    methods, table = dict.fromkeys(run.method for run in plan.runs), {}
    for method in sorted(methods, key=lambda method: -mean(found.get(method, [0]))):
        runs = [run for run in plan.runs if run.method == method]
        share = sum(board.progress.get(run.run, 0.0) for run in runs) / len(runs)
        ended = sum(run.method == method for run in board.finished)
        so_far = f"{ended} of {len(runs)}" if over or ended == len(runs) else f"{share:.0%}"
        test = time = memory = ""
        if row := done.get(method):
            test = f"{row.test_accuracy:.1%}" + f" ± {row.spread:.1%}" * (row.seeds > 1)
            time = duration(row.seconds)
            memory = f"{row.memory_mb:.0f} MB" if row.memory_mb >= 1 else "< 1 MB"
        valid = f"{mean(found[method]):.1%}" if method in found else ""
        size = runs[0].trained_parameters
        size = f"{size:,} ({100 * size / (plan.backbone_parameters or 1):.2g}%)"
        so_far = failed.get(method, so_far)
        table[method] = [title(method), valid, test, size, time, memory, so_far]
    return table


def table(board: Scoreboard, over: bool) -> list[list[str]]:
    """The rows, and below them the linear probe on frozen features, which takes no place."""
    found = [*rows(board, over).values()]
    known = [math.nan if of is None else of for of in map(board.probe, ("valid", "test"))]
    if board.plan is None or all(map(math.isnan, known)):
        return found
    name = f"Not ranked: {scoreboard.probe_title(board.plan.runs)}"
    accuracy = ["" if math.isnan(of) else f"{of:.1%}" for of in known]
    return [*found, [name, *accuracy, "0 (0%)", "", "", ""]]


def curves(board: Scoreboard, shown: str, axis: str) -> go.Figure:
    """Validation "accuracy" or "loss" of every method against "step" or "seconds"."""
    planned = max(board.expected.values(), default=0)
    return race.curves(
        lines(board, shown, axis),
        x_title="training steps" if axis == "step" else "seconds of the run's own time",
        y_title=f"validation {shown}",
        x_end=planned if axis == "step" and 0 < planned < ENDLESS else None,
        percent=shown == "accuracy",
    )


def lines(board: Scoreboard, shown: str, axis: str) -> list[Curve]:
    """A curve per method; where seeds got differently far, over those that got there."""
    if not board.points:
        return []
    table = pd.DataFrame([vars(point) for point in board.points])
    table["evaluation"] = table.groupby("run").cumcount()
    means = table.groupby(["method", "evaluation"], sort=False)[[axis, shown]].agg(["mean", "std"])
    found, paint = [], colours(board)
    probe = board.probe("valid")
    if shown == "accuracy" and probe is not None and PROBE not in set(table["method"]):
        ends = np.array([0, table[axis].max()])
        found.append(Curve(title(PROBE), QUIET, ends, np.full(2, probe), np.zeros(2), DASH[PROBE]))
    for method, of in means.groupby("method", sort=False):
        shown_points = np.unique(np.linspace(0, len(of) - 1, MOST_POINTS).round().astype(int))
        x, mean, spread = of.fillna(0).to_numpy()[shown_points][:, [0, 2, 3]].T
        name = str(method)
        found.append(Curve(title(name), paint[name], x, mean, spread, DASH.get(name, "solid")))
    return found


def balance(board: Scoreboard) -> go.Figure:
    """Share per expert against step, of the first run of every mixture."""
    runs = board.plan.runs if board.plan else ()
    shares = {}
    for run in runs:
        if run.run in board.balance:
            course = [(of.step, of.share) for of in board.balance[run.run]]
            shares.setdefault(title(run.method), course)
    return race.balance(shares)


def costs(board: Scoreboard, x: str, y: str) -> list[Cost]:
    """Every finished method between two of AXES."""
    paint, rows, across, up = colours(board), board.rows(), AXES[x], AXES[y]
    best = scoreboard.frontier(rows, across, up)
    return [
        Cost(title(of.method), paint[of.method], getattr(of, across), getattr(of, up),
             of.spread if up == "test_accuracy" else 0.0, of in best)
        for of in rows
    ]  # fmt: skip


def report_png(board: Scoreboard) -> bytes:
    """Curves, costs and conclusion on one page."""
    return race.report(
        lines(board, "accuracy", "step"),
        lines(board, "loss", "step"),
        {cost: costs(board, cost, "test accuracy") for cost in list(AXES)[:2]},
        heading=board.plan.title if board.plan else "",
        conclusion=scoreboard.conclusion(board),
    )
