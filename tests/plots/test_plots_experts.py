"""Figures of the Experts tab: every number and colour where it belongs."""

import numpy as np
import pytest

from softmoa.lens.contribution import PatchGrid
from softmoa.plots import experts as plots

GRID = PatchGrid(8, 6)
ROWS = ["Layer 1", "Layer 2"]
VALUES = np.array([[-0.4, 0.0, 0.2], [0.1, -0.1, 0.4]])


def test_cells_have_signs_marks_and_a_scale_symmetric_about_zero():
    marks = VALUES < -0.3
    drawn = plots.layers(VALUES, rows=ROWS, unit="logit", signed=-1, marks=marks, chosen=(1, 2))
    (cells,) = drawn.data
    assert cells.text[0] == ["-0.40 *", "+0.00", "+0.20"]
    assert (cells.zmin, cells.zmax, cells.reversescale) == (-0.4, 0.4, True)
    frame = drawn.layout.shapes[0]
    assert frame.x0 < 2 < frame.x1 and frame.y0 < 1 < frame.y1
    share = plots.layers(np.array([[0.25, 0.75]]), rows=["L"], unit="", percent=True)
    assert share.data[0].text[0] == ["25%", "75%"] and share.data[0].zmin == 0
    assert plots.layers(np.zeros((2, 3)), rows=ROWS, unit="", signed=1).data[0].zmax == 1


@pytest.mark.parametrize("scale, shown", [(1, "0.40"), (0.01, "0.0040"), (100, "40.00")])
def test_numbers_have_the_decimals_the_largest_needs(scale, shown):
    drawn = plots.layers(scale * np.abs(VALUES), rows=ROWS, unit="")
    assert drawn.data[0].text[0][0] == shown


def test_answers_show_the_likeliest_of_both_states_and_the_class_asked_for():
    before, after = [0.8, 0.15, 0.03, 0.02], [0.17, 0.05, 0.75, 0.03]
    logits = np.log([before, after])
    names = ("intact", "changed")
    drawn = plots.answers("abcd", before, after, logits=logits, names=names, shown=2, target=3)
    intact, changed = drawn.data
    assert intact.y == ("a", "d") and intact.x == pytest.approx([0.8, 0.02])
    assert changed.x == pytest.approx([0.17, 0.03])
    assert changed.customdata[0] == pytest.approx([np.log(0.17), np.log(0.17 / 0.8)])
    both = plots.answers("abcd", before, after, logits=logits, names=names, shown=2)
    assert both.data[0].y == ("a", "c")


def test_patches_lie_where_their_sound_is():
    mel, values = np.zeros((104, 128)), np.arange(48).reshape(8, 6) - 20
    drawn = plots.spectrograms({"": mel}, values, GRID, unit="logit", signed=True)
    (cells,) = drawn.data
    assert cells.x[:2] == pytest.approx([0.08, 0.24]) and cells.y[0] == 8  # centres: s, mel bin
    assert cells.customdata[0][0] == pytest.approx(sum(GRID.hertz(0)) / 2, rel=1e-4)
    assert np.array_equal(cells.z, values) and (cells.zmin, cells.zmax) == (-27, 27)
    (image,) = drawn.layout.images
    assert (image.x, image.y, image.sizex, image.sizey) == (0, 128, 1.04, 128)
    three = plots.spectrograms(dict.fromkeys("abc", mel), values, GRID, unit="%", tint=False)
    assert [title.text for title in three.layout.annotations] == ["a", "b", "c"]
    assert {trace.opacity for trace in three.data} == {0}


def test_a_long_sound_is_a_small_figure():
    mel = np.random.default_rng(0).normal(size=(3000, 128))
    drawn = plots.spectrograms({"": mel}, np.ones((8, 187)), PatchGrid(8, 187), unit="logit")
    assert len(drawn.to_json()) < 60_000


def test_shares_stand_below_each_other_an_expert_in_one_colour():
    even, top = np.full(4, 0.25), np.array([0.5, 0.3, 0.2, 0.0])
    drawn = plots.shares({"even": {"Layer 1": even, "Layer 2": top}, "top": {"Layer 1": top}})
    assert [title.text for title in drawn.layout.annotations] == ["even", "top"]
    assert np.array([trace.x for trace in drawn.data[:4]]).T == pytest.approx(np.array([even, top]))
    assert len({trace.marker.color for trace in drawn.data}) == 4
    assert sum(trace.showlegend for trace in drawn.data) == 4
