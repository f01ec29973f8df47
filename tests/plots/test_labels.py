"""Labels and names of strangers are shown letter by letter, on the page and in files."""

import io
from collections.abc import Iterator
from html import unescape

import numpy as np
import pytest
from PIL import Image

from softmoa.plots import experts, explore, lesson, live, race
from softmoa.plots.race import Cost, Curve, Lane

NAME = "<b>a</b> $\\frac{$ %{evil} <a href='//x'>b</a> &lt;"
LABELS = ["dog", NAME]
CURVE = Curve(NAME, "#888888", *(np.array(v) for v in ([0, 5], [0.5, 0.5], [0, 0.1])))
COSTS = [Cost(NAME, "#888888", x, 0.5, 0.1, True) for x in (0, 200)]
HALVES = np.full((2, 2), 0.5)

FIGURES = {
    "answers": experts.answers(LABELS, [0.5, 0.5], [0, 1], logits=HALVES, names=("as is", "off")),
    "flow": explore.flow(HALVES, HALVES, sources=["a", "b"], names=["E1", "E2"], labels=LABELS),
    "over time": explore.over_time(
        HALVES, HALVES[None], labels=LABELS, places=["1"], spans=[(0, 1), (1, 2)], seconds=2
    ),
    "live": live.listening(np.zeros((99, 128)), 1, dict.fromkeys(LABELS, 0.5), [1], 0.5, 5),
    "bars": lesson.bars(LABELS, {"share": [0.5, 0.5]}, ["#888888"]),
    "curves": race.curves([CURVE], x_title="step", y_title="loss", x_end=5, percent=False),
    "lanes": race.lanes([Lane(NAME, "#888888", 0.5, 0.1, "1", ["Time: 1 s", NAME])], 0.5, "t", "c"),
    "costs": race.costs(COSTS, "seconds", "test accuracy"),
    "balance": race.balance({NAME: [(0, HALVES.tolist()), (9, HALVES.tolist())]}),
    "confusion": race.confusion(np.eye(2, dtype=int), LABELS),
}  # fmt: skip


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner if key != "legendgroup" else None)  # is not shown
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("name", FIGURES)
def test_plotly_finds_no_markup_in_labels(name):
    said = list(texts(FIGURES[name].to_plotly_json()))
    assert any(NAME in unescape(text) for text in said)
    assert not [text for text in said for bad in ("<b>", "<a", "$", "%{evil") if bad in text]


def test_matplotlib_finds_no_formula_in_names():
    words = {"heading": NAME, "conclusion": NAME}
    data = race.report([CURVE], [CURVE], {"seconds": COSTS, "size": COSTS}, **words, dpi=50)
    assert Image.open(io.BytesIO(data)).size == (550, 400)
