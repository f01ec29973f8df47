"""One figure for a file: everything about a clip and a layer on a page."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from textwrap import fill

import numpy as np

from softmoa.contribution import PatchGrid
from softmoa.plots.scales import (
    DB_PER_UNIT,
    FRAMES_PER_SECOND,
    GREY_STOPS,
    MAGMA_STOPS,
    TINT,
    TINT_OPACITY,
    Array,
    array,
    expert_colour,
    hertz_ticks,
    mel_range,
    scale_top,
    ticks,
)
from softmoa.plots.screen import NOTHING_ADDED


def report_png(
    samples: Array,
    rate: int,
    mel: Array,
    maps: Array,
    grid: PatchGrid,
    *,
    titles: Sequence[str],
    unit: str,
    contribution: Array,
    overall: Array,
    layers: Sequence[str],
    heading: str,
    details: str = "",
    map_title: str = "",
    real_frames: int | None = None,
    dpi: int = 150,
) -> bytes:
    """PNG of waveform, log-mel, the maps of all experts of a layer and the contribution bars.

    samples: (samples,). mel: (frames, mels). maps: (k, bands, columns), named by `titles`.
    contribution: (layers, n), overall: (n,). heading: file and label; details: bundle, layer.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.colors import LinearSegmentedColormap, to_rgba
    from matplotlib.figure import Figure

    sound, mel, maps = array(samples), array(mel), array(maps)
    contribution, overall = array(contribution), array(overall)
    across = min(len(maps), 4 if len(maps) <= 12 else 8)
    down = math.ceil(len(maps) / across)
    heights = [3.4, (5.0 / across + 0.2) * down + 0.6, 0.26 * len(layers) + 1.1]
    figure = Figure(figsize=(10, sum(heights) + 0.7), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    text = {"parse_math": False}  # a file name may hold dollar signs
    figure.suptitle(fill(heading, 80), fontweight="bold", fontsize=13, **text)
    sounds, experts, bars = figure.subfigures(3, 1, squeeze=False, height_ratios=heights)[:, 0]

    seconds = len(mel) / FRAMES_PER_SECOND
    extent = (0, seconds, 0, mel.shape[1])
    hertz = hertz_ticks(mel.shape[1])
    places, names = [at * mel.shape[1] for _, at in hertz], [name for name, _ in hertz]

    wave, axes = sounds.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    wave.plot(np.arange(len(sound)) / rate, sound, color="0.25", linewidth=0.4)
    wave.set(xlim=(0, seconds), ylabel="amplitude")
    wave.set_title(details, fontsize=9, **text)
    wave.tick_params(labelsize=8)

    low, high = mel_range(mel, real_frames)
    level = (mel.T - high) * DB_PER_UNIT
    span = {"vmin": (low - high) * DB_PER_UNIT or -1.0, "vmax": 0.0}
    magma = LinearSegmentedColormap.from_list("level", MAGMA_STOPS)
    drawn = axes.imshow(level, magma, aspect="auto", origin="lower", extent=extent, **span)
    axes.set(xlabel="time in s", ylabel="frequency", xticks=ticks(seconds))
    axes.set_yticks(places, names)
    _hatch(axes, real_frames, seconds, mel.shape[1])
    axes.tick_params(labelsize=8)
    sounds.colorbar(
        drawn, ax=[wave, axes], label="dB, loudest = 0", pad=0.01, shrink=0.6, anchor=(0, 0)
    )

    experts.suptitle(map_title, fontsize=10, **text)
    left, bottom = (grid.patch - grid.stride_time) / 2, (grid.patch - grid.stride_frequency) / 2
    cells = (
        left / FRAMES_PER_SECOND,
        (left + grid.columns * grid.stride_time) / FRAMES_PER_SECOND,
        bottom,
        bottom + grid.bands * grid.stride_frequency,
    )
    greys = LinearSegmentedColormap.from_list("sound", GREY_STOPS)
    tint = LinearSegmentedColormap.from_list("tint", [to_rgba(TINT, a) for a in (0, TINT_OPACITY)])
    panels = experts.subplots(down, across, squeeze=False).ravel()
    top = scale_top(maps)
    # Not shared axes, whose bookkeeping takes seconds for 64 panels: ticks at the outer ones.
    for k, (axes, values, name) in enumerate(zip(panels, maps, titles, strict=False)):
        axes.imshow(level, greys, aspect="auto", origin="lower", extent=extent, **span)
        drawn = axes.imshow(
            values, tint, aspect="auto", origin="lower", extent=cells, vmin=0, vmax=top
        )
        axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
        if k + across >= len(maps):
            axes.set_xticks(ticks(seconds, 4))
        if k % across == 0:
            axes.set_yticks(places[1::2], names[1::2])
        axes.tick_params(labelsize=7)
        axes.set_title(name, fontsize=8, pad=2, **text)
        _hatch(axes, real_frames, seconds, mel.shape[1])
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    experts.supxlabel("time in s", fontsize=8)
    over = "max" if maps.max() > top else "neither"
    scale = experts.colorbar(drawn, ax=list(panels), pad=0.01, extend=over, aspect=16 * down)
    scale.ax.tick_params(labelsize=8)
    scale.set_label(unit, **text)
    scale.ax.set_facecolor(GREY_STOPS[0])

    axes = bars.subplots()
    rows = np.vstack([overall, contribution])
    for j, width in enumerate(rows.T):
        start = rows[:, :j].sum(axis=1)
        colour, ink = expert_colour(j)
        axes.barh(range(len(rows)), width, left=start, color=colour, height=0.8)
        for row in np.flatnonzero(width > 0.03):
            at = (start[row] + width[row] / 2, row)
            axes.text(*at, f"E{j + 1}", color=ink, ha="center", va="center", fontsize=7)
    for j in range(1, len(overall)):
        axes.axvline(j / len(overall), color="0", linewidth=0.5, linestyle=":")
    axes.set_yticks(range(len(rows)), ["All layers", *layers], fontsize=8, **text)
    caption = "contribution (dotted: equal shares)"
    if not rows.any(axis=1).all():
        caption += f"\n{NOTHING_ADDED}"
    axes.set(xlim=(0, 1), xlabel=caption)
    axes.tick_params(labelsize=8)
    axes.invert_yaxis()

    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _hatch(axes, real_frames: int | None, seconds: float, mels: int) -> None:
    """Grey out padding."""
    if real_frames is not None and real_frames / FRAMES_PER_SECOND < seconds:
        axes.axvspan(
            real_frames / FRAMES_PER_SECOND, seconds, facecolor="0.6", hatch="///", alpha=0.8
        )
