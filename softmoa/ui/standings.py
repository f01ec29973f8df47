"""What the Compare tab shows of a comparison: progress, table, curves, and what comes at the end.

Everything is drawn from a Scoreboard, so a saved comparison looks like the one that just ran. What
changes while it runs is a list of strings, of which the page is sent the changed ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from softmoa import plots, scoreboard
from softmoa.events import Planned, RunFinished
from softmoa.methods import METHODS
from softmoa.plan import ENDLESS
from softmoa.plots.race import Dot, Line, Style
from softmoa.scoreboard import Row, Scoreboard
from softmoa.ui.texts import compare as texts

TITLES = {name: method.title for name, method in METHODS.items()}


def styles(plan: Planned) -> dict[str, Style]:
    """Colour and dash of each method, by its place in the comparison."""
    methods = dict.fromkeys(run.method for run in plan.runs)
    return {method: Style.of(place) for place, method in enumerate(methods)}


def duration(seconds: float) -> str:
    """As one says it: 0.4 s, 45 s, 2 min 5 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"


def share_done(board: Scoreboard, weights: Mapping[str, float]) -> float:
    """Part of the work that is over; `weights`: run -> seconds it was estimated to take."""
    whole = sum(weights.values())
    done = sum(weights.get(run, 0.0) * part for run, part in board.progress.items())
    return done / whole if whole else 0.0


def progress_bar(share: float, words: str) -> list[str]:
    """A bar and a sentence."""
    return [
        "<div class='moa race'><div class='race-bar' role='progressbar' aria-label='Part done' "
        f"aria-valuemin='0' aria-valuemax='100' aria-valuenow='{100 * share:.0f}'><i style='width:",
        f"{100 * share:.0f}",
        "%'></i></div><p role='status'>",
        escape(words),
        "</p></div>",
    ]


def results_table(board: Scoreboard, over: bool) -> list[str]:
    """A row per method, filled in as runs end: size, speed, memory and accuracies."""
    plan = board.plan
    if plan is None:
        return []
    rows = {row.method: row for row in board.rows()}
    head = "".join(f"<th>{escape(name)}</th>" for name in texts.COLUMNS)
    parts = [
        "<div class='moa race'><div class='race-scroll'><table class='race-table'><thead><tr>"
        f"{head}</tr></thead><tbody>"
    ]
    for method, style in styles(plan).items():
        row = rows.get(method)
        runs = [run for run in plan.runs if run.method == method]
        size = f"{runs[0].trained_parameters:,}"
        size += f" ({100 * runs[0].trained_parameters / plan.backbone_parameters:.2g} %)"
        cells = _measured(row, _kept(board, method)) if row else _so_far(board, method)
        parts += [
            f"<tr><td>{style.key}{escape(TITLES[method])}</td><td>{size}</td>",
            "".join(f"<td>{cell}</td>" for cell in cells),
            "<td>",
            _state(board, method, over),
            "</td></tr>",
        ]
    spread = texts.TABLE_SPREAD if any(row.seeds > 1 for row in rows.values()) else ""
    parts.append(f"</tbody></table></div><p class='moa-note'>{texts.TABLE_NOTE}{spread}</p></div>")
    return parts


def _measured(row: Row, kept: str) -> list[str]:
    spread = f" ± {100 * row.spread:.1f}" if row.seeds > 1 else ""
    return [
        f"{row.clips_per_second:.1f}" if row.clips_per_second < 1000 else "> 1000",
        f"{row.seconds:.1f}",
        f"{row.memory_mb:.0f} MB" if row.memory_mb >= 1 else "< 1 MB",
        f"{100 * row.val_accuracy:.1f} %{kept}",
        f"{100 * row.test_accuracy:.1f}{spread} %",
    ]


def _kept(board: Scoreboard, method: str) -> str:
    """The steps whose weights were kept, one for each seed."""
    runs = [run.run for run in board.finished if run.method == method]
    steps = [board.kept[run] for run in runs if run in board.kept]
    if not steps:
        return ""
    words = texts.KEPT if len(steps) == 1 else texts.KEPT_SEVERAL
    return f" <small>{words.format(steps=', '.join(map(str, steps)))}</small>"


def _so_far(board: Scoreboard, method: str) -> list[str]:
    found = [point.accuracy for point in board.points if point.method == method]
    return ["", "", "", f"{100 * max(found):.1f} %" if found else "", ""]


def _state(board: Scoreboard, method: str, over: bool) -> str:
    assert board.plan is not None
    for failed in board.failed:
        if failed.method == method:
            return escape(failed.message)
    runs = [run.run for run in board.plan.runs if run.method == method]
    done = sum(run.method == method for run in board.finished)
    if done == len(runs):
        return texts.STATE_DONE
    if over:
        return texts.STATE_STOPPED + (f", {done} of {len(runs)} seeds" if len(runs) > 1 else "")
    share = sum(board.progress.get(run, 0.0) for run in runs) / len(runs)
    if not share:
        return texts.STATE_WAITING
    return texts.STATE_TESTING if share >= 0.95 else texts.STATE_RUNNING.format(share=100 * share)


