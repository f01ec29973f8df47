"""Figures of the Experts tab."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from softmoa.lens.contribution import PatchGrid
from softmoa.plots.style import (
    QUIET,
    ROWS,
    SIGNED,
    SPAN,
    TINT,
    expert_colour,
    figure,
    literal,
    mel_ticks,
)

# Pale enough that the text of either theme can be read on every cell.
CELLS = [[0, "rgba(255,140,26,0)"], [1, "rgba(255,140,26,.6)"]]
SIGNED_CELLS = [
    [0, "rgba(33,102,172,.55)"], [0.5, "rgba(33,102,172,0)"],
    [0.5, "rgba(178,24,43,0)"], [1, "rgba(178,24,43,.55)"],
]  # fmt: skip
CHANGED = "#3b82f6"
SHOWN = 6  # labels of an answer


def layers(
    values, *, rows: Sequence[str], unit: str, percent=False, signed=0, marks=None, chosen=None
) -> go.Figure:
    """A cell with its number for every expert of every layer, the first layer on top.

    values: (layers, n). signed: 1 where values above zero speak for the class, -1 where those below
    do, 0 where no value is below zero. marks: (layers, n) bool, cells that get an asterisk.
    chosen: layer and expert of the framed cell, from 0.
    """
    values = np.asarray(values, np.float64)
    top = float(np.abs(values).max()) or 1.0
    decimals = 2 if top >= 0.095 else min(1 - int(np.floor(np.log10(top))), 6)
    form = ".0%" if percent else f"{'+' * bool(signed)}.{decimals}f"
    exact = ".2%" if percent else "+.4f" if signed else ".4f"
    star = np.zeros(values.shape, bool) if marks is None else np.asarray(marks)
    text = [[f"{x:{form}}{' *' * bool(m)}" for x, m in zip(*row, strict=True)]
            for row in zip(values, star, strict=True)]  # fmt: skip
    drawn = figure(36 * len(rows) + 64, margin={"l": 64, "r": 8, "t": 30, "b": 18})
    drawn.add_heatmap(
        z=values,
        x=[f"E{j + 1}" for j in range(values.shape[1])],
        y=list(rows),
        text=text,
        texttemplate="%{text}",
        zmin=-top if signed else 0,
        zmax=top,
        xgap=2,
        ygap=2,
        colorscale=SIGNED_CELLS if signed else CELLS,
        reversescale=signed < 0,
        hovertemplate=f"%{{y}}, %{{x}}: %{{z:{exact}}} {unit}<extra></extra>",
    )
    if chosen is not None:
        (y, x), line = chosen, {"color": QUIET, "width": 3}
        drawn.add_shape(x0=x - 0.48, x1=x + 0.48, y0=y - 0.46, y1=y + 0.46, line=line)
    drawn.update_xaxes(side="top", showgrid=False, fixedrange=True)
    return drawn.update_yaxes(autorange="reversed", showgrid=False, fixedrange=True)


def answers(
    labels: Sequence[str], before, after, *, logits, names: tuple[str, str], target=None
) -> go.Figure:
    """Probabilities of the likeliest labels before and after a change, and of `target` in any case.

    before, after: (classes,). logits: those of both. names: of the two states.
    """
    before, after, logits = np.asarray(before), np.asarray(after), np.asarray(logits)
    order = np.argsort(-np.maximum(before, after), kind="stable")[:SHOWN]
    if target is not None and target not in order:
        order[-1] = target
    drawn = figure(44 * len(order) + 70, barmode="group", bargap=0.25, bargroupgap=0)
    for name, p, z, colour in zip(names, (before, after), logits, (QUIET, CHANGED), strict=True):
        drawn.add_bar(
            x=p[order],
            y=[literal(labels[int(c)]) for c in order],
            orientation="h",
            name=name,
            marker_color=colour,
            text=[f"{100 * x:.1f}%" for x in p[order]],
            textposition="outside",
            cliponaxis=False,
            customdata=np.stack([z, logits[1] - logits[0]], axis=1)[order],
            hovertemplate=f"%{{y}}, {name}: %{{x:.2%}}<br>logit %{{customdata[0]:.3f}}, "
            "changes by %{customdata[1]:+.3f}<extra></extra>",
        )
    drawn.update_xaxes(range=[0, 1.12], tickformat=".0%", tickvals=[0, 0.5, 1], fixedrange=True)
    return drawn.update_yaxes(ROWS)


def spectrograms(
    mels: Mapping[str, Any], values, grid: PatchGrid, *, unit: str, signed=False, tint=True
) -> go.Figure:
    """Log-mels (frames, mels) below each other on one axis of time, with a value for every patch.

    values: (bands, columns) for all of them, or (len(mels), bands, columns), the lowest band first.
    tint: colour the patches by their values; else they are only told by hover.
    """
    every = [np.asarray(mel) for mel in mels.values()]
    values = np.broadcast_to(np.asarray(values, np.float32), (len(mels), grid.bands, grid.columns))
    top = float(np.abs(values).max()) or 1.0
    loudest = max(mel.max() for mel in every)
    titles = list(mels) if len(mels) > 1 else None
    drawn = make_subplots(len(mels), 1, shared_xaxes=True, vertical_spacing=0.08,
                          subplot_titles=titles, figure=figure(150 * len(mels) + 70))  # fmt: skip
    x = (np.arange(grid.columns) * grid.stride_time + grid.patch / 2) / 100
    y = np.arange(grid.bands) * grid.stride_frequency + grid.patch / 2
    hertz = np.array([[sum(grid.hertz(band)) / 2] * grid.columns for band in range(grid.bands)])
    for row, (mel, own) in enumerate(zip(every, values, strict=True), 1):
        drawn.add_heatmap(
            z=own,
            x=x,
            y=y,
            customdata=hertz.astype(np.float32),
            zmin=-top if signed else 0,
            zmax=top,
            colorscale=SIGNED if signed else TINT,
            opacity=0.75 if tint else 0,
            showscale=tint,
            colorbar={"thickness": 10, "title": {"text": unit, "side": "right"}},
            hovertemplate=f"%{{x:.2f}} s, %{{customdata:.0f}} Hz: %{{z:.3g}} {unit}<extra></extra>",
            row=row,
            col=1,
        )
        drawn.add_layout_image(
            source=_image(1 + (mel.T[::-1] - loudest) / SPAN, "gray" if tint else "magma"),
            x=0,
            y=grid.mels,
            sizex=len(mel) / 100,
            sizey=grid.mels,
            sizing="stretch",
            layer="below",
            row=row,
            col=1,
        )
    places, names = mel_ticks(grid.mels)
    drawn.update_yaxes(tickvals=places, ticktext=names, range=[0, grid.mels], showgrid=False)
    drawn.update_xaxes(range=[0, max(map(len, every)) / 100], showgrid=False, ticksuffix=" s")
    return drawn


def _image(values: np.ndarray, colours: str) -> str:
    """Values from 0 to 1 as a data URI of a small picture."""
    import matplotlib  # slow to import

    picture = matplotlib.colormaps[colours](np.clip(values, 0, 1), bytes=True)[..., :3]
    image = Image.fromarray(picture).resize((min(picture.shape[1], 480), picture.shape[0]))
    image.save(packed := io.BytesIO(), "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()


def shares(mixtures: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Every expert's share of the work, stacked, a panel per mixture and a bar per layer.

    mixtures: title -> layer -> (n,), which sum to 1.
    """
    height = sum(20 * len(one) + 40 for one in mixtures.values()) + 50
    drawn = make_subplots(len(mixtures), 1, shared_xaxes=True, subplot_titles=list(mixtures),
                          vertical_spacing=36 / height,
                          figure=figure(height, barmode="stack", bargap=0.1))  # fmt: skip
    for row, one in enumerate(mixtures.values(), 1):
        for j, part in enumerate(np.transpose([*one.values()])):
            drawn.add_bar(
                x=part,
                y=list(one),
                orientation="h",
                name=f"E{j + 1}",
                legendgroup=f"E{j + 1}",
                showlegend=row == 1,
                marker_color=expert_colour(j),
                hovertemplate=f"%{{y}}, E{j + 1}: %{{x:.2%}} of the combine weights<extra></extra>",
                row=row,
                col=1,
            )
    drawn.update_xaxes(range=[0, 1], tickformat=".0%", nticks=5, fixedrange=True)
    drawn.update_yaxes(ROWS)
    legend = {"y": -24 / height, "yanchor": "top", "traceorder": "normal"}
    return drawn.update_layout(legend=legend, margin_r=32)
