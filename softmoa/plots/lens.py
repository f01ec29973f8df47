"""Figures of the expert lens: values of all experts of all layers, and what a change does.

HTML strings in the style of `screen`. What a script may listen to:
    data-layer, data-expert   expert_map, switches: row of the mixture and the expert, from 0;
                              in the margins of `switches` one of them is "all"
    data-set                  switches: the select of "dispatch" or "combine"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from softmoa.contribution import PatchGrid
from softmoa.plots.scales import (
    FRAMES_PER_SECOND,
    GREYS,
    Array,
    Palette,
    array,
    hertz_ticks,
    ink,
    levels,
    picture,
    png,
    ramp,
    shrunk,
)
from softmoa.plots.screen import (
    cells_place,
    colours,
    figure,
    heading,
    padding,
    patch_name,
    scale_key,
    with_axes,
)

CSS = Path(__file__).with_name("lens.css").read_text(encoding="utf-8")

# From against to for: orange and blue differ for every kind of colour vision, white is zero.
DIVERGING_STOPS = ("#b35806", "#f1a340", "#fbe3c4", "#f7f7f7", "#c9def0", "#5aa0d0", "#08519c")
DIVERGING = ramp(DIVERGING_STOPS, 201)
SEQUENTIAL_STOPS = ("#f7f7f7", "#c9def0", "#5aa0d0", "#08519c")
SEQUENTIAL = ramp(SEQUENTIAL_STOPS, 101)


def expert_map(
    values: Array,
    *,
    rows: Sequence[str],
    title: str,
    unit: str,
    ends: tuple[str, str] = ("", ""),
    diverging: bool = False,
    flip: bool = False,
    percent: bool = False,
    sums: bool = False,
    marks: Array | None = None,
    mark: str = "",
    selected: tuple[int, int] | None = None,
) -> str:
    """A number for every expert of every mixture, as a table of coloured buttons.

    values: (rows, n). diverging: colours from minus to plus the largest magnitude, white at zero;
    else from zero up. flip: the negative end is the blue one. ends: words for the two ends of the
    scale. sums: a last column with the sum of each row. marks: (rows, n) bool, underlined, which
    `mark` explains.
    """
    numbers = array(values)
    n = numbers.shape[1]
    high = float(np.abs(numbers).max())
    low = -high if diverging else 0.0
    palette = DIVERGING if diverging else SEQUENTIAL
    palette = palette[::-1] if flip else palette
    cells = [f"<span></span>{''.join(_top(f'E{j + 1}') for j in range(n))}"]
    cells += [_top("sum")] * sums
    for row, name in enumerate(rows):
        cells.append(f"<span>{escape(name)}</span>")
        for j in range(n):
            value = numbers[row, j]
            marked = marks is not None and bool(marks[row, j])
            classes = "moa-cell" + " moa-flip" * marked + " moa-on" * ((row, j) == selected)
            cells.append(
                f"<button type='button' class='{classes}' data-layer='{row}' data-expert='{j}' "
                f"style='{_tinted(palette, value, low, high)}' aria-pressed="
                f"'{'true' if (row, j) == selected else 'false'}' title='{escape(name)}, expert "
                f"{j + 1}: {_exact(value, diverging, percent)}{f', {mark}' * marked}'>"
                f"{_short(value, high, diverging, percent)}</button>"
            )
        if sums:
            total = _short(numbers[row].sum(), high, diverging, percent)
            cells.append(f"<span class='moa-cell moa-sumcell'>{total}</span>")
    gradient = f"linear-gradient(90deg,{','.join(_hex(palette[:: len(palette) // 10]))})"
    key = scale_key(
        unit,
        gradient,
        f"{_short(low, high, diverging, percent)} {escape(ends[0])}".strip(),
        f"{_short(high, high, diverging, percent)} {escape(ends[1])}".strip(),
    )
    if marks is not None and marks.any():
        key += "<span class='moa-key'><span><u style='width:auto;height:auto'>underlined</u>"
        key += f"{escape(mark)}</span></span>"
    return figure(
        heading(title, key)
        + f"<div class='moa-scroll'><div class='moa-grid' role='group' aria-label='{escape(title)}'"
        f" style='--n:{n};--more:{int(sums)}'>{''.join(cells)}</div></div>"
    )


def signed_overlay(
    mel: Array,
    values: Array,
    grid: PatchGrid,
    *,
    title: str,
    unit: str,
    ends: tuple[str, str],
    special: Sequence[float],
    real_frames: int | None = None,
) -> str:
    """Positive and negative values of all patches over the spectrogram, zero transparent.

    values: (bands, columns), lowest band first. special: of the class and distillation token.
    """
    mel, values = array(mel), array(values)
    high = float(max(np.abs(values).max(), *map(abs, special))) or 1.0
    backdrop = png(shrunk(picture(mel, len(GREYS), real_frames), 256, 128), GREYS)
    alpha = np.rint(np.abs(np.linspace(-235, 235, len(_OVERLAY))))
    tint = png(levels(values[::-1], -high, high, len(_OVERLAY)), _OVERLAY, alpha)
    place = cells_place(grid, len(mel))
    cells = "".join(
        f"<i title='{patch_name(grid, band, column)}: {values[band, column]:+.3g}'></i>"
        for band in reversed(range(grid.bands))
        for column in range(grid.columns)
    )
    area = (
        f"<img alt='' src='{backdrop}'/><img alt='' class='moa-tint' style='{place}' src='{tint}'/>"
        f"<div class='moa-cells' style='{place};cursor:default;grid:repeat({grid.bands},1fr)/"
        f"repeat({grid.columns},1fr)'>{cells}</div>" + padding(mel, real_frames)
    )
    gradient = f"linear-gradient(90deg,{_hex(_OVERLAY)[0]},#0e0e0e,{_hex(_OVERLAY)[-1]})"
    key = scale_key(unit, gradient, f"\u2212{high:.2g} {ends[0]}", f"+{high:.2g} {ends[1]}")
    names = ("class token", "distillation token")
    words = f"{title}: {unit}, from {values.min():+.3g} to {values.max():+.3g}."
    notes = ", ".join(f"{n} {v:+.3g}" for n, v in zip(names, special, strict=True))
    total = values.sum() + sum(special)
    return figure(
        heading(title, key)
        + with_axes(area, len(mel) / FRAMES_PER_SECOND, hertz_ticks(grid.mels), words)
        + f"<p class='moa-note'>Patches {values.sum():+.3g}, {notes}; together {total:+.3g}.</p>"
    )


_OVERLAY = ramp(("#ff8c1a", "#ff8c1a", "#56b4e9", "#56b4e9"), 201)


def outcome(
    intact: Array,
    changed: Array,
    *,
    labels: Sequence[str],
    before: Array,
    after: Array,
    title: str,
    names: tuple[str, str],
    target: int | None = None,
    shown: int = 6,
) -> str:
    """Logits and probabilities with and without a change, the classes that matter first.

    intact, changed: logits (classes,). before, after: probabilities. names: of the two states.
    Shown are the likeliest classes of both states and the `target`; on a phone, of the logits only
    their difference.
    """
    intact, changed, before, after = array(intact), array(changed), array(before), array(after)
    was, now = int(intact.argmax()), int(changed.argmax())
    order = [int(c) for c in np.maximum(before, after).argsort()[::-1][:shown]]
    if target is not None and target not in order:
        order[-1:] = [target]
    rows = "".join(
        f"<tr class='{'moa-row-on' * (c == target)}' data-class='{c}'><td>{escape(labels[c])}</td>"
        f"<td class='moa-wide'>{intact[c]:.3f}</td><td class='moa-wide'>{changed[c]:.3f}</td>"
        f"<td>{_signed(float(changed[c] - intact[c]))}</td>"
        f"<td>{100 * before[c]:.1f} %</td><td>{100 * after[c]:.1f} %</td><td class='moa-two'>"
        f"<i style='width:{100 * before[c]:.2f}%'></i><i style='width:{100 * after[c]:.2f}%'></i>"
        "</td></tr>"
        for c in order
    )
    same = "The label stays" if was == now else "The label changes from"
    verdict = f"{same} <b>{escape(labels[was])}</b>"
    verdict += f" to <b>{escape(labels[now])}</b>" * (was != now)
    verdict += f": {100 * before[was]:.1f} % "
    verdict += f"→ {100 * after[was]:.1f} %." if was == now else f"→ {100 * after[now]:.1f} %."
    a, b = map(escape, names)
    return figure(
        heading(title, "")
        + f"<p class='moa-verdict'>{verdict}</p><div class='moa-table'><table><thead><tr>"
        f"<th>Class</th><th class='moa-wide'>Class logit, {a}</th><th class='moa-wide'>{b}</th>"
        f"<th>Logit difference</th><th>Probability, {a}</th><th>{b}</th>"
        f"<th class='moa-two'>plain: {a}, striped: {b}</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def switches(
    on: Sequence[Sequence[bool]],
    *,
    rows: Sequence[str],
    settings: Sequence[Mapping[str, str]],
    choices: Mapping[str, Sequence[str]],
    title: str,
    note: str,
) -> str:
    """A switch for every expert of every mixture, and a choice of routing for every mixture.

    settings: for each row the choice made of each of `choices`; a row may lack one.
    Margins switch a whole layer, or an expert or the routing of all layers.
    """
    n = len(on[0])
    cells = ["<span></span>"]
    cells += [
        f"<button type='button' class='moa-cell moa-head-cell moa-top' data-layer='all' "
        f"data-expert='{j}' title='expert {j + 1} of all layers'>E{j + 1}</button>"
        for j in range(n)
    ]
    cells += [_select_all(kind, options, settings) for kind, options in choices.items()]
    for row, name in enumerate(rows):
        cells.append(
            f"<button type='button' class='moa-cell moa-head-cell' data-layer='{row}' "
            f"data-expert='all' title='all experts of {escape(name.lower())}'>{escape(name)}"
            "</button>"
        )
        for j in range(n):
            state = "on" if on[row][j] else "off"
            cells.append(
                f"<button type='button' class='moa-cell{' moa-off' * (not on[row][j])}' "
                f"data-layer='{row}' data-expert='{j}' style='{colours(j) * on[row][j]}' "
                f"aria-pressed='{'true' if on[row][j] else 'false'}' "
                f"title='{escape(name)}, expert {j + 1}: {state}'>{state}</button>"
            )
        for kind, options in choices.items():
            chosen = settings[row].get(kind)
            cells.append(_select(row, name, kind, options, chosen) if chosen else _top("\u2013"))
    return figure(
        heading(title, "")
        + f"<div class='moa-scroll'><div class='moa-grid moa-board' role='group' "
        f"aria-label='{escape(title)}' style='--n:{n};--more:{len(choices)}'>{''.join(cells)}"
        f"</div></div><p class='moa-note'>{escape(note)}</p>"
    )


def _select(row: int, name: str, kind: str, options: Sequence[str], chosen: str) -> str:
    listed = "".join(_option(option, option, option == chosen) for option in options)
    return (
        f"<select data-layer='{row}' data-set='{kind}' aria-label='{kind} of {escape(name)}'"
        f" class='{'moa-changed' * (chosen != options[0])}'>{listed}</select>"
    )


def _select_all(kind: str, options: Sequence[str], settings: Sequence[Mapping[str, str]]) -> str:
    """One choice for all rows, which shows what they have in common."""
    made = {row[kind] for row in settings if kind in row}
    listed = _option("", f"{kind}, mixed", True) * (len(made) > 1)
    listed += "".join(_option(option, f"{kind} {option}", made == {option}) for option in options)
    return f"<select data-layer='all' data-set='{kind}' aria-label='{kind}'>{listed}</select>"


def _option(value: str, text: str, selected: bool) -> str:
    chosen = " selected=''" * selected
    return f"<option value='{value}'{chosen}>{text}</option>"


def side_by_side(*figures: str) -> str:
    """Figures beside each other where there is room."""
    return f"<div class='moa-pair'>{''.join(figures)}</div>"


def _top(name: str) -> str:
    return f"<span class='moa-top'>{escape(name)}</span>"


def _tinted(palette: Palette, value: float, low: float, high: float) -> str:
    rgb = palette[int(levels(np.array(value), low, high, len(palette)))]
    return f"--c:{_hex(rgb[None])[0]};--t:{ink(rgb)}"


def _hex(palette: Palette) -> list[str]:
    return ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in palette]


def _short(value: float, high: float, signed: bool, percent: bool) -> str:
    """A number as it fits a cell: as many decimals as the largest one needs."""
    if percent:
        return f"{100 * value:.0f}%"
    decimals = 2 if high >= 0.095 or not high else min(1 - int(np.floor(np.log10(high))), 6)
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.replace("-", "\u2212") if float(text) else "0"


def _signed(value: float) -> str:
    """Three decimals and a sign, if they are not all zeros."""
    text = f"{value:+.3f}".replace("-", "\u2212")
    return "0.000" if text.endswith("0.000") else text


def _exact(value: float, signed: bool, percent: bool) -> str:
    if percent:
        return f"{100 * value:.3f} %"
    return f"{value:{'+' if signed else ''}.5f}"
