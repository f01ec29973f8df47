"""Planted sounds and favourites: where they are is known, so who points there is, too."""

import math

import pytest
import torch

from softmoa.data.audio import SAMPLE_RATE, log_mel
from softmoa.lens.classifier import open_classifier
from softmoa.lens.contribution import PatchGrid
from softmoa.lens.export import weights_of
from softmoa.lens.planted import Planted, plant, pointing, scores
from softmoa.lens.run import run
from softmoa.model.ast import ASTConfig

TIME = torch.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
NOISE = 0.05 * torch.randn(2 * SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
BEEP = 0.3 * torch.sin(2 * math.pi * 1000 * TIME[: SAMPLE_RATE // 2])


@pytest.fixture(scope="module")
def classifier():
    return open_classifier("instruments-soft-moa")


@pytest.fixture(scope="module")
def grid(classifier):
    return PatchGrid.of(classifier.model.config, len(log_mel(NOISE)))


def test_a_beep_is_heard_where_it_was_planted(grid):
    found = plant(NOISE, BEEP, at=1.0, level=0, grid=grid)
    assert found.area.shape == (grid.bands, grid.columns)
    for band, column in found.area.nonzero().tolist():
        (start, end), (low, high) = grid.seconds(column), grid.hertz(band)
        assert start < 1.55 and end > 0.95 and low < 1100 and high > 900
    assert found.area.sum() >= 3  # it lasts three columns
    added = (found.mixed - found.host).square().mean().sqrt()
    half = (found.host.square().mean() * len(BEEP) / len(NOISE)).sqrt()
    assert added.item() == pytest.approx(half.item(), rel=0.01)  # as loud as the noise
    assert plant(NOISE, BEEP, 1.0, -60, grid).area.sum() == 0
    overlapping = PatchGrid.of(ASTConfig(stride_time=10, stride_frequency=10), len(log_mel(NOISE)))
    area = plant(NOISE, BEEP, 1.0, 0, overlapping).area
    assert area.shape == (overlapping.bands, overlapping.columns)


def test_the_best_expert_and_the_best_before(classifier, grid):
    found = plant(NOISE, BEEP, at=1.0, level=10, grid=grid)
    records = run(classifier, [log_mel(found.mixed)]).records
    points = pointing(classifier, found, grid)
    inside = found.area
    weights = grid.unfold(weights_of(records[points.row])[0].sum(dim=1))[points.expert]
    pairs = weights[inside][:, None] - weights[~inside]
    assert points.score == pytest.approx((pairs > 0).float().mean().item(), abs=1e-3)
    every = scores(records, inside, grid)
    assert every.max().item() == pytest.approx(points.score) and every.min() < points.score
    assert 0.5 < points.before < 1
    nowhere = Planted(found.host, found.mixed, torch.zeros_like(inside))
    assert math.isnan(pointing(classifier, nowhere, grid).score)
