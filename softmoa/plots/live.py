"""The figure of a microphone that is followed: what it heard, what that is, which experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from softmoa.plots.style import QUIET, expert_colour, figure, grey, literal, mel_ticks

FINE = 3  # frames, and mel bins, that are one pixel


def listening(
    mel: np.ndarray, seconds: float, labels: Mapping[str, float], experts: Sequence[float],
    sure: float, span: float,
) -> go.Figure:  # fmt: skip
    """Log-mels (frames, mels) of the last seconds, bars of labels in their order with a line where
    one is sure, and each expert's share of what the mixtures add. span: seconds of the axis."""
    # One below another: beside each other the names of labels would leave a phone no room.
    picture = figure(600).set_subplots(3, 1, row_heights=[0.32, 0.48, 0.2], vertical_spacing=0.09)
    frames, mels = (size // FINE * FINE for size in mel.shape)
    small = mel[-frames:, :mels].reshape(-1, FINE, mels // FINE, FINE).max(axis=(1, 3))
    step = seconds / max(len(small), 1)
    picture.add_heatmap(
        z=grey(small.T), x0=-seconds + step / 2, dx=step, y0=FINE / 2, dy=FINE,
        colorscale="gray", zmin=0, zmax=255, hoverinfo="skip", row=1, col=1,
    )  # fmt: skip
    places, hertz = mel_ticks()
    picture.update_yaxes(tickvals=places, ticktext=hertz, row=1, col=1)
    picture.update_xaxes(range=[-span, 0], ticksuffix=" s", row=1, col=1)
    said = list(map(literal, labels))
    colours = [QUIET if value < sure else "#117733" for value in labels.values()]
    picture.add_bar(
        x=list(labels.values()), width=0.3, orientation="h", marker_color=colours,
        hovertext=said, hovertemplate="%{hovertext}: %{x:.1%}<extra></extra>", row=2, col=1,
    )  # fmt: skip
    picture.update_xaxes(range=[0, 1], tickformat=".0%", row=2, col=1)
    # Names stand above their bars for the same reason.
    picture.update_yaxes(range=[len(labels) - 0.6, -0.9], showticklabels=False, row=2, col=1)
    for place, label in enumerate(said):
        picture.add_annotation(
            text=label, x=0, y=place, yshift=6, xanchor="left", yanchor="bottom", font_size=12,
            row=2, col=1,
        )  # fmt: skip
    line = {"dash": "dot", "color": QUIET}
    picture.add_shape(x0=sure, x1=sure, y0=0, y1=1, yref="y2 domain", line=line, row=2, col=1)
    names = [f"E{j + 1}" for j in range(len(experts))]
    picture.add_bar(
        x=names, y=list(experts), marker_color=[expert_colour(j) for j in range(len(experts))],
        hovertemplate="%{x}: %{y:.1%} of what is added<extra></extra>", row=3, col=1,
    )  # fmt: skip
    top = 0.5 if max(experts, default=0) < 0.5 else 1  # of two scales, so that it seldom jumps
    picture.update_yaxes(range=[0, top], tickformat=".0%", row=3, col=1)
    picture.add_annotation(
        text="experts' shares", x=1, xref="x3 domain", y=1, yref="y3 domain", xanchor="right",
        yanchor="bottom", font_size=12,
    )  # fmt: skip
    return picture.update_layout(showlegend=False, margin_l=60)
