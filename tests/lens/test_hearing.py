"""What a mask keeps can be heard and what it removes cannot."""

import math

import pytest
import sounds
import torch

from softmoa.data.audio import frames_in
from softmoa.lens.contribution import PatchGrid, mel_edges
from softmoa.lens.hearing import as_loud, hear

RATE = 16_000


def grid_of(samples: int, stride: int = 16) -> PatchGrid:
    columns = (frames_in(samples) - 16) // stride + 1
    return PatchGrid((128 - 16) // stride + 1, columns, 16, stride, stride)


def tone(hertz: float, seconds: float = 2.0) -> torch.Tensor:
    return torch.from_numpy(sounds.tone(hertz, seconds=seconds)).float()


def decibels(x: torch.Tensor, reference: torch.Tensor) -> float:
    return 10 * math.log10(x.square().sum().item() / reference.square().sum().item() + 1e-30)


def picture_of(grid: PatchGrid, *, bands=slice(None), columns=slice(None)) -> torch.Tensor:
    picture = torch.zeros(grid.bands, grid.columns)
    picture[bands, columns] = 1
    return picture


@pytest.mark.parametrize("samples", [1, 300, 16_001])
@pytest.mark.parametrize("stride", [16, 10])
def test_a_mask_of_ones_gives_back_the_sound(samples, stride):
    torch.manual_seed(0)
    sound, grid = torch.rand(samples) - 0.5, grid_of(samples, stride)
    heard = hear(sound, picture_of(grid), grid)
    assert heard.shape == sound.shape and (heard - sound).abs().max() < 1e-5
    assert as_loud(heard, sound)[1:] == pytest.approx((0, 0), abs=1e-4)


@pytest.mark.parametrize("band", [0, 3, 7])
def test_a_mask_over_a_tones_band_keeps_it_and_its_complement_removes_it(band):
    grid = grid_of(2 * RATE)
    sound = tone(mel_edges()[16 * band + 8])
    keep = picture_of(grid, bands=band)
    kept, lost = hear(sound, keep, grid), hear(sound, 1 - keep, grid)
    assert abs(decibels(kept, sound)) < 1
    assert decibels(lost, sound) < -20
    middle = slice(RATE // 4, -RATE // 4)  # the ends of a tone are clicks of all frequencies
    assert decibels(lost[middle], sound[middle]) < -60


def test_a_mask_in_time_keeps_its_columns():
    sound = 0.5 * torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0))
    grid = grid_of(len(sound))
    kept = hear(sound, picture_of(grid, columns=slice(4, 8)), grid)
    start, end = (round(RATE * s) for s in (grid.seconds(4)[0], grid.seconds(7)[1]))
    edge = RATE // 20
    inside = slice(start + edge, end - edge)
    assert decibels(kept[inside] - sound[inside], sound[inside]) < -60
    assert kept[: start - edge].abs().max() < 1e-6 and kept[end + edge :].abs().max() < 1e-6


def test_silence_stays_silent():
    grid = grid_of(RATE)
    for sound, picture in (
        (torch.zeros(RATE), picture_of(grid)),
        (tone(440, 1.0), torch.zeros(grid.bands, grid.columns)),
    ):
        raised = as_loud(hear(sound, picture, grid), sound)
        assert raised.waveform.abs().max() == 0 and raised.gain == 0
        assert raised.short == (math.inf if sound.any() else 0)
