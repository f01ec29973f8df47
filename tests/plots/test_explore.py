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


@pytest.mark.parametrize("n", [1, 7])
def test_the_report_is_a_png(n):
    shares = torch.rand(2, n).softmax(dim=1)
    shares[1] = 0  # experts that add nothing
    data = report_png(
        RNG.normal(size=(160, 128)), np.zeros((n, 8, 10)), cells=(16, 16, 16), titles=["E$1"] * n,
        unit="weight", contribution=shares, overall=shares.mean(0),
        layers=["Layer 1", "Layer 2"], heading=HOSTILE, std=4.57, dpi=40,
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
