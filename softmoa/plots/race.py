"""Figures of a comparison for a web page: curves, trade-offs, router balance, confusion.

What grows while a comparison runs is a list of strings that join to well-formed HTML: a new point
is appended to one of them and the others stay the same, so that only the change is sent. Lines are
drawn in data coordinates, and an axis that grows changes the view box alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from softmoa.plots.scales import expert_colour, ticks

CSS = Path(__file__).with_name("race.css").read_text(encoding="utf-8")
COLOURS = 6  # of Okabe and Ito's, those that show as lines on white and on black
HIDDEN = " hidden=''"
LABEL_GAP = 0.075  # of the height of a plot, between two labels


@dataclass(frozen=True)
class Style:
    """Colour of a method, and whether its line is dashed."""

    colour: str
    dashed: bool

    @classmethod
    def of(cls, place: int) -> Style:
        """The style of the method at `place` in a comparison, from 0; distinct up to 12."""
        return cls(expert_colour(place % COLOURS)[0], place // COLOURS % 2 == 1)

    @property
    def key(self) -> str:
        """A short piece of the line."""
        kind = "dashed" if self.dashed else "solid"
        return f"<i class='race-key' style='border-top:3px {kind} {self.colour}'></i>"


@dataclass(frozen=True)
class Line:
    """One run. points: (x, y) in the order of x. kept: which of them is marked, if any.

    Lines of one name share a label.
    """

    name: str
    style: Style
    points: Sequence[tuple[float, float]]
    kept: int | None = None


@dataclass(frozen=True)
class Dot:
    """One method on a trade-off. spread: standard deviation of y, 0 if unknown."""

    name: str
    style: Style
    x: float
    y: float
    spread: float = 0.0


def curves(
    lines: Sequence[Line], *, title: str, x_title: str, x_end: float, percent: bool = False
) -> list[str]:
    """Lines against `x_title` from 0 to `x_end`, each labelled with its latest value.

    percent: y is a fraction, drawn within 0 and 1.
    """
    values = [y for line in lines for _, y in line.points]
    bottom, top = y_range(values, percent)
    across = {line.name for line in lines}
    thin = len(lines) > len(across)
    height = top - bottom
    marks = [m for m in ticks_between(bottom, top)]
    grid = "".join(f"M0 {m:.6g}H{x_end:.6g}" for m in marks)
    y_labels = "".join(
        f"<span style='bottom:{100 * (m - bottom) / height:.2f}%'>{_number(m, percent)}</span>"
        for m in marks
    )
    parts = [
        f"<div class='moa race'>{_title(title)}<div class='moa-plot race-plot'>"
        f"<div class='moa-y' aria-hidden='true'>{y_labels}</div>"
        f"<div class='moa-area race-area'><svg aria-hidden='true' preserveAspectRatio='none' "
        f"viewBox='0 {-top:.6g} {x_end:.6g} {height:.6g}'><g transform='scale(1,-1)'>"
        f"<path class='race-grid' d='{grid}'/>"
    ]
    for line in lines:
        # One point twice is a dot, by the round ends of lines; once it is nothing.
        shown = [*line.points] * 2 if len(line.points) == 1 else line.points
        parts += [
            f"<polyline class='race-line{' race-thin' * thin}{' race-dash' * line.style.dashed}' "
            f"stroke='{line.style.colour}' points='",
            " ".join(f"{x:.5g},{y:.4g}" for x, y in shown),
            "'/>",
            _ring(line),
        ]
    parts.append("</g></svg></div><div class='race-labels'>")
    latest: dict[str, list[float]] = {}
    for line in lines:
        if line.points:
            latest.setdefault(line.name, []).append(line.points[-1][1])
    means = {name: sum(of) / len(of) for name, of in latest.items()}
    places = spread_out([(y - bottom) / height for y in means.values()], LABEL_GAP)
    styles = {line.name: line.style for line in lines}
    at = dict(zip(means, places, strict=True))
    for name in styles:
        shown = name in means
        parts += [
            f"<span{'' if shown else HIDDEN} style='bottom:",
            f"{100 * at[name]:.0f}" if shown else "",
            f"%'>{styles[name].key}{escape(name)} <b>",
            _number(means[name], percent, 3) if shown else "",
            "</b></span>",
        ]
    parts.append("</div>" + _x_axis(x_end, x_title) + "</div></div>")
    return parts


def _ring(line: Line) -> str:
    """A mark at the point that was kept; two dots, since a circle would be stretched."""
    if line.kept is None:
        return ""
    x, y = line.points[line.kept]
    dot = f"d='M{x:.5g} {y:.4g}h0'"
    colour = f"stroke='{line.style.colour}'"
    return f"<path class='race-kept' {colour} {dot}/><path class='race-hole' {dot}/>"


def y_range(values: Sequence[float], percent: bool, least: float = 0.3) -> tuple[float, float]:
    """Neat ends that hold all values; of fractions at least `least` apart and within 0 and 1."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if percent:
        low = max(math.floor(10 * low - 0.3), 0) / 10
        high = max(min(math.ceil(10 * high + 0.3), 10) / 10, low)
        low = max(min(low, high - least), 0.0)
        return low, max(high, low + least)
    step = ticks(max(high - low, 0.1 * abs(high), 1e-6), 4)[1]
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step + 0.05) * step


