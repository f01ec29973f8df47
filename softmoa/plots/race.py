"""Figures of a comparison: curves, costs, router balance, confusion; one page of them as a file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil, floor
from textwrap import fill

import numpy as np
import plotly.graph_objects as go
from scipy.special import xlogy

from softmoa.plots.style import QUIET, SIGNED, TEXT, expert_colour, figure, literal

SHARES = ("validation accuracy", "test accuracy")  # titles of axes in percent
MOST_STEPS = 16  # of a course that are shown
LEGEND_EXPERTS = 8  # more are named where one points
MOST_ROWS = 20  # methods whose shares are shown, as many as may race by default
MOST_MIXTURES = 48  # of a method
MOST_EXPERTS = 32  # that have a colour each; the rest are one
MOST_CLASSES = 60  # of a confusion matrix, the most confused ones
MOST_COUNTS = 20  # classes up to which the counts of a confusion matrix can be read


@dataclass(frozen=True)
class Curve:
    """One method while it trains: mean and standard deviation over its seeds, each (points,)."""

    name: str
    colour: str
    x: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    dash: str = "solid"


@dataclass(frozen=True)
class Lane:
    """Where one method is: validation accuracy and its standard deviation over seeds, NaN before
    the first evaluation; cost: what stands beside it; told: lines of the hover."""

    name: str
    colour: str
    accuracy: float
    spread: float
    cost: str
    told: Sequence[str]


@dataclass(frozen=True)
class Cost:
    """One method between two numbers, x and y; spread: standard deviation of y over seeds. best:
    no other one is as good in both and better in one."""

    name: str
    colour: str
    x: float
    y: float
    spread: float
    best: bool


def curves(
    methods: Sequence[Curve], *, x_title: str, y_title: str, x_end: float | None, percent: bool
) -> go.Figure:
    """A line for each method, and a band of one standard deviation where there are seeds."""
    number = ".1%" if percent else ".3f"
    picture = figure(
        230,
        legend_font_size=11,
        uirevision="kept",  # what the legend hides stays hidden
        hovermode="x unified",
        xaxis={"title": x_title, "range": [0, x_end], "rangemode": "tozero"},
        yaxis={"title": y_title, "tickformat": ".0%" if percent else ".3g"},
    )
    for of in methods:
        low, high = of.mean - of.spread, of.mean + of.spread
        picture.add_scatter(
            x=_short([*of.x, *of.x[::-1]]), y=_short([*high, *low[::-1]]), fill="toself",
            fillcolor=of.colour, opacity=0.18, line_width=0, mode="lines", legendgroup=of.name,
            showlegend=False, hoverinfo="skip", visible=bool(of.spread.any()),
        )  # fmt: skip
        picture.add_scatter(
            x=_short(of.x), y=_short(of.mean), customdata=_short(of.spread), name=literal(of.name),
            mode="lines+markers", marker_size=5, legendgroup=of.name,
            line={"color": of.colour, "width": 2.5, "dash": of.dash},
            hovertemplate=f"%{{y:{number}}} ± %{{customdata:{number}}}",
        )  # fmt: skip
    return picture


def lanes(methods: Sequence[Lane], probe: float | None, title: str, cost_title: str) -> go.Figure:
    """A track for each method, in their order, with a mark where it is, name and cost above it; the
    linear probe's accuracy dotted. The scale is from the full 5 % below all to that above."""
    known = [of for of in methods if of.accuracy == of.accuracy]
    at = [of.accuracy + side * of.spread for of in known for side in (-1, 1)]
    at = [value for value in [*at, probe] if value is not None] or [0, 1]
    low, high = max(0, ceil(20 * min(at)) - 1) / 20, min(20, floor(20 * max(at)) + 1) / 20
    room = 0.04 * (high - low)  # for the numbers of both ends
    picture = figure(
        58 + 27 * len(methods), showlegend=False, uirevision="kept",
        margin={"l": 8, "r": 8, "t": 22, "b": 22},
        xaxis={"range": [low - room, high + room], "tickformat": ".1~%", "fixedrange": True},
        # Names stand above their lanes: beside them they would leave a phone no room.
        yaxis={"range": [len(methods) - 0.15, -0.75], "showticklabels": False, "fixedrange": True,
               "showgrid": False, "zeroline": False},
    )  # fmt: skip
    # All at once: plotly looks through all that is there whenever one is added.
    picture.add_traces(
        [
            go.Scatter(
                x=[low - room, of.accuracy], y=[place] * 2, mode="lines+markers",
                line={"color": of.colour, "width": 4}, name=literal(of.name),
                marker={"size": [0, 14], "color": of.colour, "opacity": 1},
                error_x={"array": [None, of.spread], "thickness": 1.5, "color": of.colour},
                hovertemplate="<br>".join(map(literal, of.told)) + "<extra></extra>",
            )
            for place, of in enumerate(methods)
        ]
    )  # fmt: skip
    beside = {"xref": "paper", "yanchor": "bottom"}
    left, right = beside | {"x": 0, "xanchor": "left"}, beside | {"x": 1, "xanchor": "right"}
    head = {"yref": "paper", "y": 1, "yshift": 4, "font_size": 12}
    said = [{"text": title, **left, **head}, {"text": cost_title, **right, **head}]
    for place, of in enumerate(methods):
        name, comma, options = literal(of.name).partition(", ")
        small = f"{name}{comma}<span style='font-size:9px'>{options}</span>"
        above = {"y": place, "yshift": 2, "font_size": 11}
        said += [{"text": small, **left, **above}, {"text": of.cost, **right, **above}]
    shapes = []
    if probe is not None:
        side = "left" if probe < (low + high) / 2 else "right"
        said.append({"text": f"linear probe {probe:.1%}", "x": probe, "xanchor": side,
                     "y": len(methods) - 0.3, "font_size": 11})  # fmt: skip
        # A part for each lane, below its name.
        shapes = [
            {"type": "line", "x0": probe, "x1": probe, "y0": place - 0.1, "y1": place + 0.4,
             "line": {"dash": "dot", "color": QUIET}}
            for place in range(len(methods))
        ]  # fmt: skip
    said = [go.layout.Annotation(**of) for of in said]
    return picture.update_layout(annotations=said, shapes=shapes)


