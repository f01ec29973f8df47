"""Labels and expert shares of a long sound against time, as HTML in the style of `screen`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from softmoa.plots.scales import Array, array, expert_colour, ticks

CSS = Path(__file__).with_name("timeline.css").read_text(encoding="utf-8")


def label_lanes(
    probabilities: Array, *, labels: Sequence[str], spans: Sequence[tuple[float, float]]
) -> str:
    """A lane per label, coloured by its probability in each window; the best one is framed.

    probabilities: (windows, labels). spans: from and to of each window's cell, in seconds.
    """
    values = array(probabilities)
    cells = []
    best = values.argmax(axis=1)
    for row, label in enumerate(labels):
        for k, (start, end) in enumerate(spans):
            first = " class='moa-first'" if best[k] == row else ""
            tip = f"{start:.1f}\u2013{end:.1f} s, {escape(label)}: {100 * values[k, row]:.1f} %"
            cells.append(f"<i style='--a:{values[k, row]:.3f}' title='{tip}'{first}></i>")
    widths = " ".join(f"{end - start:.3f}fr" for start, end in spans)
    area = (
        f"<div class='moa-lanes' style='grid-template-columns:{widths};"
        f"grid-auto-rows:1fr'>{''.join(cells)}</div>"
    )
    marks = [(label, 1 - (row + 0.5) / len(labels)) for row, label in enumerate(labels)]
    best_words = ", ".join(
        f"{labels[k]} at {start:.1f} s" for k, (start, _) in zip(best, spans, strict=True)
    )
    keys = (
        "<span class='moa-key'>blue: probability in a window</span>"
        "<span class='moa-key'>framed: the most probable</span>"
    )
    return _figure("Labels over time", keys, area, marks, spans[-1][1], f"Labels: {best_words}")


def share_lanes(shares: Array, *, spans: Sequence[tuple[float, float]], title: str) -> str:
    """Shares of the experts in each window, stacked to 100 %.

    shares: (windows, n), rows sum to 1. spans: as in `label_lanes`.
    """
    values = array(shares)
    end = spans[-1][1]
    bars = []
    for (start, stop), row in zip(spans, values, strict=True):
        top = 100.0
        for j, share in enumerate(row):
            top -= 100 * share
            bars.append(
                f"<rect x='{start:.3f}' y='{top:.2f}' width='{stop - start:.3f}' "
                f"height='{100 * share:.2f}' fill='{expert_colour(j)[0]}'><title>"
                f"{start:.1f}\u2013{stop:.1f} s, expert {j + 1}: {100 * share:.1f} %</title></rect>"
            )
    area = f"<svg viewBox='0 0 {end:.3f} 100' preserveAspectRatio='none'>{''.join(bars)}</svg>"
    keys = "".join(
        f"<span class='moa-key'><i class='moa-dot' style='--c:{expert_colour(j)[0]}'></i>"
        f"E{j + 1}</span>"
        for j in range(values.shape[1])
    )
    marks = [(f"{p} %", p / 100) for p in (0, 50, 100)]
    return _figure(title, keys, area, marks, end, title)


def _figure(
    title: str,
    keys: str,
    area: str,
    marks: Sequence[tuple[str, float]],
    seconds: float,
    words: str,
) -> str:
    y = "".join(f"<span style='bottom:{100 * at:.2f}%'>{escape(name)}</span>" for name, at in marks)
    x = "".join(
        f"<span style='left:{100 * at / seconds:.2f}%'>{at:g} s</span>" for at in ticks(seconds)
    )
    return (
        f"<div class='moa'><div class='moa-times'><div class='moa-head'><b>{escape(title)}</b>"
        f"<div class='moa-keys'>{keys}</div></div><div class='moa-plot'><div class='moa-y' "
        f"aria-hidden='true'>{y}</div><div class='moa-area' role='img' aria-label='{escape(words)}'"
        f" data-seconds='{seconds:g}'>{area}</div><div class='moa-x' aria-hidden='true'>{x}</div>"
        "</div></div></div>"
    )
