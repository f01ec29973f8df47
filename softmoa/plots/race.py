"""Figures of a comparison: curves, costs, router balance, confusion; one page of them as a file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from textwrap import fill

import numpy as np
import plotly.graph_objects as go
from scipy.special import xlogy

from softmoa.plots.style import QUIET, SIGNED, expert_colour, figure

MOST_STEPS = 16  # of a course that are shown
LEGEND_EXPERTS = 8  # more are named where one points
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
    told: str


@dataclass(frozen=True)
class Cost:
    """What one method reached and what it cost; spread: standard deviation over seeds. best: the
    costs, "parameters" or "seconds", at which no other one is as good and cheaper."""

    name: str
    colour: str
    accuracy: float
    spread: float
    parameters: int
    seconds: float
    best: tuple[str, ...] = ()


def curves(
    methods: Sequence[Curve], *, x_title: str, y_title: str, x_end: float | None, percent: bool
) -> go.Figure:
    """A line for each method, and a band of one standard deviation where there are seeds."""
    number = ".1%" if percent else ".3f"
    picture = figure(
        230,
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
            x=_short(of.x), y=_short(of.mean), customdata=_short(of.spread), name=of.name,
            mode="lines+markers", marker_size=5, legendgroup=of.name,
            line={"color": of.colour, "width": 2.5, "dash": of.dash},
            hovertemplate=f"%{{y:{number}}} ± %{{customdata:{number}}}",
        )  # fmt: skip
    return picture


def lanes(methods: Sequence[Lane], probe: float | None, title: str, cost_title: str) -> go.Figure:
    """A track for each method, in their order, with a mark where it is and its cost beside it; the
    linear probe's accuracy dotted. The scale begins at the full 10 % below the last."""
    reached = [of.accuracy - of.spread for of in methods if of.accuracy == of.accuracy]
    low = floor(10 * min([*reached, 0.9 if probe is None else probe])) / 10
    # Options are written small: a phone has little room beside the lanes.
    parts = {of.name: of.name.partition(", ") for of in methods}
    small = "{}{}<span style='font-size:9px'>{}</span>".format
    picture = figure(
        56 + 22 * len(methods), showlegend=False, uirevision="kept",
        margin={"l": 8, "r": 8, "t": 24, "b": 24},
        xaxis={"range": [low, 1.01], "tickformat": ".0%", "domain": [0, 0.65], "fixedrange": True},
        yaxis={
            "autorange": "reversed", "automargin": True, "fixedrange": True,
            "tickvals": list(parts), "ticktext": [small(*part) for part in parts.values()],
            "tickfont_size": 11,
        },
    )  # fmt: skip
    for of in methods:
        picture.add_scatter(
            x=[low, of.accuracy], y=[of.name] * 2, mode="lines+markers",
            line={"color": of.colour, "width": 4},
            marker={"size": [0, 14], "color": of.colour, "opacity": 1},
            error_x={"array": [None, of.spread], "thickness": 1.5, "color": of.colour},
            hovertemplate=f"{of.told}<extra></extra>",
        )  # fmt: skip
    beside = {"showarrow": False, "xref": "paper", "x": 0.67, "xanchor": "left"}
    above = {"yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
    for of in methods:
        picture.add_annotation(y=of.name, text=of.cost, font_size=11, **beside)
    picture.add_annotation(text=cost_title, **(beside | above))
    picture.add_annotation(text=title, x=0, xref="paper", xanchor="left", **above)
    if probe is not None:
        picture.add_vline(probe, line={"dash": "dot", "color": QUIET})
    return picture


def _short(values: Sequence[float] | np.ndarray) -> list[float]:
    """Lists of short numbers: plotly packs arrays, of which no part can be sent."""
    return [float(f"{value:.4g}") for value in values]


def costs(methods: Sequence[Cost]) -> go.Figure:
    """Test accuracy against trained parameters and against seconds, both logarithmic, with the
    Pareto line of each; bars are one standard deviation over seeds."""
    picture = figure(290).set_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    picture.update_yaxes(tickformat=".0%")
    picture.update_yaxes(title_text="test accuracy", col=1)
    for column, what in enumerate(("parameters", "seconds"), 1):
        least = min([getattr(of, what) for of in methods if getattr(of, what)], default=1.0)
        left = least / 10  # of a cost of 0, which a logarithmic axis has no place for
        zero = any(not getattr(of, what) for of in methods)
        picture.update_xaxes(
            type="log", dtick=1, tickformat="~s" if what == "parameters" else "~g", col=column,
            title_text=what + " (left: none)" * zero,
        )  # fmt: skip
        line = sorted((getattr(of, what) or left, of.accuracy) for of in methods if what in of.best)
        if len(line) > 1:
            x, y = zip(*line, strict=True)
            picture.add_scatter(
                x=x, y=y, mode="lines", line={"color": QUIET, "dash": "dot"}, name="Pareto line",
                legendgroup="", showlegend=column == 1, hoverinfo="skip", row=1, col=column,
            )  # fmt: skip
        for of in methods:
            value = getattr(of, what)
            picture.add_scatter(
                x=[value or left], y=[of.accuracy], error_y={"array": [of.spread], "thickness": 1},
                mode="markers", marker={"size": 12, "color": of.colour}, name=of.name,
                legendgroup=of.name, showlegend=column == 1, row=1, col=column,
                hovertemplate=f"{of.name}: %{{y:.1%}} ± {of.spread:.1%}, {value:,.4g} {what}"
                "<extra></extra>",
            )  # fmt: skip
    return picture


def balance(shares: Mapping[str, Sequence[tuple[int, Sequence[Sequence[float]]]]]) -> go.Figure:
    """Share of every expert against step: a row per method, a panel per mixture, stacked.

    shares: name -> (step, (mixtures, experts)) after each evaluation; an expert's row sums to 1.
    """
    if not shares:
        return figure(40)
    rows = len(shares)
    picture = figure(90 + 100 * rows).set_subplots(rows, 1, vertical_spacing=0.5 / rows)
    few = max(len(course[-1][1][0]) for course in shares.values()) <= LEGEND_EXPERTS
    picture.update_layout(uirevision="kept", barmode="stack", bargap=0, showlegend=few)
    picture.update_layout(margin={"l": 0, "t": 60 if few else 24}, legend_y=1.1)
    picture.update_yaxes(range=[0, 1], showticklabels=False, showgrid=False)
    for row, (name, course) in enumerate(shares.items(), 1):
        kept = np.unique(np.linspace(0, len(course) - 1, MOST_STEPS).round().astype(int))
        share = np.array([course[k][1] for k in kept])  # (steps, mixtures, experts)
        rest = share[..., MOST_EXPERTS - 1 :].sum(axis=-1, keepdims=True)
        if share.shape[2] > MOST_EXPERTS:
            share = np.concatenate([share[..., : MOST_EXPERTS - 1], rest], axis=-1)
        gaps = np.vstack([share, np.full_like(share[:1], np.nan)])  # one beside each layer
        layers = np.arange(share.shape[1])
        for j in range(share.shape[2]):
            picture.add_bar(
                y=[None if np.isnan(v) else round(v, 3) for v in gaps[:, :, j].T.flat],
                x0=0.5 / len(gaps), dx=1 / len(gaps), marker_color=expert_colour(j),
                marker_line_width=0, name=f"E{j + 1}", legendgroup=f"E{j + 1}",
                showlegend=row == 1, hovertemplate=f"E{j + 1} %{{y:.1%}}<extra>{name}</extra>",
                row=row, col=1,
            )  # fmt: skip
        working = np.exp(-xlogy(share[-1], share[-1]).sum(axis=-1))
        picture.update_xaxes(
            tickvals=(layers + 0.5).tolist(),
            ticktext=[f"layer {k + 1}<br>{n:.1f}" for k, n in enumerate(working)],
            tickfont_size=10, tickangle=0, showgrid=False, row=row, col=1,
        )  # fmt: skip
        picture.add_annotation(
            text=name, x=0, xref="x domain", xanchor="left", y=1.02, yref="y domain",
            yanchor="bottom", showarrow=False, font_size=11, row=row, col=1,
        )  # fmt: skip
    return picture


def confusion(counts: np.ndarray, labels: Sequence[str]) -> go.Figure:
    """Rows are the true classes, columns what was said; blue is right, red is wrong.

    Of more than MOST_CLASSES, those with the most mistakes.
    """
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    counts, labels = counts[np.ix_(shown, shown)], [labels[int(i)] for i in shown]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = figure(310, margin={"l": 90, "b": 60, "t": 8})
    picture.add_heatmap(
        z=np.where(np.eye(len(counts), dtype=bool), -share, share).round(3).tolist(),
        zmin=-1, zmax=1, colorscale=SIGNED, showscale=False,
        text=[[f"{n or ''}" for n in row] for row in counts],
        texttemplate="%{text}" if len(counts) <= MOST_COUNTS else "",
        customdata=[
            [f"{labels[i]} taken for {labels[j]}: {n} of {sum(row)}" for j, n in enumerate(row)]
            for i, row in enumerate(counts)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    short = [label[:14] for label in labels]  # two may read alike, so places are numbers
    ticks = {"tickvals": list(range(len(labels))), "ticktext": short,
             "showgrid": False, "zeroline": False}  # fmt: skip
    picture.update_yaxes(autorange="reversed", title="true", **ticks)
    return picture.update_xaxes(title="said", **ticks)


def report(
    accuracy: Sequence[Curve],
    loss: Sequence[Curve],
    methods: Sequence[Cost],
    *,
    heading: str,
    conclusion: str,
    dpi: int = 150,
) -> bytes:
    """PNG of validation accuracy and loss, and of test accuracy against parameters and seconds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    page = Figure(figsize=(11, 8), dpi=dpi, layout="constrained")
    text = {"parse_math": False}  # a label may hold dollar signs
    page.suptitle(fill(heading, 90), fontweight="bold", fontsize=13, **text)
    page.supxlabel(fill(conclusion, 130), fontsize=9, **text)
    axes = page.subplots(2, 2)
    for place, lines, name in zip(axes[0], (accuracy, loss), ("accuracy", "loss"), strict=True):
        for of in lines:
            style = {"color": of.colour, "linestyle": {"dot": ":", "dash": "--"}.get(of.dash, "-")}
            place.plot(of.x, of.mean, marker="o", markersize=3, label=of.name, **style)
            place.fill_between(
                of.x, of.mean - of.spread, of.mean + of.spread, color=of.colour, alpha=0.15, lw=0
            )
        place.set(xlabel="training steps", ylabel=f"validation {name}")
    axes[0, 0].legend(fontsize=8)
    for place, what in zip(axes[1], ("parameters", "seconds"), strict=True):
        for of in methods:
            at = getattr(of, what), of.accuracy
            place.errorbar(*at, of.spread or None, fmt="o", color=of.colour, ms=8)
            place.annotate(of.name, at, (6, 6), textcoords="offset points", fontsize=8, **text)
        if positive := [getattr(of, what) for of in methods if getattr(of, what)]:
            place.set_xscale("symlog", linthresh=min(positive))  # with a place for 0
        place.margins(x=0.25, y=0.2)
        place.set(xlabel=f"{what} (logarithmic)", ylabel="test accuracy")
    file = io.BytesIO()
    FigureCanvasAgg(page).print_png(file)
    return file.getvalue()
