"""Masks and warps of log-mels: none, known ones, and what a warp does to a tone."""

import pytest
import torch

from softmoa.audio import log_mel
from softmoa.augment import NONE, Augmentation, mask, warp


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bumps(frames: int = 200) -> torch.Tensor:
    """One bump at frame 50 and mel 40."""
    frame, mel = torch.arange(frames)[:, None], torch.arange(128)[None]
    return torch.exp(-((frame - 50.0) ** 2) / 200 - (mel - 40.0) ** 2 / 60)


def peak(mel: torch.Tensor) -> tuple[int, int]:
    frame, band = divmod(int(mel.argmax()), mel.shape[1])
    return frame, band


def test_nothing_is_changed_or_drawn_without_augmentation():
    mel, generator = torch.randn(2, 50, 128, generator=seeded()), seeded()
    before = generator.get_state()
    assert mask(mel, NONE, generator) is mel and warp(mel[0], NONE, generator).equal(mel[0])
    assert generator.get_state().equal(before)


def test_a_warp_moves_both_axes_by_what_it_drew():
    few = Augmentation(0, 0, warp_mels=0.3, warp_frames=0.5)
    seen = set()
    for seed in range(20):
        draw = 2 * torch.rand(2, generator=seeded(seed)) - 1
        pitch, tempo = 2 ** (draw * torch.tensor([0.3, 0.5]))
        warped = warp(bumps(), few, seeded(seed))
        assert warped.shape == (round(200 * tempo.item()), 128)
        frame, band = peak(warped)
        # Pixel centres lie half a step beyond their index.
        assert frame == pytest.approx(50.5 * tempo - 0.5, abs=1)
        assert band == pytest.approx(40.5 / pitch - 0.5, abs=1)
        seen.add(len(warped))
    assert len(seen) > 15  # a draw of its own for every clip
    assert 200 * 2**-0.5 <= min(seen) < 170 and 240 < max(seen) <= 200 * 2**0.5


def test_one_axis_alone():
    longer = warp(bumps(), Augmentation(0, 0, warp_frames=0.5), seeded(1))
    assert len(longer) != 200 and peak(longer)[1] == 40
    higher = warp(bumps(), Augmentation(0, 0, warp_mels=0.5), seeded(1))
    assert len(higher) == 200 and peak(higher)[0] == 50 and peak(higher)[1] != 40


def test_a_warped_tone_is_about_another_tone():
    """Of a steady tone the mels of the warp are those of a tone of another pitch."""
    seconds = torch.arange(16_000) / 16_000
    tone = log_mel(torch.sin(2 * torch.pi * 1000 * seconds) * 0.1)
    band = tone.mean(dim=0).argmax()
    for seed in range(5):
        warped = warp(tone, Augmentation(0, 0, warp_mels=0.2), seeded(seed))
        pitch = 2 ** ((2 * torch.rand(2, generator=seeded(seed)) - 1)[0] * 0.2)
        assert warped.mean(dim=0).argmax() == pytest.approx((band + 0.5) / pitch - 0.5, abs=1)


def test_masks_hide_one_band_of_each_axis_within_their_widths():
    mel = torch.ones(30, 100, 128)
    hidden = mask(mel, Augmentation(24, 80), seeded()) == 0
    bands, frames = hidden.all(dim=1).sum(dim=1), hidden.all(dim=2).sum(dim=1)
    assert bands.max() < 24 and bands.float().mean() > 6  # uniform up to the width
    assert frames.max() <= 20 and frames.float().mean() > 4  # a fifth of the frames
    assert len(set(bands.tolist())) > 8  # each clip has its own


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="warp_mels must be 0 or more, not -0.1"):
        Augmentation(warp_mels=-0.1)
