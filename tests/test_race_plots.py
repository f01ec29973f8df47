"""Figures of comparisons: well-formed, true to the numbers, cheap to update."""

import io
import json
import re
from xml.etree import ElementTree

import pytest
from gradio.utils import diff
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from softmoa import plots
from softmoa.plots import race
from softmoa.plots.race import Dot, Line, Style

NASTY = "<b>${1}`&'\""


def lines(points: int, count: int = 5) -> list[Line]:
    return [
        Line(f"Method {k}", Style.of(k), [(7 * i, 0.4 + 0.01 * k * i) for i in range(points)])
        for k in range(count)
    ]


def curves(points: int) -> list[str]:
    return plots.curves(lines(points), title="A", x_title="steps", x_end=400, percent=True)


def test_curves_are_well_formed_and_in_data_coordinates():
    nasty = [Line(NASTY, Style.of(0), [(0, 0.5), (10, 0.75)])]
    page = "".join(plots.curves(nasty, title=NASTY, x_title="x", x_end=10, percent=True))
    tree = ElementTree.fromstring(page)
    assert tree.find(".//polyline").get("points") == "0,0.5 10,0.75"
    label = tree.find(".//div[@class='race-labels']/span")
    assert label.text is None and label.get("hidden") is None
    assert "75.0 %" in page and NASTY not in page
    ElementTree.fromstring("".join(plots.curves([], title="", x_title="", x_end=1)))


def test_a_new_point_is_sent_alone():
    """200 updates of five growing curves, as the page is sent them, stay under 40 kB."""
    sent = len(json.dumps(curves(1)))
    for n in range(2, 42):
        before = lines(n - 1)
        for k in range(5):
            after = [*lines(n)[: k + 1], *before[k + 1 :]]
            old = plots.curves([*lines(n)[:k], *before[k:]], title="", x_title="", x_end=400)
            new = plots.curves(after, title="", x_title="", x_end=400)
            sent += len(json.dumps(diff(old, new)))
    assert sent < 40_000


def test_twelve_styles_are_distinct():
    assert len({(style.colour, style.dashed) for style in map(Style.of, range(12))}) == 12


@given(st.lists(st.floats(0, 1), max_size=13))
def test_labels_keep_their_order_and_distance(values):
    placed = race.spread_out(values, 0.075)
    gap = min(0.075, 1 / max(len(values) - 1, 1))
    ordered = sorted(placed)
    assert all(b - a >= gap - 1e-9 for a, b in zip(ordered, ordered[1:], strict=False))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in placed)
    for a, b in zip(values, values[1:], strict=False):
        i = values.index(a)
        j = values.index(b)
        assert (a <= b) == (placed[i] <= placed[j]) or a == b


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_the_range_of_fractions_holds_them(values):
    low, high = race.y_range(values, percent=True)
    assert 0 <= low <= min(values) + 1e-9 and max(values) - 1e-9 <= high <= 1
    assert high - low >= 0.3 - 1e-9


@given(st.lists(st.floats(0, 50), min_size=1, max_size=9))
def test_the_range_of_losses_holds_them(values):
    low, high = race.y_range(values, percent=False)
    assert 0 <= low <= min(values) + 1e-9 and max(values) - 1e-9 <= high and low < high


def test_a_trade_off_places_dots_on_a_logarithmic_axis():
    dots = [
        Dot("none", Style.of(0), 0, 0.5),
        Dot("small", Style.of(1), 1_000, 0.6, 0.1),
        Dot(NASTY, Style.of(2), 100_000, 0.7),
    ]
    page = plots.trade_off(dots, title="T", x_title="x")
    tree = ElementTree.fromstring(page)
    drawn = [i for i in tree.iter("i") if "race-dot" in i.get("class", "")]
    left = [float(re.search(r"left:([\d.]+)%", i.get("style"))[1]) for i in drawn]
    assert left[0] < left[1] < left[2] and left[2] == pytest.approx(98)
    assert "60.0 %" in page and "1,000" in page
    assert plots.trade_off([], title="", x_title="") == ""


def test_balance_stacks_to_one():
    shares = {"Top-k": [(0, [[0.25, 0.75]]), (7, [[1.0, 0.0]])]}
    page = "".join(plots.balance(shares, title="B", note="n", x_end=14))
    tree = ElementTree.fromstring(page)
    assert [path.get("d") for path in tree.iter("path")] == [
        "M0 0V1M7 0V1",  # the second expert, which the first one covers from below
        "M0 0V0.25M7 0V1",
    ]
    assert "largest 100 %" in page
    assert plots.balance({}, title="", note="", x_end=1) == []


def test_confusion_counts_are_shown():
    page = plots.confusion_table([[3, 1], [0, 0]], ["a", NASTY], title="C", note="n")
    cells = [cell.text for cell in ElementTree.fromstring(page).findall(".//tbody//td")]
    assert cells == ["3", "1", None, None] and "--v:0.75" in page


def test_the_report_is_a_picture():
    dots = [Dot("none", Style.of(0), 0, 0.5), Dot("$x", Style.of(7), 1_000, 0.6, 0.1)]
    data = plots.race_report(
        lines(3), lines(3), dots, dots, heading="H $1", conclusion="c", x_title="steps", dpi=50
    )
    assert Image.open(io.BytesIO(data)).size == (550, 400)