def _short(values: Sequence[float] | np.ndarray) -> list[float]:
    """Lists of short numbers: plotly packs arrays, of which no part can be sent."""
    return [float(f"{value:.4g}") for value in values]


def costs(methods: Sequence[Cost], x_title: str, y_title: str) -> go.Figure:
    """Two numbers of every method against each other, costs of over a decade on a logarithmic
    axis, with the Pareto line; bars are one standard deviation over seeds."""
    picture = figure(296, uirevision="kept", legend_font_size=11)
    titles, places = {"x": x_title, "y": y_title}, {}
    for axis, title in titles.items():
        places[axis] = values = [getattr(of, axis) for of in methods]
        kind, least = {"tickformat": "~s"}, min(filter(None, values), default=1.0)
        if title in SHARES:
            kind = {"tickformat": ".0%"}
        elif max(values, default=0) >= 10 * least:
            kind |= {"type": "log", "dtick": 1}
            places[axis] = [value or least / 10 for value in values]
            title += " (lowest: none)" * (0 in values)  # a logarithm has no place for it
        picture.update_layout({f"{axis}axis": kind | {"title": {"text": title}}})
    points = list(zip(methods, places["x"], places["y"], strict=True))
    if len(line := sorted((x, y) for of, x, y in points if of.best)) > 1:
        x, y = zip(*line, strict=True)
        dots = {"color": QUIET, "dash": "dot"}
        picture.add_scatter(x=x, y=y, mode="lines", line=dots, name="Pareto line", hoverinfo="skip")
    for of, x, y in points:
        name = literal(of.name)
        told = [f"{title}: {_said(getattr(of, axis), title)}" for axis, title in titles.items()]
        spread = f" ± {of.spread:.1%}" if of.spread else ""
        picture.add_scatter(
            x=[x], y=[y], error_y={"array": [of.spread], "thickness": 1}, mode="markers",
            marker={"size": 12, "color": of.colour}, name=name,
            hovertemplate="<br>".join([name, *told]) + f"{spread}<extra></extra>",
        )  # fmt: skip
    return picture


def _said(value: float, title: str) -> str:
    if title in SHARES:
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def balance(shares: Mapping[str, Sequence[tuple[int, Sequence[Sequence[float]]]]]) -> go.Figure:
    """Share of every expert against step: a row per method, a panel per mixture, stacked.

    shares: name -> (step, (mixtures, experts)) after each evaluation; an expert's row sums to 1.
    Mixtures of one expert share nothing and are left out; so are rows and mixtures beyond the first
    MOST_ROWS and MOST_MIXTURES.
    """
    shares = {name: course for name, course in shares.items() if len(course[-1][1][0]) > 1}
    if not shares:
        return figure(40)
    shares = {literal(name): of for name, of in islice(shares.items(), MOST_ROWS)}
    rows = len(shares)
    few = max(len(course[-1][1][0]) for course in shares.values()) <= LEGEND_EXPERTS
    height = (64 if few else 32) + 80 * rows
    picture = figure(height).set_subplots(rows, 1, vertical_spacing=0.58 / rows)
    picture.update_layout(uirevision="kept", showlegend=few)
    picture.update_layout(margin={"l": 0, "t": 52 if few else 20, "b": 30}, legend_y=1.08)
    picture.update_yaxes(range=[0, 1], showticklabels=False, showgrid=False)
    traces, places, shapes, names = [], [], [], []  # all at once, as in `lanes`
    for row, (name, course) in enumerate(shares.items(), 1):
        axis = "" if row == 1 else row  # as plotly numbers them
        kept = np.unique(np.linspace(0, len(course) - 1, MOST_STEPS).round().astype(int))
        share = np.array([course[k][1][:MOST_MIXTURES] for k in kept])  # (steps, mixtures, experts)
        working = np.exp(-xlogy(share[-1], share[-1]).sum(axis=-1))
        rest = share[..., MOST_EXPERTS - 1 :].sum(axis=-1, keepdims=True)
        if share.shape[2] > MOST_EXPERTS:
            share = np.concatenate([share[..., : MOST_EXPERTS - 1], rest], axis=-1)
        layers = np.arange(share.shape[1])
        steps = np.vstack([*share.transpose(1, 0, 2), share[-1, -1:]]).round(3)  # layer by layer
        places += [row] * share.shape[2]
        traces += [
            go.Scatter(
                y=steps[:, j].tolist(), x0=0, dx=1 / len(share),
                stackgroup="one", mode="lines", line_shape="hv", line_width=0,
                fillcolor=expert_colour(j), name=f"E{j + 1}", legendgroup=f"E{j + 1}",
                showlegend=row == 1, hovertemplate=f"E{j + 1} %{{y:.1%}}<extra>{name}</extra>",
            )
            for j in range(share.shape[2])
        ]  # fmt: skip
        shapes += [
            {"type": "line", "x0": layer, "x1": layer, "y0": 0, "y1": 1, "xref": f"x{axis}",
             "yref": f"y{axis} domain", "line": {"width": 4, "color": QUIET}}
            for layer in layers[1:]
        ]  # fmt: skip
        picture.update_xaxes(
            tickvals=(layers + 0.5).tolist(),
            ticktext=[f"layer {k + 1}<br>{n:.1f}" for k, n in enumerate(working)],
            tickfont_size=10, tickangle=0, showgrid=False, row=row, col=1,
        )  # fmt: skip
        names.append(
            {"text": name, "x": 0, "xref": f"x{axis} domain", "xanchor": "left", "y": 1.02,
             "yref": f"y{axis} domain", "yanchor": "bottom", "font": {"size": 11}}
        )  # fmt: skip
    picture.add_traces(traces, rows=places, cols=[1] * len(traces))
    return picture.update_layout(shapes=shapes, annotations=names)


