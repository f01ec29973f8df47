"""Figures for a web page, each one string of well-formed HTML; the page carries `CSS` once.

Pictures stretch with the page and text does not: areas hold an SVG or PNGs in data coordinates,
axis labels are HTML beside them, placed in percent. Colours of text and lines are the page's.

What a script may listen to, by `event.target.closest('[data-...]')`:
    data-token   overlay: index of the token of a patch or special-token box
    data-walk    what the arrow keys walk through: number of items in a row
    data-expert  experts, contribution_bars, expert_bars: index of the expert, from 0
    data-slot    experts: index of the slot within the expert, from 0
    data-layer   contribution_bars: row of `values`, or "all"
    data-seconds every area with a time axis: its length, to place a playhead at t / length
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from softmoa.contribution import PatchGrid
from softmoa.plots.scales import (
    DB_PER_UNIT,
    FRAMES_PER_SECOND,
    GREY_STOPS,
    GREYS,
    MAGMA,
    MAGMA_STOPS,
    TINT,
    TINT_ALPHA,
    TINT_OPACITY,
    TINTS,
    Array,
    array,
    expert_colour,
    hertz_ticks,
    levels,
    mel_range,
    neat_limit,
    picture,
    png,
    scale_top,
    shrunk,
    ticks,
)

NOTHING_ADDED = "An empty bar: these experts add nothing yet."

CSS = Path(__file__).with_name("screen.css").read_text(encoding="utf-8")


def waveform(samples: Array, rate: int, points: int = 600) -> str:
    """Lowest and highest sample of each of `points` stretches of a sound, against seconds.

    samples: (samples,) in [-1, 1]. The height is scaled to the next neat number over the peak.
    """
    sound = array(samples)
    seconds, peak = len(sound) / rate, float(np.abs(sound).max(initial=0))
    limit, count = neat_limit(peak), min(points, len(sound))
    starts = np.arange(count) * len(sound) // max(count, 1)
    low, high = (f.reduceat(sound, starts) if count else sound for f in (np.minimum, np.maximum))
    # 0 is the middle; never thinner than a hair, so that silence is a line.
    top = np.rint(100 - 100 * high / limit)
    bottom = np.maximum(np.rint(100 - 100 * low / limit), top + 1)
    upper = " ".join(f"{k},{y:.0f}" for k, y in enumerate(top))
    lower = " ".join(f"{k},{bottom[k]:.0f}" for k in range(count - 1, -1, -1))
    area = (
        f"<svg viewBox='0 0 {max(count - 1, 1)} 200' preserveAspectRatio='none'>"
        f"<polygon points='{upper} {lower}' fill='currentColor' opacity='.75'/></svg>"
    )
    marks = [(f"{limit:g}", 1.0), ("0", 0.5), (f"\u2212{limit:g}", 0.0)]
    words = f"Waveform of {seconds:.2f} seconds; the loudest sample is {peak:.2g} of full scale."
    head = heading("Waveform", "<span class='moa-key'>amplitude, 1 is full scale</span>")
    return figure(head + with_axes(area, seconds, marks, words, "moa-wave"))


def spectrogram(
    mel: Array, *, title: str = "Log-mel spectrogram", real_frames: int | None = None
) -> str:
    """Log-mel spectrogram with axes in seconds and Hz.

    mel: (frames, mels), normalised; frames from `real_frames` on are padding and hatched.
    Brightness is level in dB relative to the loudest point, over at most 80 dB.
    """
    mel = array(mel)
    low, high = mel_range(mel, real_frames)
    span = (high - low) * DB_PER_UNIT
    area = f"<img alt='' src='{png(picture(mel, len(MAGMA), real_frames), MAGMA)}'/>"
    gradient = f"linear-gradient(90deg,{','.join(MAGMA_STOPS)})"
    key = scale_key("level", gradient, f"\u2212{span:.0f} dB", "0 dB (loudest point)")
    if not span:
        key = "<span class='moa-key'>the same level everywhere</span>"
    seconds = len(mel) / FRAMES_PER_SECOND
    words = f"{title} of {seconds:.2f} seconds, 20 Hz to 8 kHz, over {span:.0f} dB."
    return figure(
        heading(title, key)
        + with_axes(area + padding(mel, real_frames), seconds, hertz_ticks(mel.shape[1]), words)
    )


def overlay(
    mel: Array,
    values: Array,
    grid: PatchGrid,
    *,
    title: str,
    unit: str,
    vmin: float = 0.0,
    vmax: float | None = None,
    uniform: float | None = None,
    special: Sequence[float] | None = None,
    selected: int | None = None,
    real_frames: int | None = None,
) -> str:
    """Weights of all patches laid over the spectrogram in one hue.

    mel: (frames, mels). values: (bands, columns), lowest band first, as `PatchGrid.unfold` gives.
    special: values of the class and the distillation token. uniform: a value to mark on the scale.
    selected: token to outline. Opacity goes from `vmin` to `vmax`; by default all but the
    highest 0.5 % of the values fit on the scale.
    Where patches overlap, a cell is one stride wide and lies in the middle of its patch.
    """
    mel, values = array(mel), array(values)
    vmax = scale_top(values, vmin, vmax)
    backdrop = png(shrunk(picture(mel, len(GREYS), real_frames), 256, 128), GREYS)
    place = cells_place(grid, len(mel))
    cells = [
        f"<i data-token='{grid.token(band, column)}' title='{patch_name(grid, band, column)}: "
        f"{values[band, column]:.3g}'{outlined(grid.token(band, column) == selected)}></i>"
        for band in reversed(range(grid.bands))
        for column in range(grid.columns)
    ]
    area = (
        f"<img alt='' src='{backdrop}'/>"
        f"<img alt='' class='moa-tint' style='{place}' src='{_tint(values, vmin, vmax)}'/>"
        f"<div class='moa-cells' {walkable('Patches', grid.columns)} style='{place};"
        f"grid:repeat({grid.bands},1fr)/repeat({grid.columns},1fr)'>{''.join(cells)}</div>"
        + padding(mel, real_frames)
    )
    words = f"{title}: {unit}, largest {values.max():.3g} at {highest(grid, values)}."
    marks = hertz_ticks(grid.mels)
    plot = with_axes(area, len(mel) / FRAMES_PER_SECOND, marks, words, role="group")
    return figure(
        heading(title, _tint_key(unit, vmin, vmax, values, uniform) + grey_key())
        + plot
        + chips(special, vmin, vmax, selected)
    )


def experts(
    mel: Array,
    maps: Array,
    grid: PatchGrid,
    *,
    titles: Sequence[str],
    title: str,
    unit: str,
    slots: int = 1,
    vmin: float = 0.0,
    vmax: float | None = None,
    uniform: float | None = None,
    selected: int | None = None,
    real_frames: int | None = None,
) -> str:
    """All experts of a layer side by side, on one colour scale; each is a button.

    maps: (n * slots, bands, columns), the slots of an expert in a row; `titles` names each.
    selected: index of the map to outline. Other arguments as in `overlay`.
    """
    mel, maps = array(mel), array(maps)
    vmax = scale_top(maps, vmin, vmax)
    backdrop = png(shrunk(picture(mel, len(GREYS), real_frames), 256, 64), GREYS)
    place = cells_place(grid, len(mel))
    cards = []
    for k, (values, name) in enumerate(zip(maps, titles, strict=True)):
        cards.append(
            f"<button type='button' class='moa-card{' moa-on' * (k == selected)}' "
            f"data-expert='{k // slots}' data-slot='{k % slots}' "
            f"aria-pressed='{'true' if k == selected else 'false'}' "
            f"title='{escape(name)}: largest {values.max():.3g} at {highest(grid, values)}'>"
            f"<span class='moa-pic'><img alt='' class='moa-tint' style='{place}' "
            f"src='{_tint(values, vmin, vmax)}'/>{padding(mel, real_frames, '')}</span>"
            f"<span class='moa-name'>{dot(k // slots)}{escape(name)}"
            f"<small>max {values.max():.2g}</small></span></button>"
        )
    share = 23 if len(maps) <= 8 else 11  # percent of the width: 4 or 8 in a row, 2 on a phone
    return figure(
        heading(title, _tint_key(unit, vmin, vmax, maps, uniform) + grey_key())
        + f"<div class='moa-cards' role='group' aria-label='{escape(title)}' "
        f'style="--mel:url({backdrop});'
        f'grid-template-columns:repeat(auto-fill,minmax(max(min(9rem,47%),{share}%),1fr))">'
        f"{''.join(cards)}</div><p class='moa-note'>Each picture: 0 to "
        f"{len(mel) / FRAMES_PER_SECOND:.3g} s from left to right, 20 Hz to 8 kHz upwards; the "
        "same colour scale in all.</p>"
    )


def contribution_bars(
    values: Array,
    *,
    overall: Array,
    layers: Sequence[str],
    title: str,
    unit: str,
    selected: tuple[int, int] | None = None,
) -> str:
    """One bar of 100 % per layer, stacked by expert; on top the bar of all layers together.

    values: (layers, n), rows sum to 1. overall: (n,). selected: (row, expert) to outline.
    Notches under a bar stand where the borders were if all experts had equal shares. The bar of
    a row of zeros is empty, and a sentence below says why.
    """
    values, overall = array(values), array(overall)
    n = len(overall)
    notches = "".join(f"<s style='left:{100 * j / n:.3f}%'></s>" for j in range(1, n))
    rows = []
    for row, (label, shares) in enumerate(
        zip(["All layers", *layers], [overall, *values], strict=True), start=-1
    ):
        name = "all" if row < 0 else str(row)
        filled = list(enumerate(shares)) if shares.any() else []
        segments = "".join(
            f"<span class='moa-seg{' moa-on' * ((row, j) == selected)}' data-layer='{name}' "
            f"data-expert='{j}' style='width:{100 * share:.3f}%;{colours(j)}' "
            f"title='{escape(label)}, expert {j + 1}: {100 * share:.2f} %'>"
            f"<span>E{j + 1}</span><span>{100 * share:.0f}%</span></span>"
            for j, share in filled
        )
        rows.append(
            f"<div class='moa-row{' moa-all' * (row < 0)}'><span>{escape(label)}</span>"
            f"<div class='moa-bar{' moa-empty' * (not filled)}'>{segments}"
            f"<div class='moa-even'>{notches}</div></div></div>"
        )
    words = f"{title}, {unit}. All layers: " + _listed(overall)
    key = (
        f"<span class='moa-key'>{escape(unit)}; notches: equal shares, {100 / n:.1f} % each</span>"
    )
    # There is nothing to walk through where all bars are empty.
    group = walkable(words, n) if values.any() else f"role='img' aria-label='{escape(words)}'"
    note = "" if values.any(axis=1).all() else f"<p class='moa-note'>{NOTHING_ADDED}</p>"
    return figure(heading(title, key) + f"<div {group}>{''.join(rows)}</div>{note}")


def expert_bars(series: Mapping[str, Array], *, title: str, selected: int | None = None) -> str:
    """The experts of one layer as plain bars, one or two quantities beside each other.

    series: name -> (n,) fractions, for example the combine share and the contribution. The dashed
    line is the equal share 1 / n.
    """
    columns = {name: array(values) for name, values in series.items()}
    n = len(next(iter(columns.values())))
    end = max(1 / n, *(float(values.max()) for values in columns.values())) * 1.05
    styles = ["", "moa-second"]
    keys = "".join(
        f"<span class='moa-key'><u class='moa-swatch {style}' style='--c:currentColor'></u>"
        f"{escape(name)}</span>"
        for name, style in zip(columns, styles, strict=False)
    )
    keys += f"<span class='moa-key'>\u2506 equal share, {100 / n:.1f} %</span>"
    rows = []
    for j in range(n):
        of_expert = [float(values[j]) for values in columns.values()]
        tip = ", ".join(f"{k} {100 * v:.2f} %" for k, v in zip(columns, of_expert, strict=True))
        bars = "".join(
            f"<u class='{style}' style='width:{100 * value / end:.3f}%'></u>"
            for value, style in zip(of_expert, styles, strict=False)
        )
        numbers = "".join(f"<div class='moa-num'>{100 * v:.1f} %</div>" for v in of_expert)
        rows.append(
            f"<div class='moa-row moa-bars{' moa-on' * (j == selected)}' data-expert='{j}' "
            f"style='{colours(j)}' title='Expert {j + 1}: {escape(tip)}'>"
            f"<span class='moa-name'>{dot(j)}E{j + 1}</span>"
            f"<div class='moa-track' style='--u:{100 / n / end:.3f}%'>{bars}</div>"
            f"<div>{numbers}</div></div>"
        )
    words = f"{title}. " + " ".join(f"{name}: {_listed(v)}" for name, v in columns.items())
    return figure(heading(title, keys) + f"<div {walkable(words, 1)}>{''.join(rows)}</div>")


def figure(body: str) -> str:
    return f"<div class='moa'>{body}</div>"


def heading(title: str, keys: str) -> str:
    return f"<div class='moa-head'><b>{escape(title)}</b><div class='moa-keys'>{keys}</div></div>"


def with_axes(
    area: str,
    seconds: float,
    marks: Sequence[tuple[str, float]],
    words: str,
    kind: str = "",
    role: str = "img",
) -> str:
    """An area between an axis of (label, height from 0 to 1) marks and one in seconds."""
    y = "".join(f"<span style='bottom:{100 * at:.2f}%'>{label}</span>" for label, at in marks)
    x = "".join(
        f"<span style='left:{100 * at / seconds:.2f}%'>{at:g} s</span>"
        for at in (ticks(seconds) if seconds else [])
    )
    return (
        f"<div class='moa-plot'><div class='moa-y' aria-hidden='true'>{y}</div>"
        f"<div class='moa-area {kind}' role='{role}' aria-label='{escape(words)}' "
        f"data-seconds='{seconds:g}'>{area}</div><div class='moa-x' aria-hidden='true'>{x}</div>"
        "</div>"
    )


def padding(mel: np.ndarray, real_frames: int | None, text: str = "padding") -> str:
    if real_frames is None or real_frames >= len(mel):
        return ""
    return f"<div class='moa-pad' style='left:{100 * real_frames / len(mel):.2f}%'>{text}</div>"


def cells_place(grid: PatchGrid, frames: int) -> str:
    """Where the cells of all patches lie in the area, as a style."""
    left, bottom = (grid.patch - grid.stride_time) / 2, (grid.patch - grid.stride_frequency) / 2
    width, height = grid.columns * grid.stride_time, grid.bands * grid.stride_frequency
    return (
        f"left:{100 * left / frames:.3f}%;width:{100 * width / frames:.3f}%;"
        f"top:{100 * (1 - (bottom + height) / grid.mels):.3f}%;"
        f"height:{100 * height / grid.mels:.3f}%"
    )


def patch_name(grid: PatchGrid, band: int, column: int) -> str:
    (start, stop), (low, high) = grid.seconds(column), grid.hertz(band)
    return f"{start:g}\u2013{stop:g} s, {low:.0f}\u2013{high:.0f} Hz"


def highest(grid: PatchGrid, values: np.ndarray) -> str:
    return patch_name(grid, *divmod(int(values.argmax()), grid.columns))


def _tint(values: np.ndarray, vmin: float, vmax: float) -> str:
    return png(levels(values[::-1], vmin, vmax, len(TINTS)), TINTS, TINT_ALPHA)


def scale_key(name: str, background: str, low: str, high: str, mark: str = "") -> str:
    """A named colour bar with the numbers or words of its two ends."""
    return (
        f"<span class='moa-key'>{escape(name)}:<span>{low}<u style='background:{background}'>"
        f"{mark}</u>{high}</span></span>"
    )


def grey_key() -> str:
    return scale_key("sound", f"linear-gradient(90deg,{','.join(GREY_STOPS)})", "quiet", "loud")


def _tint_key(
    unit: str, vmin: float, vmax: float, values: np.ndarray, uniform: float | None
) -> str:
    """Colour bar of the tint; what lies beyond its ends is drawn like the ends, and said so."""
    full = f"{TINT}{round(255 * TINT_OPACITY):02x}"
    low = "\u2264" * bool(values.min() < vmin) + f"{vmin:.3g}"
    high = "\u2265" * bool(values.max() > vmax) + f"{vmax:.3g}"
    mark = note = ""
    if uniform is not None and vmin <= uniform <= vmax:
        mark = f"<s style='left:{100 * (uniform - vmin) / (vmax - vmin):.1f}%'></s>"
        note = f"<span class='moa-key'>mark: uniform, {uniform:.3g}</span>"
    bar = f"linear-gradient(90deg,{TINT}00,{full}),{GREY_STOPS[0]}"
    return scale_key(unit, bar, low, high, mark) + note


def chips(special: Sequence[float] | None, vmin: float, vmax: float, selected: int | None) -> str:
    """The tokens that lie nowhere on the spectrogram, as boxes tinted on the same scale."""
    if special is None:
        return ""
    boxes = "".join(
        f"<span data-token='{token}' title='{name} token, which sees the whole clip: {value:.3g}'"
        f"{outlined(token == selected)}><i style='background:{TINT}"
        f"{round(255 * TINT_OPACITY * min(max((value - vmin) / (vmax - vmin), 0), 1)):02x}'>"
        f"{name} token {value:.3g}</i></span>"
        for token, (name, value) in enumerate(zip(("class", "distillation"), special, strict=True))
    )
    return f"<div class='moa-chips' {walkable('Special tokens', 1)}>{boxes}</div>"


def walkable(words: str, row: int) -> str:
    """Attributes of what the Tab key stops at once, and arrow keys walk through; row: items in
    one. The page's script does the walking."""
    label = f"{escape(words)} Arrow keys walk, Enter chooses."
    return f"role='group' tabindex='0' data-walk='{row}' aria-label='{label}'"


def outlined(selected: bool) -> str:
    return " class='moa-on'" if selected else ""


def colours(expert: int) -> str:
    return "--c:{};--t:{}".format(*expert_colour(expert))


def dot(expert: int) -> str:
    return f"<i class='moa-dot' style='{colours(expert)}'></i>"


def _listed(shares: np.ndarray) -> str:
    return ", ".join(f"expert {j + 1} {100 * v:.0f} %" for j, v in enumerate(shares)) + "."
