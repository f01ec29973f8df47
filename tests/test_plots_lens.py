"""Figures of the expert lens: well-formed, and every number and colour where it belongs."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from softmoa.contribution import PatchGrid
from softmoa.plots import lens, shares
from softmoa.plots.scales import ink

GRID = PatchGrid(8, 6)
MEL = np.random.default_rng(0).normal(size=(96, 128))
ROWS = ["Layer 1", "Layer 2"]
VALUES = np.array([[-0.4, 0.0, 0.2], [0.1, -0.1, 0.4]])


def tree(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html)


def cell(html: str, row: int, expert: int) -> ElementTree.Element:
    (found,) = tree(html).findall(f".//button[@data-layer='{row}'][@data-expert='{expert}']")
    return found


def colour(button: ElementTree.Element) -> tuple[int, ...]:
    code = re.search(r"--c:#(\w{6})", button.get("style"))[1]
    return tuple(int(code[i : i + 2], 16) for i in (0, 2, 4))


def test_a_map_has_a_signed_number_and_a_colour_for_every_expert():
    html = lens.expert_map(VALUES, rows=ROWS, title="T <b>", unit="logit", diverging=True)
    assert [cell(html, 0, j).text for j in range(3)] == ["\u22120.40", "0", "+0.20"]
    against, none, toward = (colour(cell(html, *at)) for at in ((0, 0), (0, 1), (1, 2)))
    assert against[0] > against[2] and toward[2] > toward[0]  # orange, blue
    assert min(none) > 240
    flipped = lens.expert_map(VALUES, rows=ROWS, title="", unit="logit", diverging=True, flip=True)
    assert colour(cell(flipped, 0, 0)) == toward and colour(cell(flipped, 1, 2)) == against
    assert "T &lt;b&gt;" in html and "\u22120.40" in html


def test_the_colours_are_one_scale_symmetric_about_zero():
    doubled = lens.expert_map(2 * VALUES, rows=ROWS, title="", unit="", diverging=True)
    single = lens.expert_map(VALUES, rows=ROWS, title="", unit="", diverging=True)
    for row in range(2):
        for j in range(3):
            assert colour(cell(doubled, row, j)) == colour(cell(single, row, j))
    assert colour(cell(single, 1, 0)) != colour(cell(single, 1, 1))


@pytest.mark.parametrize("scale, shown", [(1, "0.40"), (0.01, "0.0040"), (100, "40.00")])
def test_numbers_have_the_decimals_the_largest_needs(scale, shown):
    html = lens.expert_map(scale * np.abs(VALUES), rows=ROWS, title="", unit="")
    assert cell(html, 0, 0).text == shown


def test_marks_sums_shares_and_the_chosen_one():
    marks = np.array([[False, True, False], [False] * 3])
    html = lens.expert_map(
        VALUES, rows=ROWS, title="", unit="", sums=True, marks=marks, mark="another label",
        selected=(1, 2), diverging=True,
    )  # fmt: skip
    sums = [e.text for e in tree(html).iter("span") if "moa-sumcell" in e.get("class", "")]
    assert sums == ["\u22120.20", "+0.40"]
    assert "another label" in cell(html, 0, 1).get("title")
    assert "another label" not in cell(html, 0, 0).get("title")
    assert [cell(html, *at).get("aria-pressed") for at in ((1, 2), (0, 0))] == ["true", "false"]
    share = lens.expert_map(np.array([[0.25, 0.75]]), rows=["L"], title="", unit="", percent=True)
    assert [cell(share, 0, j).text for j in (0, 1)] == ["25%", "75%"]


def test_zeros_everywhere_are_drawn():
    html = lens.expert_map(np.zeros((2, 3)), rows=ROWS, title="", unit="", diverging=True)
    assert {cell(html, row, j).text for row in (0, 1) for j in range(3)} == {"0"}


def test_a_signed_overlay_says_its_sums():
    values = np.zeros((8, 6))
    values[1, 2], values[3, 4] = 0.5, -0.2
    html = lens.signed_overlay(
        MEL, values, GRID, title="T", unit="logit", ends=("against", "for"), special=(0.1, -0.05)
    )
    note = "".join(tree(html).find(".//p[@class='moa-note']").itertext())
    assert "Patches +0.3," in note and "together +0.35" in note
    titles = [e.get("title") for e in tree(html).iter("i") if e.get("title")]
    assert len(titles) == 48 and sum(t.endswith(": +0.5") for t in titles) == 1


def test_an_outcome_shows_both_logits_and_their_difference():
    html = lens.outcome(
        [3.0, 1.0, 0.5], [1.0, 2.5, 0.5], labels=["dog", "<cat>", "owl"],
        before=[0.8, 0.15, 0.05], after=[0.17, 0.75, 0.08], title="T", names=("intact", "changed"),
        target=2, shown=2,
    )  # fmt: skip
    page = tree(html)
    verdict = "".join(page.find(".//p[@class='moa-verdict']").itertext())
    assert verdict == "The label changes from dog to <cat>: 80.0 % → 75.0 %."
    rows = {row.get("data-class"): [td.text for td in row] for row in page.iter("tr")}
    assert rows["0"][:4] == ["dog", "3.000", "1.000", "\u22122.000"]
    assert "2" in rows and "1" not in rows  # the class asked for is always there
    same = lens.outcome(
        [1.0, 0], [1.0, 0], labels=["a", "b"], before=[0.7, 0.3], after=[0.7, 0.3], title="",
        names=("x", "y"),
    )  # fmt: skip
    assert "The label stays" in same and "0.000" in same


def test_switches_say_their_state():
    html = lens.switches(
        [[True, False], [True, True]],
        rows=ROWS,
        settings=[{"dispatch": "uniform", "combine": "learned"}, {"combine": "learned"}],
        choices={"dispatch": ("learned", "uniform"), "combine": ("learned", "uniform")},
        title="T",
        note="n",
    )
    page = tree(html)
    states = {
        (b.get("data-layer"), b.get("data-expert")): b.get("aria-pressed")
        for b in page.iter("button")
    }
    assert states["0", "1"] == "false" and states["0", "0"] == states["1", "1"] == "true"
    assert ("all", "1") in states and ("1", "all") in states
    chosen = {
        (s.get("data-layer"), s.get("data-set")): [o.text for o in s if o.get("selected") == ""]
        for s in page.iter("select")
    }
    assert chosen["0", "dispatch"] == ["uniform"] and ("1", "dispatch") not in chosen
    assert chosen["all", "combine"] == ["combine learned"]


def test_shares_stand_on_one_scale():
    html = shares.share_charts(
        {"even": [np.full(4, 0.25)], "top": [np.array([0.5, 0.3, 0.2, 0.0])], "none": [None]},
        rows=["Layer 1"],
        title="T",
        unit="share",
    )
    charts = [e for e in tree(html).iter("div") if e.get("class") == "moa-chart"]
    heights = [
        [float(re.search(r"height:([\d.]+)%", bar.get("style"))[1]) for bar in chart.iter("i")]
        for chart in charts
    ]
    assert heights == [[50, 50, 50, 50], [100, 60, 40, 0]]
    assert all("bottom:50.00%" in chart.find("s").get("style") for chart in charts)
    assert "no mixture" in html and "0 to 50 %" in html


def test_text_on_a_colour_can_be_read():
    """Black or white has at least sqrt(21) = 4.58 : 1 with any colour (WCAG 2)."""
    for rgb in np.random.default_rng(0).integers(0, 256, (500, 3)):
        part = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb / 255]
        luminance = 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2]
        contrast = {"#000": (luminance + 0.05) / 0.05, "#fff": 1.05 / (luminance + 0.05)}
        assert contrast[ink(rgb)] > 4.57
