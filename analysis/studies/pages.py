"""A study on disk: the table of its runs, the page with its verdicts, the figure."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.bench.measure import processor
from analysis.studies.catalogue import Training
from analysis.studies.claims import Claim, Row, difference, verdict
from analysis.tables import markdown
from softmoa.lens.balance import METRICS
from softmoa.training.statistics import spread

PERCENT = ("test_accuracy", "val_accuracy")
NAMES = {
    "val_accuracy": "validation, %",
    "test_accuracy": "accuracy, %",
    "seconds": "seconds",
    "change_at_start": "change at start, %",
    "change_trained": "change once trained, %",
}


def origin(rows: Sequence[Row]) -> str:
    """Commits that ran the rows, and machine, in one line."""
    commits = sorted({str(row.get("commit", "unknown")) for row in rows})
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"Commit {', '.join(commits)}; {processor()}, {os.cpu_count()} cores, {gpu}, Python "
        f"{platform.python_version()}, torch {version('torch')}; one thread a run."
    )


def by(rows: Sequence[Row], column: str) -> dict[Any, list[Row]]:
    """The rows of each value of a column, in the order in which the values appear."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def write_figure(path: Path, figure: Figure) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def claims_of(study: Training, rows: Sequence[Row]) -> list[str]:
    lines = []
    for claim in study.claims:
        found = difference(rows, claim, len(study.claims))
        compared = f"{claim.a} : {_of(claim.b, claim)}"
        numbers = ["", "", ""]
        if found is not None:
            half = "unknown" if math.isinf(found.half) else _of(found.half, claim)
            # That runs agree to the last digit makes no certainty.
            spread = f"± {half}" if found.half else "in every run"
            numbers = [
                f"{_of(found.left, claim)} : {_of(found.right, claim)}",
                f"{_signed(found.mean, claim)} {spread}",
                str(found.seeds),
            ]
        asked = [task for task in claim.tasks if any(row["task"] == task for row in rows)]
        about = f" ({', '.join(asked or claim.tasks)})" if claim.tasks else ""
        lines.append(
            [
                f"{claim.text}{about} [{claim.source}]",
                compared,
                NAMES.get(claim.measure, claim.measure),
                *numbers,
                f"**{verdict(found, claim)}**",
            ]
        )
    return markdown(
        ["claim", "compared", "measure", "means", "difference", "seeds", "verdict"], lines
    )


def results_of(study: Training, rows: Sequence[Row]) -> list[str]:
    """A table per task: mean ± standard deviation over the seeds; before them the accuracies."""
    measures = ("test_accuracy", *study.measures, "seconds")
    heads = ["", "parameters", *(NAMES.get(m, m) for m in measures), "seeds"]
    by_task = by(rows, "task")
    lines = _accuracies(rows, list(by_task)) if len(by_task) > 1 else []
    for task, of_task in by_task.items():
        body = []
        for label, of in by(of_task, "condition").items():
            cells = [_cell([r[m] for r in of if r.get(m) is not None], m) for m in measures]
            body.append([label, f"{of[0]['trained_parameters']:,}", *cells, str(len(of))])
        lines += ["", f"## {task}", "", *markdown(heads, body)]
    return lines


def _accuracies(rows: Sequence[Row], tasks: Sequence[str]) -> list[str]:
    """Test accuracy by condition and task, and its mean over the tasks."""
    body = []
    for label, of in by(rows, "condition").items():
        by_task = [[row["test_accuracy"] for row in of if row["task"] == task] for task in tasks]
        over_all = f"{100 * mean(map(mean, by_task)):.1f}" if all(by_task) else ""
        cells = [_cell(values, "test_accuracy") for values in by_task]
        body.append([label, f"{of[0]['trained_parameters']:,}", *cells, over_all])
    heads = ["accuracy, %", "parameters", *tasks, "mean"]
    return ["", "## Every task", "", *markdown(heads, body)]


def figure_of(study: Training, rows: Sequence[Row]) -> Figure:
    """Accuracy by task along the study's axis, or of each condition beside what it costs."""
    if study.watched:
        return _curves(rows)
    by_task = by(rows, "task")
    if not study.axis:
        return _beside_costs(rows)
    figure = Figure(figsize=(1.5 + 3.6 * len(by_task), 4.2), layout="constrained")
    panels = figure.subplots(1, len(by_task), squeeze=False)[0]
    for (task, of_task), axes in zip(by_task.items(), panels, strict=True):
        axes.set_title(task)
        axes.grid(alpha=0.25)
        axes.set_xscale("log", base=2)
        _lines(axes, of_task)
        axes.set(xlabel=study.axis, ylabel="test accuracy, %")
    panels[-1].legend(fontsize=7)
    return figure