def ticks_between(bottom: float, top: float, most: int = 5) -> list[float]:
    """Neat values from `bottom` to `top`."""
    steps = ticks(top - bottom, most)
    step = steps[1] if len(steps) > 1 else top - bottom
    first = math.ceil(bottom / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(top / step + 1e-9) + 1)]


def spread_out(values: Sequence[float], gap: float) -> list[float]:
    """Places for labels at `values` from 0 to 1, in their order, `gap` apart where they fit."""
    order = sorted(range(len(values)), key=lambda k: values[k])
    gap = min(gap, 1 / max(len(values) - 1, 1))
    placed = [0.0] * len(values)
    lowest = 0.0
    for k in order:
        placed[k] = lowest = max(values[k], lowest)
        lowest += gap
    highest = 1.0
    for k in reversed(order):
        placed[k] = min(placed[k], highest)
        highest = placed[k] - gap
    return placed


def trade_off(dots: Sequence[Dot], *, title: str, x_title: str, note: str = "") -> str:
    """Accuracy against a cost on a logarithmic axis; a cost of 0 has a place of its own, left.

    Bars are one standard deviation over seeds.
    """
    if not dots:
        return ""
    bottom, top = y_range([dot.y - s * dot.spread for dot in dots for s in (-1, 1)], True, 0.1)
    positive = [dot.x for dot in dots if dot.x > 0] or [1.0]
    first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    last = max(last, first + 1)
    zero = any(dot.x <= 0 for dot in dots)
    left = 0.12 if zero else 0.02

    def across(x: float) -> float:
        return 0.02 if x <= 0 else left + (0.98 - left) * (math.log10(x) - first) / (last - first)

    def up(y: float) -> float:
        return (y - bottom) / (top - bottom)

    marks = ticks_between(bottom, top)
    y_labels = "".join(
        f"<span style='bottom:{100 * up(m):.2f}%'>{_number(m, True)}</span>" for m in marks
    )
    decades = [(10.0**k, across(10.0**k)) for k in range(first, last + 1)]
    x_marks = ([(0.0, across(0))] if zero else []) + decades
    x_labels = "".join(
        f"<span style='left:{100 * at:.2f}%'>{_short(value)}</span>" for value, at in x_marks
    )
    lines = "".join(f"<s style='bottom:{100 * up(m):.2f}%'></s>" for m in marks)
    at = [(across(dot.x), up(dot.y)) for dot in dots]
    labels = _labels_beside([(*place, dot.name) for place, dot in zip(at, dots, strict=True)])
    drawn = "".join(
        f"<u style='left:{100 * across(dot.x):.1f}%;bottom:{100 * up(dot.y - dot.spread):.1f}%;"
        f"height:{200 * dot.spread / (top - bottom):.1f}%;--c:{dot.style.colour}'></u>"
        # From the dot to its label, where that had to move.
        f"<b style='left:{100 * x:.1f}%;bottom:{100 * min(y, height):.1f}%;"
        f"height:{100 * abs(y - height):.1f}%;--c:{dot.style.colour}'></b>"
        f"<i class='race-dot{' race-ring' * dot.style.dashed}' title='{escape(dot.name)}: "
        f"{100 * dot.y:.1f} %, {dot.x:,.6g}' style='left:{100 * x:.1f}%;bottom:{100 * y:.1f}%;"
        f"--s:{_size(at, k):.2g}rem;--c:{dot.style.colour}'></i>"
        f"<span class='{side}' style='{edge}:{100 * where:.1f}%;bottom:{100 * height:.1f}%'>"
        f"{escape(dot.name)}</span>"
        for k, (dot, (x, y), (side, edge, where, height)) in enumerate(
            zip(dots, at, labels, strict=True)
        )
    )
    # Where there is no room for labels beside the dots.
    legend = "".join(
        f"<span><i class='moa-dot' style='display:inline-block;--c:{dot.style.colour}'></i> "
        f"{escape(dot.name)} {100 * dot.y:.1f} %</span>"
        for dot in dots
    )
    words = "; ".join(f"{d.name}: {100 * d.y:.1f} %, {d.x:,.6g}" for d in dots)
    return (
        f"<div class='moa race'>{_title(title)}<div class='moa-plot race-trade'>"
        f"<div class='moa-y' aria-hidden='true'>{y_labels}</div>"
        f"<div class='moa-area race-area' role='img' aria-label='{escape(words)}'>"
        f"<div class='race-dots'>{lines}{drawn}</div></div>"
        f"<div class='moa-x' aria-hidden='true'>{x_labels}</div>"
        f"<div class='race-x-title'>{escape(x_title)}</div>"
        f"<div class='race-legend' aria-hidden='true'>{legend}</div></div>"
        + (f"<p class='moa-note'>{escape(note)}</p>" if note else "")
        + "</div>"
    )


