"""Windows, timelines and their figures against known answers."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from softmoa.audio import load
from softmoa.classify import classify, open_classifier
from softmoa.contribution import expert_share
from softmoa.plots import timeline as drawn
from softmoa.timeline import Timeline, timeline, window_starts
from softmoa.weights import ASSETS

EXAMPLES = ASSETS / "examples"
RATE = 16_000


@pytest.mark.parametrize(
    "samples, window, hop, starts",
    [
        (10, 10, 5, [0]),
        (7, 10, 5, [0]),
        (20, 10, 5, [0, 5, 10]),
        (22, 10, 5, [0, 5, 10, 12]),
        (11, 10, 5, [0, 1]),
    ],
)
def test_windows_cover_the_sound_and_end_with_it(samples, window, hop, starts):
    assert window_starts(samples, window, hop) == starts


def test_spans_meet_halfway_between_centres():
    line = Timeline((0.0, 2.5, 5.0, 6.0), 5.0, torch.zeros(4, 2), (), torch.zeros(0, 4, 0))
    assert line.spans == [(0.0, 3.75), (3.75, 6.25), (6.25, 8.0), (8.0, 11.0)]


@pytest.fixture(scope="module")
def dog_and_rain():
    """A bark looped for 5 s, then 10 s of rain."""
    dog, rain = (load(EXAMPLES / f"{name}.ogg").waveform for name in ("dog_bark", "rain"))
    return torch.cat([dog.repeat(4)[: 5 * RATE], rain.repeat(4)[: 10 * RATE]])


def test_every_window_is_the_clip_that_it_is(dog_and_rain):
    classifier = open_classifier()
    line = timeline(classifier, dog_and_rain)
    assert line.starts == (0.0, 2.5, 5.0, 7.5, 10.0) and line.window == 5
    for k in (0, 3, 4):
        start = int(line.starts[k] * RATE)
        alone = classify(classifier, (RATE, dog_and_rain[start : start + 5 * RATE].numpy()))
        assert torch.allclose(line.probabilities[k], alone.probabilities, atol=2e-3)
        for row, record in enumerate(alone.records):
            assert line.places[row] == (record.layer, record.site)
            assert torch.allclose(line.shares[row, k], expert_share(record)[0], atol=2e-3)
    assert torch.allclose(line.shares.sum(dim=-1), torch.ones(line.shares.shape[:2]), atol=1e-5)


def test_the_labels_follow_the_sound(dog_and_rain):
    classifier = open_classifier("esc10-soft-moa")
    line = timeline(classifier, dog_and_rain)
    best = [classifier.labels[i] for i in line.probabilities.argmax(dim=1).tolist()]
    assert best[0] == "dog bark" and best[-1] == "rain"
    assert {classifier.labels[i] for i in line.top(2)} == {"dog bark", "rain"}


def test_a_short_sound_is_one_window():
    line = timeline(open_classifier(), torch.zeros(2 * RATE))
    assert line.starts == (0.0,) and line.window == 2 and line.spans == [(0.0, 2.0)]


def test_label_lanes_tint_each_cell_by_its_probability_and_frame_the_best():
    values = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    html = drawn.label_lanes(values, labels=["<dog>", "rain"], spans=[(0, 4), (4, 6), (6, 10)])
    tree = ElementTree.fromstring(html)
    cells = [e for e in tree.iter("i") if "--a" in e.get("style", "")]
    alphas = [float(e.get("style").removeprefix("--a:")) for e in cells]
    assert alphas == [0.9, 0.2, 0.4, 0.1, 0.8, 0.6]
    assert [e.get("class") for e in cells] == ["moa-first", None, None, None, *["moa-first"] * 2]
    assert cells[1].get("title") == "4.0–6.0 s, <dog>: 20.0 %"
    assert "4.000fr 2.000fr 4.000fr" in html
    assert [e.get("data-seconds") for e in tree.iter() if e.get("data-seconds")] == ["10"]


def test_share_lanes_stack_to_the_whole():
    html = drawn.share_lanes([[0.25, 0.75], [0.5, 0.5]], spans=[(0, 4), (4, 10)], title="t")
    boxes = [
        tuple(float(v) for v in box)
        for box in re.findall(r"<rect x='(.+?)' y='(.+?)' width='(.+?)' height='(.+?)'", html)
    ]
    assert boxes == [(0, 75, 4, 25), (0, 0, 4, 75), (4, 50, 6, 50), (4, 0, 6, 50)]