def _beside_costs(rows: Sequence[Row]) -> Figure:
    """A line for each condition: accuracy by task, trained parameters, seconds over all tasks."""
    labels = list(by(rows, "condition"))
    shown = [(of, "test_accuracy", task) for task, of in by(rows, "task").items()]
    shown += [(list(rows), "trained_parameters", ""), (list(rows), "seconds", "")]
    size = 3 + 2.4 * len(shown), 1.5 + 0.28 * len(labels)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True)
    for (of, measure, title), axes in zip(shown, panels, strict=True):
        _dots(axes, of, labels, measure)
        scale = "linear" if title else "log"
        name = "test accuracy, %" if title else measure.replace("_", " ")
        axes.set(title=title, xlabel=name, xscale=scale)
        axes.grid(alpha=0.25)
    return figure


def _lines(axes: Any, rows: Sequence[Row]) -> None:
    for k, (series, of) in enumerate(by(rows, "series").items()):
        at, values = zip(*sorted(by(of, "at").items()), strict=True)
        accuracies = [[100 * row["test_accuracy"] for row in here] for here in values]
        axes.errorbar(
            [place * 1.03**k for place in at],  # beside each other
            [mean(v) for v in accuracies],
            [spread(v) for v in accuracies],
            marker="o",
            markersize=4,
            capsize=2,
            label=series,
        )
    points = sorted(by(rows, "at"))
    axes.set_xticks(points, [f"{at:g}" for at in points])


def _dots(axes: Any, rows: Sequence[Row], labels: Sequence[str], measure: str) -> None:
    """Every run, their mean, and of accuracies the standard deviation."""
    scale, found = 100 if measure == "test_accuracy" else 1, by(rows, "condition")
    for place, label in enumerate(reversed(labels)):
        if values := [scale * row[measure] for row in found.get(label, ())]:
            error = spread(values) if measure == "test_accuracy" else 0
            axes.errorbar(mean(values), place, xerr=error, fmt="o", color="#1f77b4", capsize=3)
            axes.plot(values, [place] * len(values), "|", color="#888888")
    axes.set_yticks(range(len(labels)), list(reversed(labels)), fontsize=8)


def _curves(rows: Sequence[Row]) -> Figure:
    """Every metric of balance against the share of training that is over, mean over all runs."""
    shown = [m.name for m in METRICS if any(m.name in row["curve"][0] for row in rows)]
    figure = Figure(figsize=(13, 3 * math.ceil(len(shown) / 4)), layout="constrained")
    panels = figure.subplots(math.ceil(len(shown) / 4), 4, squeeze=False).flatten()
    for axes, name in zip(panels, shown, strict=False):
        for label, runs in by(rows, "condition").items():
            if of := [row["curve"] for row in runs if name in row["curve"][0]]:
                steps = min(len(curve) for curve in of)
                values = [mean(curve[k][name] for curve in of) for k in range(steps)]
                axes.plot(range(steps), values, marker="o", markersize=3, label=label)
        axes.set_title(name, fontsize=9)
        axes.ticklabel_format(useOffset=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    lines = {}  # by label: not every mixture has every metric
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        lines |= dict(zip(labels, handles, strict=True))
    figure.legend(list(lines.values()), list(lines), loc="outside upper center", ncols=5)
    figure.supxlabel("epochs")
    return figure


def _of(value: float | str, claim: Claim) -> str:
    if isinstance(value, str):
        return value
    return f"{100 * value:.1f}" if claim.measure in PERCENT else f"{value:.3g}"


def _signed(value: float, claim: Claim) -> str:
    return f"{100 * value:+.1f}" if claim.measure in PERCENT else f"{value:+.3g}"


def _cell(values: Sequence[float], measure: str) -> str:
    if not values:
        return ""
    percent = measure in PERCENT or measure.startswith("change")
    shown = [100 * v for v in values] if percent else list(values)
    finite = all(map(math.isfinite, shown))  # max/min ratio: an expert may have nothing
    error = f" ± {spread(shown):.2g}" if len(shown) > 1 and finite else ""
    if measure == "seconds":
        return f"{mean(shown):.0f}"
    return f"{mean(shown):.1f}{error}" if percent else f"{mean(shown):.3g}{error}"
