"""Windows, and timelines against known answers."""

import pytest
import torch

from softmoa.data.audio import load
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.lens.timeline import Timeline, timeline, windows
from softmoa.model.recording import expert_share
from softmoa.model.weights import ASSETS

EXAMPLES = ASSETS / "examples"
RATE = 16_000


@pytest.mark.parametrize("piece", [1, 4, 50])
@pytest.mark.parametrize(
    "samples, starts", [(10, [0]), (7, [0]), (20, [0, 5, 10]), (22, [0, 5, 10, 12]), (11, [0, 1])]
)
def test_windows_cover_the_sound_and_end_with_it(samples, starts, piece):
    sound = torch.arange(samples)
    found = dict(windows(sound.split(piece), 10, 5))
    assert list(found) == starts
    assert all(torch.equal(w, sound[start : start + 10]) for start, w in found.items())


def test_windows_side_by_side_leave_nothing_out():
    found = dict(windows(torch.arange(25).split(3), 10, 10))
    assert list(found) == [0, 10, 15]
    assert list(dict(windows(torch.arange(20).split(7), 10, 10))) == [0, 10]


def test_neighbours_of_one_headline_are_one_stretch():
    nothing = torch.zeros(0, 3, 0)
    line = Timeline((0.0, 5.0, 10.0), 5.0, torch.zeros(3, 2), (), nothing, ("dog", "dog", "rain"))
    assert line.stretches == [(0.0, 10.0, "dog"), (10.0, 15.0, "rain")]


def test_a_coarser_timeline_keeps_what_is_loudest():
    heard = torch.tensor([[0.1, 0.2], [0.9, 0.1], [0.3, 0.4], [0.0, 0.8]])
    line = Timeline((0.0, 1.0, 2.0, 3.0), 1.0, heard, ((0, "ffn"),), torch.eye(4)[None])
    half = line.coarser(2)
    assert half.spans == [(0.0, 2.0), (2.0, 4.0)] and line.coarser(4) is line
    assert torch.equal(half.probabilities, torch.tensor([[0.9, 0.2], [0.3, 0.8]]))
    assert torch.equal(half.shares[0], torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]))


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
