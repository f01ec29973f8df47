"""Windows, and timelines against known answers."""

import pytest
import torch

from softmoa.data.audio import load
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.lens.timeline import Timeline, timeline, window_starts
from softmoa.model.recording import expert_share
from softmoa.model.weights import ASSETS

EXAMPLES = ASSETS / "examples"
RATE = 16_000


@pytest.mark.parametrize(
    "samples, starts",
    [(10, [0]), (7, [0]), (20, [0, 5, 10]), (22, [0, 5, 10, 12]), (11, [0, 1])],
)
def test_windows_cover_the_sound_and_end_with_it(samples, starts):
    assert window_starts(samples, 10, 5) == starts


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