def _size(at: Sequence[tuple[float, float]], k: int) -> float:
    """Diameter of a dot: those that later ones lie on are larger, so that they show as rings."""
    x, y = at[k]
    covered = sum(abs(x - a) < 0.012 and abs(y - b) < 0.03 for a, b in at[k + 1 :])
    return 0.8 + 0.45 * covered


def _labels_beside(
    points: Sequence[tuple[float, float, str]],
) -> list[tuple[str, str, float, float]]:
    """(class, edge, distance from it, height) of a label beside each (x, y, name), from 0 to 1.

    A label that would lie on another is moved up or down.
    """
    taken: list[tuple[float, float, float]] = []
    found = []
    for x, y, name in points:
        width = 0.018 * len(name) + 0.03
        right = x + width < 1
        start = x if right else x - width
        height = y
        for shift in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6):
            height = y + shift * LABEL_GAP
            inside = 0.02 <= height <= 0.98
            if inside and not any(
                abs(h - height) < LABEL_GAP * 0.95 and start < e and s < start + width
                for s, e, h in taken
            ):
                break
        taken.append((start, start + width, height))
        if right:
            found.append(("race-right", "left", x, height))
        else:
            found.append(("race-left", "right", 1 - x, height))
    return found


def balance(
    shares: Mapping[str, Sequence[tuple[int, Sequence[Sequence[float]]]]],
    *,
    title: str,
    note: str,
    x_end: float,
) -> list[str]:
    """Share of every expert against step: a row per run, a panel per mixture, stacked to 100 %.

    shares: name of a run -> (step, (mixtures, experts)) after each evaluation.
    """
    if not shares:
        return []
    experts = max(len(row) for of in shares.values() for _, rows in of for row in rows)
    keys = "".join(
        f"<span class='moa-key'><u class='moa-swatch' style='--c:{expert_colour(j)[0]}'></u>"
        f"E{j + 1}</span>"
        for j in range(experts)
    )
    parts = [
        f"<div class='moa race'><div class='moa-head'><b>{escape(title)}</b>"
        f"<div class='moa-keys'>{keys}</div></div>"
    ]
    for name, course in shares.items():
        steps = [step for step, _ in course]
        wide = steps[1] - steps[0] if len(steps) > 1 else max(x_end / 4, 1)
        mixtures = len(course[0][1])
        parts.append(f"<div class='race-row'><b>{escape(name)}</b><div class='race-panels'>")
        for layer in range(mixtures):
            parts.append(
                f"<div class='race-panel'><svg aria-hidden='true' preserveAspectRatio='none' "
                f"viewBox='{-wide / 2:g} -1 {x_end + wide:g} 1'><g fill='none' "
                f"stroke-width='{wide:g}' transform='scale(1,-1)'>"
            )
            # From the last expert to the first, each up to where it ends and over those before.
            for j in reversed(range(len(course[0][1][layer]))):
                parts += [
                    f"<path stroke='{expert_colour(j)[0]}' d='",
                    "".join(
                        f"M{step:d} 0V{sum(rows[layer][: j + 1]):.3g}" for step, rows in course
                    ),
                    "'/>",
                ]
            largest = max(course[-1][1][layer])
            parts += [
                f"</g></svg><span>layer {layer + 1}: largest ",
                f"{100 * largest:.0f}",
                " %</span></div>",
            ]
        parts.append("</div></div>")
    parts.append(f"<p class='moa-note'>{escape(note)}</p></div>")
    return parts


