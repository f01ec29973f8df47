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

from softmoa.data.audio import FRAME_SHIFT, SAMPLE_RATE
from softmoa.lens.contribution import PatchGrid, mel_edges

WINDOW = 1024  # samples: 64 ms, so bins are 15.6 Hz apart; a column of patches lasts 160 ms
HOP = 256  # samples: 16 ms
MAX_GAIN = 40.0  # dB; more would lift what leaks through a mask that keeps nothing


@dataclass(frozen=True)
class FilteredSound:
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
    loudness: Literal["rms", "masked"] = "rms",
) -> FilteredSound:
    """Filter a sound by a picture of weights on its patches.

    waveform: (samples,) at 16 kHz. picture: (bands, columns), none below zero, such as
    `grid.unfold(routing.dispatch_weights[0, :, j, k])` of slot k of expert j.
    relative: divide by the picture's maximum, so that its heaviest patch passes whole; else the
    values are the gains.
    loudness: raise or lower the result to the original's "rms" (by `MAX_GAIN` at most, and never
    beyond the original's peak or full scale, whichever is more), or leave it as "masked".
    """
    import librosa  # a second to import

    if relative:
        picture = picture / picture.max().clamp(min=torch.finfo(picture.dtype).tiny)
    sound = waveform.numpy()
    spectrum = librosa.stft(sound, n_fft=WINDOW, hop_length=HOP)
    spectrum *= spread(picture.float(), grid, spectrum.shape[1]).numpy()
    masked = librosa.istft(spectrum, n_fft=WINDOW, hop_length=HOP, length=len(sound))
    masked = torch.from_numpy(masked)
    if loudness == "masked":
        return FilteredSound(masked, 0.0)
    gain, short = _gain(waveform, masked)
    return FilteredSound(gain * masked, 20 * math.log10(gain), short)


def spread(picture: Tensor, grid: PatchGrid, frames: int) -> Tensor:
    """A picture (bands, columns) on the STFT grid, (WINDOW / 2 + 1 bins, frames).

    Every cell takes the value of the patch that covers it: where patches overlap (a stride below
    the patch size) the mean of all that do, and in the fringe that none covers (below 30 Hz, from
    7.9 kHz, up to a patch at the end) the nearest patch, so that ones remain ones everywhere.
    """
    hertz = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE / WINDOW
    mels = np.interp(hertz, mel_edges(grid.mels), np.arange(grid.mels + 1))
    times = np.arange(frames) * HOP / FRAME_SHIFT  # in frames of 10 ms
    up = _cover(mels, grid.bands, grid.stride_frequency, grid.patch)
    along = _cover(times, grid.columns, grid.stride_time, grid.patch)
    return up @ picture @ along.T


def _cover(places: np.ndarray, patches: int, stride: int, patch: int) -> Tensor:
    """How much each patch along an axis counts at each place, (places, patches); rows sum to 1."""
    end = (patches - 1) * stride + patch
    inside = places.clip(0, end - 1e-6)[:, None] - np.arange(patches) * stride
    covers = (inside >= 0) & (inside < patch)
    return torch.from_numpy(covers / covers.sum(axis=1, keepdims=True)).float()


def _gain(original: Tensor, masked: Tensor) -> tuple[float, float]:
    """The factor that gives `masked` the loudness of the original, within the bounds of `hear`, and
    how many dB it falls short of it."""
    peaks = original.abs().max().item(), masked.abs().max().item()
    if not all(peaks):
        return 1.0, math.inf if peaks[0] else 0.0
    wanted = (original.double().square().mean() / masked.double().square().mean()).sqrt().item()
    gain = min(wanted, 10 ** (MAX_GAIN / 20), max(peaks[0], 1.0) / peaks[1])
    return gain, 20 * math.log10(wanted / gain)
