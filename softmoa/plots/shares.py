"""How models of one task share the work among their experts, as small bars side by side.

An HTML string in the style of `screen`, laid out by lens.css.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from softmoa.plots.scales import Array, array
from softmoa.plots.screen import colours, dot, figure, heading


def share_charts(
    shares: Mapping[str, Sequence[Array | None]],
    *,
    rows: Sequence[str],
    title: str,
    unit: str,
) -> str:
    """Small bars of every expert's share, a column per model and a row per layer.

    shares: of each model for each row (n,), or None where it has no mixture. All bars stand on
    one scale; the dashed line is an equal share.
    """
    series = {
        name: [None if values is None else array(values) for values in column]
        for name, column in shares.items()
    }
    every = [values for column in series.values() for values in column if values is not None]
    top = max(float(values.max()) for values in every) or 1.0
    cells = ["<span></span>", *(f"<b>{escape(name)}</b>" for name in series)]
    for row, layer in enumerate(rows):
        cells.append(f"<span>{escape(layer)}</span>")
        cells += [_chart(column[row], top, name, layer) for name, column in series.items()]
    key = "".join(
        f"<span class='moa-key'><span>{dot(j)}E{j + 1}</span></span>"
        for j in range(max(len(values) for values in every))
    )
    return figure(
        heading(title, key) + "<div class='moa-scroll'><div class='moa-charts' "
        f"style='--n:{len(series)}'>{''.join(cells)}</div></div>"
        f"<p class='moa-note'>{escape(unit)}; every chart reaches from 0 to {100 * top:.0f} %, and "
        "the dashed line is an equal share.</p>"
    )


def _chart(values: np.ndarray | None, top: float, name: str, layer: str) -> str:
    if values is None:
        return "<span>no mixture</span>"
    bars = "".join(
        f"<i data-expert='{j}' style='{colours(j)};height:{100 * v / top:.2f}%' "
        f"title='{escape(name)}, {escape(layer)}, expert {j + 1}: {100 * v:.2f} %'></i>"
        for j, v in enumerate(values)
    )
    words = ", ".join(f"expert {j + 1} {100 * v:.0f} %" for j, v in enumerate(values))
    return (
        f"<div class='moa-chart' role='img' aria-label='{escape(layer)}, {escape(name)}: {words}'>"
        f"{bars}<s style='bottom:{100 / len(values) / top:.2f}%'></s></div>"
    )
