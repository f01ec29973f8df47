"""One page about a comparison for a file: curves, trade-offs and the conclusion."""

from __future__ import annotations

import io
from collections.abc import Sequence
from textwrap import fill

from softmoa.plots.race import Dot, Line


def race_report(
    accuracy: Sequence[Line],
    loss: Sequence[Line],
    by_size: Sequence[Dot],
    by_time: Sequence[Dot],
    *,
    heading: str,
    conclusion: str,
    x_title: str,
    dpi: int = 150,
) -> bytes:
    """PNG of validation accuracy and loss, and of test accuracy against size and against time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    text = {"parse_math": False}  # a label may hold dollar signs
    figure.suptitle(fill(heading, 90), fontweight="bold", fontsize=13, **text)
    (left, right), (size, time) = figure.subplots(2, 2)
    for axes, lines, name in (
        (left, accuracy, "validation accuracy"),
        (right, loss, "validation loss"),
    ):
        named = set()
        for line in lines:
            axes.plot(
                [x for x, _ in line.points],
                [y for _, y in line.points],
                color=line.style.colour,
                linestyle="--" if line.style.dashed else "-",
                linewidth=1.8,
                marker="o",
                markersize=3,
                label=None if line.name in named else line.name,
            )
            if line.kept is not None:
                kept = line.points[line.kept]
                axes.plot(*kept, marker="o", markersize=8, mfc="white", color=line.style.colour)
            named.add(line.name)
        axes.set(xlabel=x_title, ylabel=name)
        axes.grid(alpha=0.25)
    left.legend(fontsize=8)
    for axes, dots, name in (
        (size, by_size, "trained parameters"),
        (time, by_time, "seconds of a run"),
    ):
        for dot in dots:
            face = "white" if dot.style.dashed else dot.style.colour
            axes.errorbar(
                dot.x, dot.y, dot.spread or None, fmt="o", color=dot.style.colour, mfc=face, ms=8
            )
            axes.annotate(
                dot.name, (dot.x, dot.y), (6, 6), textcoords="offset points", fontsize=8, **text
            )
        positive = [dot.x for dot in dots if dot.x > 0]
        if positive:  # a logarithmic axis with a place for 0
            axes.set_xscale("symlog", linthresh=min(positive))
        axes.margins(x=0.25, y=0.2)
        axes.set(xlabel=name, ylabel="test accuracy")
        axes.grid(alpha=0.25)
    figure.supxlabel(fill(conclusion, 130), fontsize=9, **text)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
