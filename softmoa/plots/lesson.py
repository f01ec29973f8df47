"""Figures of the lesson: tables of weights, a bottleneck, shares against steps, and answers.

HTML strings in the style of `screen`; the page carries `CSS` once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np

from softmoa.plots.scales import Array, array, expert_colour, neat_limit, ticks

CSS = Path(__file__).with_name("lesson.css").read_text(encoding="utf-8")


def sheets(*tables: str, note: str = "") -> str:
    """Several tables beside each other."""
    foot = f"<p class='moa-note'>{escape(note)}</p>" if note else ""
    return f"<div class='moa'><div class='moa-sheets'>{''.join(tables)}</div>{foot}</div>"


def table(
    values: Array,
    *,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    total: Literal["rows", "columns"] | None = None,
    tinted: bool = True,
) -> str:
    """A matrix as numbers. total: also show the sum over each row or each column.

    values: (rows, columns). tinted: colour cells by value from 0 to 1.
    """
    matrix = array(values)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    head += "<th class='moa-sum'>sum</th>" * (total == "rows")
    body = []
    for name, row in zip(rows, matrix, strict=True):
        cells = "".join(_cell(value, tinted) for value in row)
        if total == "rows":
            cells += f"<td class='moa-sum'>{row.sum():.3f}</td>"
        body.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    if total == "columns":
        sums = "".join(f"<td class='moa-sum'>{s:.3f}</td>" for s in matrix.sum(axis=0))
        body.append(f"<tr><th class='moa-sum'>sum</th>{sums}</tr>")
    return (
        f"<div class='moa-sheet'><table><caption>{escape(title)}</caption><thead><tr><th></th>"
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(value: float, tinted: bool) -> str:
    if not tinted:
        return f"<td>{value:.2f}</td>"
    return f"<td class='moa-tinted' style='--a:{0.75 * min(max(value, 0), 1):.3f}'>{value:.3f}</td>"


def facts(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Words and numbers in rows; cells are plain text."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f"<div class='moa'><div class='moa-sheet moa-facts'><table><caption>{escape(title)}"
        f"</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )


def logit_sliders(values: Array, *, rows: Sequence[str], columns: Sequence[str]) -> str:
    """A range input per token and slot, from -4 to 4, with `data-row` and `data-column`."""
    matrix = array(values)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(
            f"<td><input type='range' min='-4' max='4' step='0.5' value='{value:g}' "
            f"data-row='{i}' data-column='{j}' aria-label='routing logit of {escape(name)} for "
            f"{escape(columns[j])}'/><output>{value:g}</output></td>"
            for j, value in enumerate(row)
        )
        + "</tr>"
        for i, (name, row) in enumerate(zip(rows, matrix, strict=True))
    )
    return sheets(
        "<div class='moa-sheet'><table><caption>Routing logits: move them</caption>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bottleneck(width: int, narrow: int) -> str:
    """An adapter as a shape: `width` numbers squeezed through `narrow` and back, to scale."""
    full, slim = 150.0, max(150.0 * narrow / width, 1.5)
    top, waist = 90 - full / 2, 90 - slim / 2
    shape = (
        f"M60,{top} L60,{top + full} L230,{waist + slim:.1f} L230,{waist:.1f} Z "
        f"M270,{waist:.1f} L270,{waist + slim:.1f} L440,{top + full} L440,{top} Z"
    )
    words = f"An adapter: {width} numbers in, {narrow} in the middle, {width} out."
    return (
        f"<div class='moa'><svg class='moa-neck' viewBox='0 0 500 200' role='img' "
        f"aria-label='{words}'><path d='{shape}' fill='#0072b2' opacity='.8'/>"
        f"<rect x='230' y='{waist:.1f}' width='40' height='{slim:.1f}' fill='#e69f00'/>"
        f"<text x='30' y='94'>{width}</text><text x='470' y='94'>{width}</text>"
        f"<text x='250' y='40'>GELU, {narrow} wide</text>"
        "<text x='145' y='192'>W down</text><text x='355' y='192'>W up</text></svg></div>"
    )


def share_curves(
    shares: Mapping[str, Array], *, steps: int, readings: Mapping[str, str] | None = None
) -> str:
    """Share of every expert against the training step, stacked to 1; one panel per router.

    shares: name -> (steps so far, n), rows sum to 1. steps: length of the axis.
    readings: name -> a line under the panel.
    """
    panels = []
    for name, values in shares.items():
        stack = array(values)
        area = _stacked(stack, steps) if len(stack) else ""
        y = "".join(f"<span style='bottom:{p}%'>{p} %</span>" for p in (0, 50, 100))
        x = "".join(
            f"<span style='left:{100 * at / steps:.1f}%'>{at:g}</span>" for at in ticks(steps, 4)
        )
        line = escape((readings or {}).get(name, ""))
        panels.append(
            f"<div data-router='{escape(name)}'><h4>{escape(name)}</h4><div class='moa-plot'>"
            f"<div class='moa-y' aria-hidden='true'>{y}</div><div class='moa-area' role='img' "
            f"aria-label='{escape(name)}: {line}'>{area}</div><div class='moa-x' "
            f"aria-hidden='true'>{x}</div></div><p>{line}</p></div>"
        )
    experts = max(array(values).shape[1] for values in shares.values())
    keys = "".join(
        f"<span class='moa-key'><i class='moa-dot' style='--c:{expert_colour(j)[0]}'></i>"
        f"E{j + 1}</span>"
        for j in range(experts)
    )
    return (
        "<div class='moa'><div class='moa-head'><b>Share of each expert against the training step"
        f"</b><div class='moa-keys'>{keys}</div></div><div class='moa-curves'>{''.join(panels)}"
        "</div></div>"
    )


def _stacked(stack: np.ndarray, steps: int) -> str:
    """One polygon per expert, in a box of `steps` by 100."""
    edges = np.concatenate([np.zeros((len(stack), 1)), stack.cumsum(axis=1)], axis=1) * 100
    kept = np.unique(np.linspace(0, len(stack) - 1, min(len(stack), 100)).astype(int))
    shapes = []
    for j in range(stack.shape[1]):
        upper = " ".join(f"{k + 1},{100 - edges[k, j + 1]:.1f}" for k in kept)
        lower = " ".join(f"{k + 1},{100 - edges[k, j]:.1f}" for k in kept[::-1])
        shapes.append(f"<polygon points='{upper} {lower}' fill='{expert_colour(j)[0]}'/>")
    return (
        f"<svg viewBox='1 0 {max(steps - 1, 1)} 100' preserveAspectRatio='none'>"
        f"{''.join(shapes)}</svg>"
    )


def slot_squares(experts: int, slots: int) -> str:
    """A box per expert with a square per slot."""
    boxes = "".join(
        f"<span style='--c:{expert_colour(j)[0]}'>E{j + 1}&#160;{'<i></i>' * slots}</span>"
        for j in range(experts)
    )
    words = f"{experts} experts with {slots} slots each."
    group = f"<div class='moa-slots' role='img' aria-label='{words}'>{boxes}</div>"
    return f"<div class='moa'>{group}</div>"


def carried(weights: Array, *, part: float, title: str) -> str:
    """How much of a slot's weight its strongest tokens carry: one line per slot.

    weights: (slots, m), rows sum to 1. A dashed line stands at `part`.
    """
    rows = np.sort(array(weights), axis=1)[:, ::-1].cumsum(axis=1)
    m = rows.shape[1]
    lines = "".join(
        f"<polyline fill='none' stroke='{expert_colour(j)[0]}' stroke-width='2' "
        "vector-effect='non-scaling-stroke' points='0,100 "
        + " ".join(f"{k + 1},{100 - 100 * v:.1f}" for k, v in enumerate(row))
        + "'/>"
        for j, row in enumerate(rows)
    )
    at = 100 - 100 * part
    area = (
        f"<svg viewBox='0 0 {m} 100' preserveAspectRatio='none'>{lines}<line x1='0' x2='{m}' "
        f"y1='{at:.0f}' y2='{at:.0f}' stroke='currentColor' stroke-dasharray='4' "
        "vector-effect='non-scaling-stroke'/></svg>"
    )
    y = "".join(f"<span style='bottom:{p}%'>{p} %</span>" for p in (0, 50, 100))
    x = "".join(f"<span style='left:{100 * t / m:.1f}%'>{t:g}</span>" for t in ticks(m, 5))
    return (
        f"<div class='moa'><div class='moa-head'><b>{escape(title)}</b><div class='moa-keys'>"
        "<span class='moa-key'>up: weight carried</span><span class='moa-key'>across: number of "
        "tokens, the strongest first</span><span class='moa-key'>one line per slot</span></div>"
        f"</div><div class='moa-plot'><div class='moa-y'>{y}</div><div class='moa-area' role='img' "
        f"aria-label='{escape(title)}'>{area}</div><div class='moa-x'>{x}</div></div></div>"
    )


def before_after(
    pairs: Sequence[tuple[str, float, float]], *, title: str, names: tuple[str, str]
) -> str:
    """Two probabilities per label, as bars. pairs: (label, before, after), each from 0 to 1."""
    rows = "".join(
        f"<div class='moa-pair'><span>{escape(label)}</span><div>"
        f"<u style='width:{100 * before:.2f}%'></u>"
        f"<u class='moa-after' style='width:{100 * after:.2f}%'></u></div>"
        f"<div>{100 * before:.1f} %<br/>{100 * after:.1f} %</div></div>"
        for label, before, after in pairs
    )
    keys = "".join(
        f"<span class='moa-key'><u class='moa-swatch' style='--c:{colour}'></u>"
        f"{escape(name)}</span>"
        for name, colour in zip(names, ("#0072b2", "#e69f00"), strict=True)
    )
    return (
        f"<div class='moa'><div class='moa-head'><b>{escape(title)}</b><div class='moa-keys'>{keys}"
        f"</div></div>{rows}</div>"
    )


def scatter(x: Array, y: Array, *, title: str, across: str, up: str) -> str:
    """A point per mixture and expert. x, y: (layers, n), at least 0; colour is the expert."""
    right, left = array(x), array(y)
    width, height = float(right.max()) * 1.05 or 1.0, neat_limit(float(left.max()))
    points = "".join(
        f"<i style='--c:{expert_colour(j)[0]};left:{100 * right[row, j] / width:.2f}%;"
        f"bottom:{100 * left[row, j] / height:.2f}%' title='Mixture {row + 1}, expert {j + 1}: "
        f"{right[row, j]:.3g}, {left[row, j]:.3g}'></i>"
        for row in range(len(right))
        for j in range(right.shape[1])
    )
    y_marks = "".join(
        f"<span style='bottom:{100 * at / height:.2f}%'>{at:g}</span>" for at in ticks(height, 4)
    )
    x_marks = "".join(
        f"<span style='left:{100 * at / width:.2f}%'>{at:g}</span>" for at in ticks(width, 5)
    )
    return (
        f"<div class='moa'><div class='moa-head'><b>{escape(title)}</b><div class='moa-keys'>"
        f"<span class='moa-key'>up: {escape(up)}</span><span class='moa-key'>across: "
        f"{escape(across)}</span><span class='moa-key'>colour: expert</span></div></div>"
        f"<div class='moa-plot'><div class='moa-y'>{y_marks}"
        f"</div><div class='moa-area moa-points' role='img' aria-label='{escape(title)}'>{points}"
        f"</div><div class='moa-x'>{x_marks}</div></div></div>"
    )
