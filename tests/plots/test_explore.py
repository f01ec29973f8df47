"""Figures of the Explore tab: they hold the numbers they are given."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from softmoa.plots import explore
from softmoa.plots.report import report_png

RNG = np.random.default_rng(0)
HOSTILE = '</b><script>alert("x")</script> $\\frac{$'


def test_contributions_hold_their_numbers_and_stay_small():
    shares = torch.rand(6, 7).softmax(dim=1)
    names = [f"Layer {k + 1}" for k in range(6)]
    drawn = explore.contributions(shares, share=shares, overall=shares.mean(0), layers=names)
    assert len(drawn.data) == 7 and len(drawn.to_json()) < 60_000
    third = drawn.data[2]
    assert list(third.y) == ["All layers", *names]
    assert list(third.x[1:]) == pytest.approx(shares[:, 2].tolist())
    assert f"E3, Layer 5<br>contribution {shares[4, 2]:.2%}" in third.customdata[5]


def test_over_time_shows_one_place_at_a_time():
    shares = RNG.dirichlet(np.ones(7), (6, 11))
    spans = [(2.5 * k, 2.5 * k + 2.5) for k in range(11)]
    drawn = explore.over_time(
        RNG.random((11, 6)),
        shares,
        labels=list("abcdef"),
        places=[f"Layer {k + 1}" for k in range(6)],
        spans=spans,
        seconds=27.6,
    )
    assert len(drawn.to_json()) < 60_000
    assert [trace.visible for trace in drawn.data[1:]] == [True] * 7 + [False] * 35
    menu = drawn.layout.updatemenus[0].buttons[3]
    shown = [k for k, on in enumerate(menu.args[0]["visible"]) if on]
    assert menu.label == "Layer 4" and shown == [0, *range(22, 29)]
    assert list(drawn.data[22].y) == pytest.approx(shares[3, :, 0])
    assert drawn.layout.xaxis.range == drawn.layout.xaxis2.range == (0, 27.6)
    assert drawn.data[0].x[-1] == 27.5 and drawn.data[1].width[0] == 2.5


@pytest.mark.parametrize(("n", "seconds"), [(1, None), (7, 1.2)])
def test_the_report_is_a_png(n, seconds):
    shares = torch.rand(2, n).softmax(dim=1)
    shares[1] = 0  # experts that add nothing
    data = report_png(
        RNG.normal(size=(160, 128)), np.zeros((n, 8, 10)), cells=(16, 16, 16), titles=["E$1"] * n,
        unit="weight", contribution=shares, share=shares, overall=shares.mean(0),
        layers=["Layer 1", "Layer 2"], heading=HOSTILE, seconds=seconds, dpi=40,
    )  # fmt: skip
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG" and image.width == 400
    assert np.asarray(image.convert("L")).std() > 20


def test_what_flows_from_the_sound_to_the_labels_adds_up():
    read, added = RNG.dirichlet(np.ones(4), 3), np.array([[1.5, -0.5], [0.25, 0], [-2.0, 1.0]])
    drawn = explore.flow(
        read, added, sources=list("abcd"), names=["E1", "E2", "E3"], labels=["dog", HOSTILE]
    )
    link, node = drawn.data[0].link, drawn.data[0].node
    flows = dict(zip(zip(link.source, link.target, strict=True), link.value, strict=True))
    for j in range(3):
        into = sum(width for (_, end), width in flows.items() if end == 4 + j)
        out = sum(width for (start, _), width in flows.items() if start == 4 + j)
        assert into == pytest.approx(out) and out == pytest.approx(np.abs(added[j]).sum())
        assert flows[1, 4 + j] == pytest.approx(read[j, 1] * np.abs(added[j]).sum())
    assert (5, 8) not in flows  # adds nothing
    assert all(sorted(part) == list(part) for part in (node.y[:4], node.y[4:7], node.y[7:]))
    sizes, scale = np.abs(added).sum(axis=1), 0.94 / np.abs(added).sum()  # the gaps take the rest
    assert (np.diff(node.y[4:7]) > (sizes[1:] + sizes[:-1]) / 2 * 0.9 * scale).all()
    signs = dict(zip(zip(link.source, link.target, strict=True), link.color, strict=True))
    assert signs[4, 7] == signs[6, 8] == explore.FOR
    assert signs[4, 8] == signs[6, 7] == explore.AGAINST
    assert node.customdata[7] == "dog: -0.2500 in all"
    assert "E3: -2.0000 on the logit of dog" in link.customdata
    assert f"E1 reads {read[0, 2]:.1%} from c" in link.customdata


def test_only_the_largest_of_many_experts_are_named():
    added = np.linspace(0.1, 3, 30)[:, None]
    names = [f"layer {k // 5 + 1} E{k % 5 + 1}" for k in range(30)]
    drawn = explore.flow(np.ones((30, 1)), added, sources=["all"], names=names, labels=["dog"])
    assert [x for x in drawn.data[0].node.label[1:-1] if x] == names[-12:]