def curves(board: Scoreboard, axis: str) -> tuple[list[str], list[str]]:
    """Validation accuracy and loss of every run, against "step" or "seconds"."""
    if board.plan is None:
        return [], []
    shared = {
        "x_title": texts.X_STEP if axis == "step" else texts.X_SECONDS,
        "x_end": _x_end(board, axis),
    }
    return (
        plots.curves(_lines(board, axis, "accuracy"), title=texts.ACCURACY, percent=True, **shared),
        plots.curves(_lines(board, axis, "loss"), title=texts.LOSS, **shared),
    )


def _lines(board: Scoreboard, axis: str, value: str) -> list[Line]:
    assert board.plan is not None
    style = styles(board.plan)
    lines = []
    for run in board.plan.runs:
        points = [point for point in board.points if point.run == run.run]
        steps = [point.step for point in points]
        kept = board.kept.get(run.run)
        lines.append(
            Line(
                TITLES[run.method],
                style[run.method],
                [(getattr(point, axis), getattr(point, value)) for point in points],
                # Without validation clips the last step is kept, which no point is of.
                steps.index(kept) if kept in steps else None,
            )
        )
    return lines


def _x_end(board: Scoreboard, axis: str) -> float:
    """A neat end of the axis that seldom moves."""
    planned = max(board.expected.values(), default=0)
    if axis == "step" and 0 < planned < ENDLESS:
        return float(planned)
    furthest = max((getattr(p, axis) for p in board.points), default=0.0)
    furthest = max(furthest, 1.0)
    step = 10 ** math.floor(math.log10(furthest)) / 2
    return math.ceil(furthest / step) * step


def router_balance(board: Scoreboard) -> list[str]:
    """Share per expert against step, of the first seed of every mixture."""
    if board.plan is None:
        return []
    first = board.plan.runs[0].seed
    shares = {
        TITLES[run.method]: [(event.step, event.share) for event in board.balance[run.run]]
        for run in board.plan.runs
        if run.seed == first and run.run in board.balance
    }
    return plots.balance(
        shares, title=texts.BALANCE, note=texts.BALANCE_NOTE, x_end=_x_end(board, "step")
    )


def trade_offs(board: Scoreboard) -> tuple[str, str]:
    """Test accuracy against trained parameters, and against seconds."""
    note = texts.SPREAD_NOTE if any(row.seeds > 1 for row in board.rows()) else ""
    size, time = _dots(board, "trained_parameters"), _dots(board, "seconds")
    return (
        plots.trade_off(size, title=texts.BY_SIZE, x_title=texts.BY_SIZE_X, note=note),
        plots.trade_off(time, title=texts.BY_TIME, x_title=texts.BY_TIME_X, note=note),
    )


def _dots(board: Scoreboard, value: str) -> list[Dot]:
    assert board.plan is not None
    style = styles(board.plan)
    return [
        Dot(
            TITLES[row.method],
            style[row.method],
            getattr(row, value),
            row.test_accuracy,
            row.spread,
        )
        for row in board.rows()
    ]


def report_png(board: Scoreboard) -> bytes:
    """Curves, trade-offs and conclusion on one page."""
    assert board.plan is not None
    return plots.race_report(
        _lines(board, "step", "accuracy"),
        _lines(board, "step", "loss"),
        _dots(board, "trained_parameters"),
        _dots(board, "seconds"),
        heading=board.plan.title,
        conclusion=conclusion(board),
        x_title=texts.X_STEP,
    )


def conclusion(board: Scoreboard) -> str:
    return scoreboard.conclusion(board, TITLES)


def confusion(run: RunFinished, plan: Planned) -> str:
    """Confusion matrix of a run on the test clips."""
    return plots.confusion_table(
        scoreboard.confusion(run, plan.truth),
        plan.labels,
        title=texts.CONFUSION.format(run=run.run),
        note=texts.CONFUSION_NOTE,
    )


def worst_clips(run: RunFinished, plan: Planned) -> str:
    """Buttons with `data-clip`, the index of the test clip, worst first."""
    buttons = []
    for miss in scoreboard.worst(run, plan.truth):
        truth, said = plan.labels[miss.truth], plan.labels[miss.said]
        words = texts.WORST_SURE if miss.truth == miss.said else texts.WORST_CLIP
        buttons.append(
            f"<button type='button' data-clip='{miss.clip}'><span aria-hidden='true'>▶</span><span>"
            f"{escape(words.format(truth=truth, said=said))}<small>"
            f"{escape(plan.clips[miss.clip])}; "
            f"{texts.WORST_NOTE.format(confidence=100 * miss.confidence)}</small></span></button>"
        )
    return (
        f"<div class='moa race'><div class='moa-head'><b>{texts.WORST}</b></div>"
        f"<div class='race-clips'>{''.join(buttons)}</div></div>"
    )
