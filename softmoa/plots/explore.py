"""Figures of the Explore tab for the page: who contributed, and a long sound against time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from softmoa.plots.style import QUIET, ROWS, expert_colour, figure, literal

ROW = 26  # pixels of a bar
FOR, AGAINST = "rgba(178,24,43,.55)", "rgba(33,102,172,.55)"


def contributions(contribution, *, share, overall, layers: Sequence[str]) -> go.Figure:
    """One bar per layer, stacked by expert, and on top that of all layers together.

    contribution, share: (layers, n), rows sum to 1 or are all 0. overall: (n,).
    """
    rows, shares = np.vstack([overall, contribution]), np.asarray(share)
    names = ["All layers", *layers]
    drawn = figure(ROW * len(names) + 90, barmode="stack", bargap=0.15)
    for j, part in enumerate(rows.T):
        listened = ["", *(f"<br>share of combine {x:.2%}" for x in shares[:, j])]
        drawn.add_bar(
            x=part,
            y=names,
            orientation="h",
            name=f"E{j + 1}",
            marker_color=expert_colour(j),
            customdata=[
                f"E{j + 1}, {n}<br>contribution {x:.2%}{s}"
                for n, x, s in zip(names, part, listened, strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    return drawn.update_layout(
        xaxis={"tickformat": ".0%", "range": [0, 1], "title": "share of the added length"},
        yaxis=ROWS,
        legend_traceorder="normal",
    )


def flow(
    read, added, *, sources: Sequence[str], names: Sequence[str], labels: Sequence[str]
) -> go.Figure:
    """From the sound to the labels: where each expert reads, and what it adds to each logit.

    read: (experts, sources), rows sum to 1. added: (experts, labels), signed. names: of experts, as
    "E2" or "layer 3 E2". An expert's band is as wide as the sizes of what it adds are together;
    what comes in is divided as it reads. Of more than 12 experts only the largest are named.
    """
    read, added = np.asarray(read, float), np.asarray(added, float)
    short = [literal(label.partition(",")[0]) for label in labels]  # on a phone; the hover says all
    labels = list(map(literal, labels))
    size, s, n = np.abs(added).sum(axis=1), len(sources), len(names)
    named = np.argsort(-size)[:12]
    colours = [expert_colour(int(name.rpartition("E")[2]) - 1) for name in names]
    links = [
        (k, s + j, read[j, k] * size[j], f"rgba{(*hex_to_rgb(colours[j]), 0.45)}",
         f"{names[j]} reads {read[j, k]:.1%} from {sources[k]}")
        for j in range(n) for k in range(s)
    ] + [
        (s + j, s + n + c, abs(added[j, c]), FOR if added[j, c] > 0 else AGAINST,
         f"{names[j]}: {added[j, c]:+.4f} on the logit of {labels[c]}")
        for j in range(n) for c in range(len(labels))
    ]  # fmt: skip
    links = [link for link in links if link[2] > 0]
    sums = zip(labels, added.sum(axis=0), strict=True)
    start, end, width, colour, said = zip(*links, strict=True) if links else [()] * 5
    drawn = figure(340 if n <= 12 else 600, margin={"l": 8, "r": 8, "t": 8, "b": 8})
    drawn.add_sankey(
        arrangement="fixed",
        node={
            "label": [*sources, *(x if j in named else "" for j, x in enumerate(names)), *short],
            "customdata": [*sources, *names, *(f"{label}: {x:+.4f} in all" for label, x in sums)],
            "hovertemplate": "%{customdata}<extra></extra>",
            "color": [QUIET] * s + colours + [QUIET] * len(labels),
            "x": [1e-3] * s + [0.5] * n + [1 - 1e-3] * len(labels),
            "y": _middles(read.T @ size, size, np.abs(added).sum(axis=0)),
            "pad": 3,
            "thickness": 14,
            "line": {"width": 0},
        },
        link={
            "source": start,
            "target": end,
            "value": width,
            "color": colour,
            "customdata": said,
            "hovertemplate": "%{customdata}<extra></extra>",
        },
    )
    return drawn


def _middles(*columns: np.ndarray) -> list[float]:
    """Middles from 0 to 1 of nodes that lie in their order in each column, as high as their size;
    plotly would sort them by how their bands cross."""
    gaps = [min(0.03, 0.2 / len(sizes)) for sizes in columns]
    scale = min(
        (1 - gap * (len(sizes) - 1)) / max(sizes.sum(), 1e-12)
        for gap, sizes in zip(gaps, columns, strict=True)
    )
    found: list[float] = []
    for gap, sizes in zip(gaps, columns, strict=True):
        heights = sizes * scale
        starts = np.cumsum(heights + gap) - heights - gap
        margin = (1 - heights.sum() - gap * (len(sizes) - 1)) / 2
        found += (margin + starts + heights / 2).clip(1e-3, 1 - 1e-3).tolist()
    return found


def over_time(
    probabilities,
    shares,
    *,
    labels: Sequence[str],
    places: Sequence[str],
    spans: Sequence[tuple[float, float]],
    seconds: float,
) -> go.Figure:
    """Probabilities of labels in each window, and below them the experts' shares of one layer.

    probabilities: (windows, labels). shares: (places, windows, n), rows sum to 1; a menu chooses
    the place. spans: from and to of each window's cell, in seconds. seconds: of the axis, which is
    as wide and as far from the left as the stage's.
    """
    starts, ends = np.array(spans, np.float32).T  # a page's worth of digits
    middles, widths = (starts + ends) / 2, ends - starts
    drawn = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.14, figure=figure(520))
    drawn.add_heatmap(
        x=[round(float(edge), 2) for edge in (*starts, ends[-1])],
        y=list(map(literal, labels)),
        z=np.asarray(probabilities, np.float32).T,
        zmin=0,
        zmax=1,
        colorscale=[[0, "rgba(0,114,178,.06)"], [1, "#0072b2"]],
        hovertemplate="%{y}, around %{x:.1f} s: %{z:.1%}<extra></extra>",
        row=1,
        col=1,
    )
    experts = np.shape(shares)[2]
    for place, rows in enumerate(np.asarray(shares, np.float32)):
        for j, part in enumerate(rows.T):
            drawn.add_bar(
                x=middles,
                y=part,
                width=widths,
                name=f"E{j + 1}",
                marker_color=expert_colour(j),
                visible=place == 0,
                hovertemplate=f"E{j + 1}, around %{{x:.1f}} s: %{{y:.1%}}<extra></extra>",
                row=2,
                col=1,
            )
    menu = []
    for k, name in enumerate(places):
        shown = [True, *np.repeat(np.arange(len(places)) == k, experts).tolist()]
        menu.append({"label": name, "method": "update", "args": [{"visible": shown}]})
    drawn.update_layout(
        barmode="stack",
        bargap=0,
        legend={"y": 0.47, "yanchor": "bottom", "x": 0.18},
        margin_r=0,
        updatemenus=[{"buttons": menu, "x": 0, "xanchor": "left", "y": 0.55}] if menu else [],
    )
    drawn.update_yaxes(autorange="reversed", ticklabelposition="inside", row=1)
    drawn.update_yaxes(range=[0, 1], tickformat=".0%", row=2)
    drawn.update_xaxes(range=[0, seconds])
    drawn.update_xaxes(title="time in s", row=2)
    return drawn
