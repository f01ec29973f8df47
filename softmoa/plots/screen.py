"""Figures for a web page, each one self-contained string of well-formed HTML.

Pictures stretch with the page and text does not: areas hold an SVG or PNGs in data coordinates,
axis labels are HTML beside them, placed in percent. Colours of text and lines are the page's.

What a script may listen to, by `event.target.closest('[data-...]')`:
    data-token   overlay: index of the token of a patch or special-token box
    data-expert  experts, contribution_bars, expert_bars: index of the expert, from 0
    data-slot    experts: index of the slot within the expert, from 0
    data-layer   contribution_bars: row of `values`, or "all"
    data-seconds every area with a time axis: its length, to place a playhead at t / length
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

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
    shrunk,
    ticks,
)

# Two classes per selector, so that a host page's own text styles do not win.
_CSS = """
.moa{color:var(--body-text-color,currentColor);font-size:.8rem;line-height:1.35;max-width:72rem;
 margin:0 0 1rem}
.moa *{box-sizing:border-box}
.moa .moa-head{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;align-items:center;margin:0 0 .5rem}
.moa .moa-head b{font-size:.95rem;margin-right:auto}
.moa .moa-key{display:inline-flex;gap:.4rem;align-items:center;white-space:nowrap}
.moa .moa-key u{position:relative;width:4.5rem;height:.75rem;border-radius:2px}
.moa .moa-key s{position:absolute;top:-3px;bottom:-3px;border-left:2px solid}
.moa .moa-note{opacity:.8;margin:.3rem 0 0}
.moa .moa-plot{display:grid;grid-template-columns:3.4rem 1fr;padding:.5rem 1rem 0 0}
.moa .moa-y{position:relative}
.moa .moa-y span{position:absolute;right:.5rem;transform:translateY(50%);white-space:nowrap}
.moa .moa-y span:after{content:"";position:absolute;right:-.45rem;top:50%;width:.3rem;
 border-top:1px solid}
.moa .moa-x{grid-column:2;position:relative;height:1.5rem}
.moa .moa-x span{position:absolute;top:.3rem;transform:translateX(-50%);white-space:nowrap}
.moa .moa-x span:before{content:"";position:absolute;left:50%;top:-.25rem;height:.3rem;
 border-left:1px solid}
.moa .moa-area{position:relative;height:clamp(9.5rem,20vw,13rem);overflow:hidden}
.moa .moa-wave{height:5.5rem}
.moa .moa-area>*,.moa .moa-pic>*{position:absolute;inset:0;width:100%;height:100%;margin:0;
 max-width:none;border-radius:0}