def confusion_table(
    counts: Sequence[Sequence[int]], labels: Sequence[str], *, title: str, note: str
) -> str:
    """Rows are the true classes, columns what was said; darker is a larger part of its row."""
    head = "".join(f"<th scope='col'><span>{escape(label)}</span></th>" for label in labels)
    rows = "".join(
        f"<tr><th scope='row'>{escape(label)}</th>"
        + "".join(
            f"<td class='{'race-hit' * (i == j)}' style='--v:{count / max(sum(row), 1):.2f}' "
            f"title='{escape(label)} taken for {escape(said)}: {count} of {sum(row)}'>"
            f"{count or ''}</td>"
            for j, (count, said) in enumerate(zip(row, labels, strict=True))
        )
        + "</tr>"
        for i, (label, row) in enumerate(zip(labels, counts, strict=True))
    )
    return (
        f"<div class='moa race'>{_title(title)}<div class='race-scroll'>"
        f"<table class='race-confusion'><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div><p class='moa-note'>{escape(note)}</p></div>"
    )


def _title(title: str) -> str:
    return f"<div class='moa-head'><b>{escape(title)}</b></div>"


def _x_axis(end: float, title: str) -> str:
    marks = "".join(
        f"<span style='left:{100 * at / end:.2f}%'>{at:g}</span>" for at in ticks(end) if at <= end
    )
    return (
        f"<div class='moa-x' aria-hidden='true'>{marks}</div>"
        f"<div class='race-x-title'>{escape(title)}</div>"
    )


def _number(value: float, percent: bool, digits: int = 2) -> str:
    if percent:
        return f"{100 * value:.0f} %" if digits == 2 else f"{100 * value:.1f} %"
    return f"{value:.{digits}g}" if digits > 2 else f"{value:g}"


def _short(value: float) -> str:
    """1000 as 1k, 1000000 as 1M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
