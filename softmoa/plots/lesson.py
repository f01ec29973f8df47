"""Figures of the lesson. Arguments may be tensors or arrays; experts keep their colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from softmoa.plots.style import QUIET, expert_colour, figure, literal

# Numbers stand on it in the page's own colour, so it is paler than over a spectrogram.
CLEAR, PALE = "rgba(255,140,26,0)", "rgba(255,140,26,.6)"
FIXED = {"fixedrange": True, "showgrid": False, "automargin": True, "title_font_size": 13}


def matrix(values: ArrayLike, rows: Sequence[str], columns: Sequence[str], tint=True) -> go.Figure:
    """A small table of numbers (rows, columns); tint: weights from 0 to 1, coloured by value."""
    z = np.asarray(values, dtype=float)
    drawn = figure(40 + 28 * len(rows), margin={"l": 20, "r": 4, "t": 4, "b": 24})
    drawn.add_heatmap(
        z=z, x=list(columns), y=list(rows), zmin=0, zmax=1, xgap=2, ygap=2,
        colorscale=[CLEAR, PALE if tint else CLEAR], texttemplate="%{z:.2f}",
        hovertemplate="%{y}, %{x}: %{z:.5f}<extra></extra>",
    )  # fmt: skip
    return drawn.update_xaxes(FIXED).update_yaxes(FIXED, autorange="reversed")


def bottleneck(width: int, narrow: int) -> go.Figure:
    """An adapter as a shape: `width` numbers squeezed through `narrow` and back, to scale."""
    drawn = figure(260, margin={"l": 4, "r": 4, "t": 8, "b": 28}, showlegend=False)
    half, slim = width / 2, narrow / 2
    for name, x, y, colour in (
        (f"W down: {narrow} × {width}", (0, 0, 4, 4), (-half, half, slim, -slim), 0),
        (f"GELU of {narrow} numbers", (4, 4, 5, 5), (-slim, slim, slim, -slim), 1),
        (f"W up: {width} × {narrow}", (5, 5, 9, 9), (-slim, slim, half, -half), 0),
    ):
        drawn.add_scatter(
            x=x, y=y, fill="toself", mode="lines", line_color=expert_colour(colour),
            fillcolor=expert_colour(colour), hoveron="fills", text=name, hoverinfo="text",
        )  # fmt: skip
        y_text = half if colour else -half
        drawn.add_annotation(x=sum(x) / 4, y=y_text, yshift=-12, text=name)
    for x in (-0.6, 9.6):
        drawn.add_annotation(x=x, y=0, text=str(width))
    hidden = {"visible": False, "fixedrange": True}
    return drawn.update_xaxes(hidden, range=[-1.2, 10.2]).update_yaxes(hidden)


def shares(values: ArrayLike, steps: int) -> go.Figure:
    """Share of every expert against the training step, stacked to 1. values: (so far, n)."""
    drawn = figure(200, hovermode="x unified", margin={"l": 48, "r": 8, "t": 8, "b": 40})
    for j, share in enumerate(np.asarray(values, dtype=np.float32).T):
        drawn.add_scatter(
            x0=1, y=share, stackgroup="all", name=f"E{j + 1}",
            line={"width": 0.5, "color": expert_colour(j)}, fillcolor=expert_colour(j),
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    drawn.update_layout(legend={"traceorder": "normal"})
    drawn.update_xaxes(FIXED, range=[1, steps], title={"text": "training step", "standoff": 4})
    return drawn.update_yaxes(FIXED, range=[0, 1], tickformat=".0%")


def bars(
    names: Sequence[str], series: Mapping[str, ArrayLike], colours: Sequence[str], even: float = 0
) -> go.Figure:
    """Shares of 1 as bars, one of each series beside each name; dashed at `even`.

    colours: of the series, or as many as names: then of those, the second series hatched.
    """
    drawn = figure(96 + 32 * len(names), margin={"l": 20, "r": 10, "t": 30, "b": 30})
    for k, (name, values) in enumerate(series.items()):
        own = len(colours) == len(names)
        marker = {"color": list(colours) if own else colours[k], "pattern_shape": "/" * (own * k)}
        drawn.add_bar(
            x=np.asarray(values, dtype=float), y=list(map(literal, names)), orientation="h",
            name=name, marker=marker,
            hovertemplate="%{y}, " + name + ": %{x:.2%}<extra></extra>",
        )  # fmt: skip
    if even:
        drawn.add_vline(even, line={"dash": "dash", "color": QUIET})
    drawn.update_xaxes(FIXED, rangemode="tozero", tickformat=".0%")
    return drawn.update_yaxes(FIXED, autorange="reversed")


def carried(weights: ArrayLike, part: float) -> go.Figure:
    """Weight that each slot's strongest tokens carry; dashed at `part`. weights: (slots, m)."""
    drawn = figure(280)
    for j, line in enumerate(np.sort(np.asarray(weights), axis=1)[:, ::-1].cumsum(axis=1)):
        drawn.add_scatter(
            x0=1, y=line, name=f"slot {j + 1}",
            line={"color": expert_colour(j)}, hovertemplate="%{x} tokens carry %{y:.1%}",
        )  # fmt: skip
    drawn.add_hline(part, line={"dash": "dash", "color": QUIET})
    drawn.update_xaxes(FIXED, title_text="number of tokens, the strongest first")
    return drawn.update_yaxes(FIXED, tickformat=".0%", range=[0, 1.02])


def points(x: ArrayLike, y: ArrayLike, across: str, up: str) -> go.Figure:
    """A point per mixture and expert. x, y: (mixtures, n), at least 0."""
    drawn = figure(340)
    for j, (right, high) in enumerate(zip(np.asarray(x).T, np.asarray(y).T, strict=True)):
        drawn.add_scatter(
            x=right, y=high, mode="markers", name=f"E{j + 1}", customdata=np.arange(len(right)) + 1,
            marker={"color": expert_colour(j), "size": 10, "line": {"width": 1, "color": QUIET}},
            hovertemplate=f"{across}: %{{x:.4g}}<br>{up}: %{{y:.4g}}<br>mixture %{{customdata}}",
        )  # fmt: skip
    drawn.update_xaxes(FIXED, title_text=across, rangemode="tozero")
    return drawn.update_yaxes(FIXED, title_text=up, rangemode="tozero")
