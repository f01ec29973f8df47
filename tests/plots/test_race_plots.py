"""Figures of comparisons: true to the numbers."""

import io
import json
from html import unescape

import numpy as np
from PIL import Image

from softmoa.plots import race
from softmoa.plots.race import Cost, Curve, Lane

NASTY = "<b>${1}`&'\""
PROBE = Curve("Probe", "#888888", *(np.array(v) for v in ([0, 5], [0.5, 0.5], [0, 0])), "dot")
MOA = Curve("MoA", "#cc6677", *(np.array(v) for v in ([0, 5], [0.5, 0.75], [0, 0.1])))

COSTS = [
    Cost("none", "#888888", 0, 0.5, 0, True),
    Cost("$x", "#cc6677", 2000, 0.75, 0.125, True),
    Cost("dear", "#332288", 133_758, 0.625, 0, False),
]


def test_costs_of_two_kinds():
    """A cost of nothing stands a decade below the least; the Pareto line joins the best."""
    figure = race.costs(COSTS, "trained parameters", "test accuracy")
    line, none, best, dear = figure.data
    assert (line.x, line.y) == ((200, 2000), (0.5, 0.75))
    assert (none.x, none.y) == ((200,), (0.5,)) and best.error_y.array == (0.125,)
    assert figure.layout.xaxis.title.text == "trained parameters (lowest: none)"
    assert "parameters: 133,758<br>test accuracy: 62.5%<extra>" in dear.hovertemplate
    assert "parameters: 0<br>" in none.hovertemplate and "75.0% ± 12.5%" in best.hovertemplate
    assert figure.layout.xaxis.type == "log" and figure.layout.yaxis.type is None


def test_lanes_are_as_wide_as_their_differences_and_the_probe_strikes_no_name():
    lanes = [Lane(name, "#888888", at, 0.01, "", []) for name, at in (("a", 0.62), ("b", 0.58))]
    figure = race.lanes([*lanes, Lane("c", "#888888", np.nan, 0, "", [])], 0.56, "t", "c")
    assert np.allclose(figure.layout.xaxis.range, (0.55 - 0.004, 0.65 + 0.004))
    assert [line.x0 for line in figure.layout.shapes] == [0.56] * 3
    assert [line.y1 for line in figure.layout.shapes] == [0.4, 1.4, 2.4]  # names are above 0.45
    assert figure.layout.annotations[-1].text == "linear probe 56.0%"
    for accuracy, low, high in ((1.0, 0.95, 1), (0.0, 0, 0.05), (np.nan, 0, 1)):
        x = race.lanes([Lane("a", "#888888", accuracy, 0, "", [])], None, "t", "c").layout.xaxis
        assert np.allclose(x.range, (1.04 * low - 0.04 * high, 1.04 * high - 0.04 * low))


def test_balance_stacks_to_one_and_counts_the_experts_at_work():
    shares = {"Top-k": [(0, [[0.5, 0.5], [0.25, 0.75]]), (7, [[1.0, 0.0], [0.5, 0.5]])]}
    figure = race.balance(shares)
    first, second = figure.data
    assert first.y == (0.5, 1, 0.25, 0.5, 0.5)  # the last one lasts until its layer ends
    assert [a + b for a, b in zip(first.y, second.y, strict=True)] == [1] * 5
    assert first.x0 + 2 * first.dx == 1  # the second layer
    assert figure.layout.xaxis.ticktext == ("layer 1<br>1.0", "layer 2<br>2.0")
    assert not race.balance({}).data
    many = race.balance({"Top-k": [(0, [[1 / 64] * 64])]})  # more than are drawn one by one
    assert many.layout.xaxis.ticktext == ("layer 1<br>64.0",)


def test_balance_shows_no_more_than_a_screen_does():
    course = [(step, [[0.5, 0.5]] * 128) for step in (0, 1)]
    figure = race.balance({f"method {k}": course for k in range(200)})
    assert len(figure.data) == 2 * race.MOST_ROWS
    assert len(figure.layout.xaxis.tickvals) == race.MOST_MIXTURES
    assert len(figure.layout.annotations) == race.MOST_ROWS


def test_confusion_counts_and_its_colours():
    [heat] = race.confusion(np.array([[3, 1], [0, 0]]), ["a", NASTY]).data
    assert np.array_equal(heat.z, [[-0.75, 0.25], [0, 0]])
    assert np.array_equal(heat.text, [["3", "1"], ["", ""]])
    assert unescape(heat.customdata[0][1]) == f"a taken for {NASTY}: 1 of 4"
    many = race.confusion(np.eye(50, dtype=int), [str(k) for k in range(50)])
    assert len(json.dumps(many.to_plotly_json())) < 200_000 and not many.data[0].texttemplate


def test_the_report_is_a_picture():
    words = {"heading": "H $1", "conclusion": "c"}
    costs = {"parameters": COSTS, "seconds": COSTS[1:]}
    data = race.report([PROBE, MOA], [PROBE, MOA], costs, **words, dpi=50)
    assert Image.open(io.BytesIO(data)).size == (550, 400)
