"""Hear what a slot listens to: its dispatch mask as a filter on the sound.

    picture (bands, columns) --spread--> (bins, frames) of an STFT --x magnitude--> waveform

What one hears are the places whose tokens a slot takes much of, with the phase of the original.
It is not what the slot hears: a slot averages token vectors, not sound, and above the first block
a token also carries what attention brought to it from elsewhere in the clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from softmoa.audio import FRAME_SHIFT, SAMPLE_RATE
from softmoa.contribution import PatchGrid, mel_edge_hz

WINDOW = 1024  # samples: 64 ms, so bins are 15.6 Hz apart; a column of patches lasts 160 ms
HOP = 256  # samples: 16 ms
MAX_GAIN = 40.0  # dB; more would lift what leaks through a mask that keeps nothing


@dataclass(frozen=True)
class Heard:
    """A masked sound. waveform: (samples,), |x| <= 1 if the original is.

    gain: in dB, of all of it after masking, so that the loudness can be stated. short: how many dB
    it stays below the loudness that was asked for, 0 where it has it, infinite where the mask keeps
    nothing of a sound.
    """

    waveform: Tensor
    gain: float
    short: float = 0.0


def hear(
    waveform: Tensor,
    picture: Tensor,
    grid: PatchGrid,
    relative: bool = True,
    smooth: bool = False,
    loudness: Literal["rms", "peak", "masked"] = "rms",
) -> Heard:
    """Filter a sound by a picture of weights on its patches.

    waveform: (samples,) at 16 kHz. picture: (bands, columns), none below zero, such as
    `grid.unfold(routing.dispatch_weights[0, :, j, k])` of slot k of expert j.
    relative: divide by the picture's maximum, so that its heaviest patch passes whole; else the
    values are the gains. smooth: see `spread`.
    loudness: raise or lower the result to the original's "rms" or "peak" (by `MAX_GAIN` at most,
    and never beyond the original's peak or full scale, whichever is more), or leave it as "masked".
    """
    if relative:
        picture = picture / picture.max().clamp(min=torch.finfo(picture.dtype).tiny)
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(
        waveform, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True
    )
    spectrum = spectrum * spread(picture.float(), grid, spectrum.shape[1], smooth)
    masked = torch.istft(spectrum, WINDOW, HOP, window=window, length=len(waveform))
    if loudness == "masked":
        return Heard(masked, 0.0)
    gain, short = _gain(waveform, masked, loudness)
    return Heard(gain * masked, 20 * math.log10(gain), short)


def spread(picture: Tensor, grid: PatchGrid, frames: int, smooth: bool = False) -> Tensor:
    """A picture (bands, columns) on the STFT grid, (WINDOW / 2 + 1 bins, frames).

    Every cell takes the value of the patch that covers it: where patches overlap (a stride below
    the patch size) the mean of all that do, and in the fringe that none covers (below 30 Hz, from
    7.9 kHz, up to a patch at the end) the nearest patch, so that ones remain ones everywhere.
    smooth: interpolate between the patches' centres instead, linearly in mel and in time.
    """
    hertz = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE / WINDOW
    edges = [mel_edge_hz(edge, grid.mels) for edge in range(grid.mels + 1)]
    mels = torch.from_numpy(np.interp(hertz, edges, np.arange(grid.mels + 1)))
    times = torch.arange(frames, dtype=torch.float64) * HOP / FRAME_SHIFT  # in frames of 10 ms
    up = _cover(mels, grid.bands, grid.stride_frequency, grid.patch, smooth)
    along = _cover(times, grid.columns, grid.stride_time, grid.patch, smooth)
    return up.float() @ picture @ along.float().T


def _cover(places: Tensor, patches: int, stride: int, patch: int, smooth: bool) -> Tensor:
    """How much each patch along an axis counts at each place, (places, patches); rows sum to 1."""
    index = torch.arange(patches)
    if smooth:
        between = ((places - patch / 2) / stride).clamp(0, patches - 1)
        return (1 - (between[:, None] - index).abs()).clamp(min=0)
    end = (patches - 1) * stride + patch
    inside = places.clamp(0, end - 1e-6)[:, None] - index * stride
    covers = ((inside >= 0) & (inside < patch)).double()
    return covers / covers.sum(dim=1, keepdim=True)


def _gain(
    original: Tensor, masked: Tensor, loudness: Literal["rms", "peak"]
) -> tuple[float, float]:
    """The factor that gives `masked` the loudness of the original, within the bounds of `hear`, and
    how many dB it falls short of it."""
    peaks = original.abs().max().item(), masked.abs().max().item()
    if not peaks[0]:
        return 1.0, 0.0
    if not peaks[1]:
        return 1.0, math.inf
    wanted = peaks[0] / peaks[1]
    if loudness == "rms":
        squares = [sound.double().square().mean().item() for sound in (original, masked)]
        wanted = math.sqrt(squares[0] / squares[1])
    gain = min(wanted, 10 ** (MAX_GAIN / 20), max(peaks[0], 1.0) / peaks[1])
    return gain, 20 * math.log10(wanted / gain)