.moa .moa-tint{image-rendering:pixelated}
.moa .moa-pad{width:auto;background:repeating-linear-gradient(135deg,#777 0 4px,#999 4px 8px);
 color:#000;padding:.2rem .4rem;overflow:hidden;pointer-events:none;opacity:.85}
.moa .moa-cells{display:grid;cursor:crosshair}
.moa .moa-cells i:hover{box-shadow:0 0 0 1px #fff;z-index:1}
.moa .moa-on{outline:2px solid #fff;box-shadow:0 0 0 4px #0072b2;position:relative;z-index:2}
.moa .moa-chips{display:flex;flex-wrap:wrap;gap:.4rem;margin:.2rem 0 0 3.4rem}
.moa .moa-chips span{background:#0e0e0e;color:#fff;border-radius:3px;cursor:pointer}
.moa .moa-chips span i{display:block;padding:.15rem .5rem;color:#fff;font-style:normal;
 text-shadow:0 0 3px #000,0 0 3px #000}
.moa .moa-cards{display:grid;gap:.6rem}
.moa button{display:block;width:100%;max-width:24rem;padding:0;border:0;background:none;
 color:inherit;font:inherit;text-align:left;cursor:pointer}
.moa .moa-pic{display:block;position:relative;aspect-ratio:2;border-radius:3px;overflow:hidden;
 background:var(--mel) 0 0/100% 100%}
.moa button:hover .moa-pic,.moa button:focus-visible .moa-pic{outline:2px solid}
.moa button.moa-on{outline:0;box-shadow:none}
.moa button.moa-on .moa-pic{outline:3px solid #0072b2;outline-offset:1px}
.moa button.moa-on .moa-name{font-weight:700}
.moa .moa-name{display:flex;gap:.35rem;align-items:center;margin-top:.2rem;white-space:nowrap}
.moa .moa-name small{margin-left:auto;font-size:.75rem;opacity:.8}
.moa .moa-dot{flex:none;width:.7rem;height:.7rem;border-radius:2px;background:var(--c)}
.moa .moa-row{display:grid;grid-template-columns:5rem 1fr;gap:.5rem;align-items:center;
 margin-bottom:.25rem}
.moa .moa-row.moa-all{margin-bottom:.6rem;font-weight:600}
.moa .moa-bar{position:relative;display:flex;height:1.5rem}
.moa .moa-seg{display:flex;flex-wrap:wrap;justify-content:center;gap:0 .3rem;overflow:hidden;
 height:100%;line-height:1.5rem;background:var(--c);color:var(--t);cursor:pointer;
 border-right:1px solid var(--block-background-fill,Canvas)}
.moa .moa-seg:before{content:"";height:100%;margin-right:-.3rem}
.moa .moa-seg span{color:inherit;white-space:nowrap}
.moa .moa-seg:hover{filter:brightness(1.15)}
.moa .moa-seg.moa-on{outline:0;box-shadow:inset 0 0 0 2px var(--t)}
.moa .moa-even{position:absolute;inset:100% 0 auto 0;height:.2rem;pointer-events:none}
.moa .moa-even s{position:absolute;top:0;bottom:0;border-left:1px solid}
.moa .moa-bars{grid-template-columns:3rem 1fr auto;margin:0;padding:.15rem .2rem;cursor:pointer}
.moa .moa-bars.moa-on{outline:2px solid;box-shadow:none;border-radius:2px}
.moa .moa-track{position:relative;padding:.1rem 0}
.moa .moa-track:after{content:"";position:absolute;left:var(--u);top:-.2rem;bottom:-.2rem;
 border-left:2px dashed}
.moa .moa-track u{display:block;height:.55rem;margin:1px 0;background:var(--c)}
.moa .moa-second{background:repeating-linear-gradient(135deg,var(--c) 0 3px,transparent 3px 5px)!important;
 box-shadow:inset 0 0 0 1px var(--c)}
.moa .moa-num{min-width:3.3rem;text-align:right;font-variant-numeric:tabular-nums}
"""
_STYLE = f"<style>{_CSS.replace(chr(10), '')}</style>"


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
    head = _head("Waveform", "<span class='moa-key'>amplitude, 1 is full scale</span>")
    return _figure(head + _plot(area, seconds, marks, words, "moa-wave"))


def spectrogram(mel: Array, *, real_frames: int | None = None) -> str:
    """Log-mel spectrogram with axes in seconds and Hz.

    mel: (frames, mels), normalised; frames from `real_frames` on are padding and hatched.
    Brightness is level in dB relative to the loudest point, over at most 80 dB.
    """
    mel = array(mel)
    low, high = mel_range(mel, real_frames)
    span = (high - low) * DB_PER_UNIT
    area = f"<img alt='' src='{png(picture(mel, len(MAGMA), real_frames), MAGMA)}'/>"
    gradient = f"linear-gradient(90deg,{','.join(MAGMA_STOPS)})"
    key = _key("level", gradient, f"\u2212{span:.0f} dB", "0 dB (loudest point)")
    if not span:
        key = "<span class='moa-key'>the same level everywhere</span>"
    seconds = len(mel) / FRAMES_PER_SECOND
    words = f"Log-mel spectrogram of {seconds:.2f} seconds, 20 Hz to 8 kHz, over {span:.0f} dB."
    return _figure(
        _head("Log-mel spectrogram", key)
        + _plot(area + _padding(mel, real_frames), seconds, hertz_ticks(mel.shape[1]), words)
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
    selected: token to outline. Opacity goes from `vmin` to `vmax` (default: the largest value).
    Where patches overlap, a cell is one stride wide and lies in the middle of its patch.
    """
    mel, values = array(mel), array(values)
    vmax = _top(vmin, vmax, values, special)
    backdrop = png(shrunk(picture(mel, len(GREYS), real_frames), 400, 128), GREYS)
    place = _cells_place(grid, len(mel))
    cells = [
        f"<i data-token='{grid.token(band, column)}' title='{_where(grid, band, column)}: "
        f"{values[band, column]:.3g}'{_on(grid.token(band, column) == selected)}></i>"
        for band in reversed(range(grid.bands))
        for column in range(grid.columns)
    ]
    area = (
        f"<img alt='' src='{backdrop}'/>"
        f"<img alt='' class='moa-tint' style='{place}' src='{_tint(values, vmin, vmax)}'/>"
        f"<div class='moa-cells' style='{place};grid:repeat({grid.bands},1fr)/"
        f"repeat({grid.columns},1fr)'>{''.join(cells)}</div>" + _padding(mel, real_frames)
    )
    highest = np.unravel_index(values.argmax(), values.shape)
    words = f"{title}: {unit}, largest {values.max():.3g} at {_where(grid, *highest)}."
    plot = _plot(area, len(mel) / FRAMES_PER_SECOND, hertz_ticks(grid.mels), words)
    return _figure(
        _head(title, _tint_key(unit, vmin, vmax, values, uniform) + _grey_key())
        + plot
        + _chips(special, vmin, vmax, selected)
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
    vmax = _top(vmin, vmax, maps)
    backdrop = png(shrunk(picture(mel, len(GREYS), real_frames), 256, 64), GREYS)
    place = _cells_place(grid, len(mel))
    cards = []
    for k, (values, name) in enumerate(zip(maps, titles, strict=True)):
        where = _where(grid, *np.unravel_index(values.argmax(), values.shape))
        cards.append(
            f"<button type='button' data-expert='{k // slots}' data-slot='{k % slots}' "
            f"aria-pressed='{'true' if k == selected else 'false'}' "
            f"title='{escape(name)}: largest {values.max():.3g} at {where}'{_on(k == selected)}>"
            f"<span class='moa-pic'><img alt='' class='moa-tint' style='{place}' "
            f"src='{_tint(values, vmin, vmax)}'/>{_padding(mel, real_frames, '')}</span>"
            f"<span class='moa-name'>{_dot(k // slots)}{escape(name)}"
            f"<small>max {values.max():.2g}</small></span></button>"
        )
    share = 23 if len(maps) <= 8 else 11  # percent of the width: 4 or 8 in a row, 2 on a phone
    return _figure(
        _head(title, _tint_key(unit, vmin, vmax, maps, uniform) + _grey_key())
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
    Notches under a bar stand where the borders were if all experts had equal shares.
    """
    values, overall = array(values), array(overall)
    n = len(overall)
    notches = "".join(f"<s style='left:{100 * j / n:.3f}%'></s>" for j in range(1, n))
    rows = []
    for row, (label, shares) in enumerate(
        zip(["All layers", *layers], [overall, *values], strict=True), start=-1
    ):
        name = "all" if row < 0 else str(row)
        segments = "".join(
            f"<span class='moa-seg{' moa-on' * ((row, j) == selected)}' data-layer='{name}' "
            f"data-expert='{j}' style='width:{100 * share:.3f}%;{_colours(j)}' "
            f"title='{escape(label)}, expert {j + 1}: {100 * share:.2f} %'>"
            f"<span>E{j + 1}</span><span>{100 * share:.0f}%</span></span>"
            for j, share in enumerate(shares)
        )
        rows.append(
            f"<div class='moa-row{' moa-all' * (row < 0)}'><span>{escape(label)}</span>"
            f"<div class='moa-bar'>{segments}<div class='moa-even'>{notches}</div></div></div>"
        )
    words = f"{title}, {unit}. All layers: " + _listed(overall)
    key = (
        f"<span class='moa-key'>{escape(unit)}; notches: equal shares, {100 / n:.1f} % each</span>"
    )
    return _figure(
        _head(title, key) + f"<div role='img' aria-label='{escape(words)}'>{''.join(rows)}</div>"
    )


def expert_bars(series: Mapping[str, Array], *, title: str, selected: int | None = None) -> str:
    """The experts of one layer as plain bars, one or two quantities beside each other.

    series: name -> (n,) fractions, for example the combine share and the contribution. The dashed
    line is the equal share 1 / n.
    """
    columns = {name: array(values) for name, values in series.items()}
    n = len(next(iter(columns.values())))
    end = max(1 / n, *(float(values.max()) for values in columns.values())) * 1.05
    styles = ["", " class='moa-second'"]
    keys = "".join(
        f"<span class='moa-key'><u{style} style='--c:currentColor;background:currentColor;"
        f"width:1.4rem'></u>{escape(name)}</span>"
        for name, style in zip(columns, styles, strict=False)
    )
    keys += f"<span class='moa-key'>\u2506 equal share, {100 / n:.1f} %</span>"
    rows = []
    for j in range(n):
        of_expert = [float(values[j]) for values in columns.values()]
        tip = ", ".join(f"{k} {100 * v:.2f} %" for k, v in zip(columns, of_expert, strict=True))
        bars = "".join(
            f"<u{style} style='width:{100 * value / end:.3f}%'></u>"
            for value, style in zip(of_expert, styles, strict=False)
        )
        numbers = "".join(f"<div class='moa-num'>{100 * v:.1f} %</div>" for v in of_expert)
        rows.append(
            f"<div class='moa-row moa-bars{' moa-on' * (j == selected)}' data-expert='{j}' "
            f"style='{_colours(j)}' title='Expert {j + 1}: {escape(tip)}'>"
            f"<span class='moa-name'>{_dot(j)}E{j + 1}</span>"
            f"<div class='moa-track' style='--u:{100 / n / end:.3f}%'>{bars}</div>"
            f"<div>{numbers}</div></div>"
        )
    words = f"{title}. " + " ".join(f"{name}: {_listed(v)}" for name, v in columns.items())
    return _figure(
        _head(title, keys) + f"<div role='img' aria-label='{escape(words)}'>{''.join(rows)}</div>"
    )


def _figure(body: str) -> str:
    return f"<div class='moa'>{_STYLE}{body}</div>"


def _head(title: str, keys: str) -> str:
    return f"<div class='moa-head'><b>{escape(title)}</b>{keys}</div>"


def _plot(
    area: str, seconds: float, marks: Sequence[tuple[str, float]], words: str, kind: str = ""
) -> str:
    """An area between an axis of (label, height from 0 to 1) marks and one in seconds."""
    y = "".join(f"<span style='bottom:{100 * at:.2f}%'>{label}</span>" for label, at in marks)
    x = "".join(
        f"<span style='left:{100 * at / seconds:.2f}%'>{at:g} s</span>"
        for at in (ticks(seconds) if seconds else [])
    )
    return (
        f"<div class='moa-plot'><div class='moa-y' aria-hidden='true'>{y}</div>"
        f"<div class='moa-area {kind}' role='img' aria-label='{escape(words)}' "
        f"data-seconds='{seconds:g}'>{area}</div><div class='moa-x' aria-hidden='true'>{x}</div>"
        "</div>"
    )


def _padding(mel: np.ndarray, real_frames: int | None, text: str = "padding") -> str:
    if real_frames is None or real_frames >= len(mel):
        return ""
    return f"<div class='moa-pad' style='left:{100 * real_frames / len(mel):.2f}%'>{text}</div>"


def _cells_place(grid: PatchGrid, frames: int) -> str:
    """Where the cells of all patches lie in the area, as a style."""
    left, bottom = (grid.patch - grid.stride_time) / 2, (grid.patch - grid.stride_frequency) / 2
    width, height = grid.columns * grid.stride_time, grid.bands * grid.stride_frequency
    return (
        f"left:{100 * left / frames:.3f}%;width:{100 * width / frames:.3f}%;"
        f"top:{100 * (1 - (bottom + height) / grid.mels):.3f}%;"
        f"height:{100 * height / grid.mels:.3f}%"
    )


def _where(grid: PatchGrid, band: int, column: int) -> str:
    (start, stop), (low, high) = grid.seconds(int(column)), grid.hertz(int(band))
    return f"{start:g}\u2013{stop:g} s, {low:.0f}\u2013{high:.0f} Hz"


def _tint(values: np.ndarray, vmin: float, vmax: float) -> str:
    return png(levels(values[::-1], vmin, vmax, len(TINTS)), TINTS, TINT_ALPHA)


def _top(vmin: float, vmax: float | None, values: np.ndarray, special=None) -> float:
    """Upper end of the scale: as given, else the largest value, else anything above vmin."""
    if vmax is None:
        vmax = max(float(values.max()), *(special or [vmin]))
    return vmax if vmax > vmin else vmin + 1


def _key(name: str, background: str, low: str, high: str, mark: str = "") -> str:
    return (
        f"<span class='moa-key'>{escape(name)}: {low}<u style='background:{background}'>{mark}</u>"
        f"{high}</span>"
    )


def _grey_key() -> str:
    return _key("sound", f"linear-gradient(90deg,{','.join(GREY_STOPS)})", "quiet", "loud")


def _tint_key(
    unit: str, vmin: float, vmax: float, values: np.ndarray, uniform: float | None
) -> str:
    """Colour bar of the tint; what lies beyond its ends is drawn like the ends, and said so."""
    full = f"{TINT}{round(255 * TINT_OPACITY):02x}"
    low = f"{'\u2264' * bool(values.min() < vmin)}{vmin:.3g}"
    high = f"{'\u2265' * bool(values.max() > vmax)}{vmax:.3g}"
    mark = ""
    if uniform is not None and vmin <= uniform <= vmax:
        mark = f"<s style='left:{100 * (uniform - vmin) / (vmax - vmin):.1f}%'></s>"
        high += f" (mark: uniform, {uniform:.3g})"
    bar = f"linear-gradient(90deg,{TINT}00,{full}),{GREY_STOPS[0]}"
    return _key(unit, bar, low, high, mark)


def _chips(special: Sequence[float] | None, vmin: float, vmax: float, selected: int | None) -> str:
    """The tokens that lie nowhere on the spectrogram, as boxes tinted on the same scale."""
    if special is None:
        return ""
    boxes = "".join(
        f"<span data-token='{token}' title='{name} token, which sees the whole clip: {value:.3g}'"
        f"{_on(token == selected)}><i style='background:{TINT}"
        f"{round(255 * TINT_OPACITY * min(max((value - vmin) / (vmax - vmin), 0), 1)):02x}'>"
        f"{name} token {value:.3g}</i></span>"
        for token, (name, value) in enumerate(zip(("class", "distillation"), special, strict=True))
    )
    return f"<div class='moa-chips'>{boxes}</div>"


def _on(selected: bool) -> str:
    return " class='moa-on'" if selected else ""


def _colours(expert: int) -> str:
    return "--c:{};--t:{}".format(*expert_colour(expert))


def _dot(expert: int) -> str:
    return f"<i class='moa-dot' style='{_colours(expert)}'></i>"


def _listed(shares: np.ndarray) -> str:
    return ", ".join(f"expert {j + 1} {100 * v:.0f} %" for j, v in enumerate(shares)) + "."
