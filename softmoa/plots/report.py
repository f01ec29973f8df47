"""One figure for a file: a clip, the experts of a layer, and who contributed."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from textwrap import fill

import numpy as np

from softmoa.plots.style import TEXT, expert_colour, mel_ticks


def report_png(
    mel,
    maps,
    *,
    cells: tuple[int, int, int],
    titles: Sequence[str],
    unit: str,
    contribution,
    overall,
    layers: Sequence[str],
    heading: str,
    details: str = "",
    std: float,
    dpi: int = 150,
) -> bytes:
    """PNG of the log-mel, the maps of all experts of a layer, and bars of their contributions.

    mel: (frames, mels), 100 frames a second. maps: (k, bands, columns), lowest band first, named by
    `titles`. cells: size of a patch, stride along time and along frequency, in frames and bins.
    contribution: (layers, n). overall: (n,). std: by which the log-mel was divided, twice.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_rgba
    from matplotlib.figure import Figure  # slow to import

    mel, maps = np.asarray(mel), np.asarray(maps)
    whole, (patch, step, rise) = len(mel) / 100, cells
    across = min(len(maps), 4 if len(maps) <= 12 else 8)
    down = math.ceil(len(maps) / across)
    heights = [2.6, (5.0 / across + 0.2) * down + 0.6, 0.26 * len(layers) + 1.1]
    page = Figure(figsize=(10, sum(heights) + 0.7), dpi=dpi, layout="constrained")
    page.suptitle(fill(heading, 80), fontweight="bold", fontsize=13, **TEXT)
    sound, experts, bars = page.subfigures(3, 1, squeeze=False, height_ratios=heights)[:, 0]

    level = 20 * std / np.log(10) * (mel.T - mel.max())  # dB of the normalised log
    picture = {"aspect": "auto", "origin": "lower", "extent": (0, whole, 0, len(mel.T)),
               "vmin": max(level.min(), -80.0) or -1.0, "vmax": 0}  # fmt: skip
    places, names = mel_ticks(len(mel.T))
    axes = sound.subplots()
    sound.colorbar(axes.imshow(level, "magma", **picture), label="dB, loudest = 0", pad=0.01)
    axes.set(xlabel="time in s", ylabel="frequency")
    axes.set_title(details, fontsize=9, **TEXT)
    panels = experts.subplots(down, across, squeeze=False).ravel()
    left, low = (patch - step) / 2, (patch - rise) / 2  # a cell lies in the middle of its patch
    bands, columns = maps.shape[1:]
    extent = (left / 100, (left + columns * step) / 100, low, low + bands * rise)
    tint = LinearSegmentedColormap.from_list("tint", [to_rgba("#ff8c1a", a) for a in (0, 0.9)])
    top = max(float(np.quantile(maps, 0.995)), 1e-12)
    for k, (small, values, name) in enumerate(zip(panels, maps, titles, strict=False)):
        small.imshow(level, "gray", **picture)
        drawn = small.imshow(
            values, tint, aspect="auto", origin="lower", extent=extent, vmin=0, vmax=top
        )
        small.set(xlim=(0, whole), ylim=(0, len(mel.T)), xticks=[], yticks=[])
        small.set_title(name, fontsize=8, pad=2, **TEXT)
        if k + across >= len(maps):
            small.set_xticks(np.linspace(0, whole, 4).round(1))
    for small in panels[len(maps) :]:
        small.set_axis_off()
    for one in (axes, *panels[: len(maps) : across]):
        one.set_yticks(places, names)
    for one in (axes, *panels):
        one.tick_params(labelsize=7)
    experts.supxlabel("time in s", fontsize=8)
    scale = experts.colorbar(drawn, ax=list(panels), pad=0.01, extend="max", aspect=16 * down)
    scale.set_label(unit, **TEXT)
    scale.ax.set_facecolor("0.15")

    axes = bars.subplots()
    rows = np.vstack([overall, contribution])
    for j, width in enumerate(rows.T):
        start = rows[:, :j].sum(axis=1)
        axes.barh(range(len(rows)), width, left=start, color=expert_colour(j), label=f"E{j + 1}")
    axes.set_yticks(range(len(rows)), ["All layers", *layers], fontsize=8, **TEXT)
    axes.set(xlim=(0, 1), xlabel="contribution: share of the length that the experts add")
    axes.legend(ncols=8, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    axes.tick_params(labelsize=8)
    axes.invert_yaxis()
    file = io.BytesIO()
    page.savefig(file, format="png")
    return file.getvalue()