def confusion(counts: np.ndarray, labels: Sequence[str]) -> go.Figure:
    """Rows are the true classes, columns what was said; blue is right, red is wrong.

    Of more than MOST_CLASSES, those with the most mistakes.
    """
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    counts, names = counts[np.ix_(shown, shown)], [labels[int(i)] for i in shown]
    labels = list(map(literal, names))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = figure(340, margin={"l": 90, "b": 60, "t": 8})
    picture.add_heatmap(
        z=np.where(np.eye(len(counts), dtype=bool), -share, share).round(3).tolist(),
        zmin=-1, zmax=1, colorscale=SIGNED,
        text=[[f"{n or ''}" for n in row] for row in counts],
        texttemplate="%{text}" if len(counts) <= MOST_COUNTS else "",
        customdata=[
            [f"{labels[i]} taken for {labels[j]}: {n} of {sum(row)}" for j, n in enumerate(row)]
            for i, row in enumerate(counts)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    short = [literal(name[:14]) for name in names]  # two may read alike, so places are numbers
    ticks = {"tickvals": list(range(len(labels))), "ticktext": short,
             "showgrid": False, "zeroline": False}  # fmt: skip
    picture.update_yaxes(autorange="reversed", title="true", **ticks)
    return picture.update_xaxes(title="said", **ticks)


def report(
    accuracy: Sequence[Curve],
    loss: Sequence[Curve],
    costs: Mapping[str, Sequence[Cost]],
    *,
    heading: str,
    conclusion: str,
    dpi: int = 150,
) -> bytes:
    """PNG of validation accuracy and loss, and of test accuracy against two costs, by title."""
    from matplotlib.figure import Figure  # slow to import

    page = Figure(figsize=(11, 8), dpi=dpi, layout="constrained")
    page.suptitle(fill(heading, 90), fontweight="bold", fontsize=13, **TEXT)
    page.supxlabel(fill(conclusion, 130), fontsize=9, **TEXT)
    axes = page.subplots(2, 2)
    for place, lines, name in zip(axes[0], (accuracy, loss), ("accuracy", "loss"), strict=True):
        for of in lines:
            style = {"color": of.colour, "linestyle": {"dot": ":", "dash": "--"}.get(of.dash, "-")}
            place.plot(of.x, of.mean, marker="o", markersize=3, label=of.name, **style)
            place.fill_between(
                of.x, of.mean - of.spread, of.mean + of.spread, color=of.colour, alpha=0.15, lw=0
            )
        place.set(xlabel="training steps", ylabel=f"validation {name}")
    for text in axes[0, 0].legend(fontsize=8).get_texts():
        text.set(**TEXT)
    for place, (what, methods) in zip(axes[1], costs.items(), strict=True):
        for of in methods:
            at = of.x, of.y
            place.errorbar(*at, of.spread or None, fmt="o", color=of.colour, ms=8)
            place.annotate(of.name, at, (6, 6), textcoords="offset points", fontsize=8, **TEXT)
        if positive := [of.x for of in methods if of.x]:
            place.set_xscale("symlog", linthresh=min(positive))  # with a place for 0
        place.margins(x=0.25, y=0.2)
        place.set(xlabel=f"{what} (logarithmic)", ylabel="test accuracy")
    file = io.BytesIO()
    page.savefig(file, format="png")
    return file.getvalue()
