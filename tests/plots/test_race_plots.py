"""Figures of comparisons: true to the numbers."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from softmoa.plots import race
from softmoa.plots.race import Cost, Curve

NASTY = "<b>${1}`&'\""
PROBE = Curve("Probe", "#888888", *(np.array(v) for v in ([0, 5], [0.5, 0.5], [0, 0])), "dot")
MOA = Curve("MoA", "#cc6677", *(np.array(v) for v in ([0, 5], [0.5, 0.75], [0, 0.1])))


def test_balance_stacks_to_one_and_counts_the_experts_at_work():
    shares = {"Top-k": [(0, [[0.5, 0.5], [0.25, 0.75]]), (7, [[1.0, 0.0], [0.5, 0.5]])]}
    figure = race.balance(shares)
    first, second = figure.data
    assert first.y == (0.5, 1, None, 0.25, 0.5, None)
    assert [a + b for a, b in zip(first.y, second.y, strict=True) if a is not None] == [1] * 4
    assert first.x0 + 3 * first.dx == pytest.approx(1 + first.x0)  # the second layer
    assert figure.layout.xaxis.ticktext == ("layer 1<br>1.0", "layer 2<br>2.0")
    assert not race.balance({}).data


def test_confusion_counts_and_its_colours():
    [heat] = race.confusion(np.array([[3, 1], [0, 0]]), ["a", NASTY]).data
    assert np.array_equal(heat.z, [[-0.75, 0.25], [0, 0]])
    assert np.array_equal(heat.text, [["3", "1"], ["", ""]])
    assert heat.customdata[0][1] == f"a taken for {NASTY}: 1 of 4"
    many = race.confusion(np.eye(50, dtype=int), [str(k) for k in range(50)])
    assert len(json.dumps(many.to_plotly_json())) < 200_000 and not many.data[0].texttemplate


def test_the_report_is_a_picture():
    costs = [Cost("none", "#888888", 0.5, 0, 0, 0.1), Cost("$x", "#cc6677", 0.6, 0.1, 1000, 10)]
    words = {"heading": "H $1", "conclusion": "c"}
    data = race.report([PROBE, MOA], [PROBE, MOA], costs, **words, dpi=50)
    assert Image.open(io.BytesIO(data)).size == (550, 400)
