"""Hear what a slot listens to: its dispatch mask as a filter on the sound.

    picture (bands, columns) --spread--> (bins, frames) of an STFT --x magnitude--> waveform

What one hears are the places whose tokens a slot takes much of, with the phase of the original.
It is not what the slot hears: a slot averages token vectors, not sound, and above the first block
a token also carries what attention brought to it from elsewhere in the clip.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from softmoa.data.audio import FRAME_SHIFT, SAMPLE_RATE
from softmoa.lens.contribution import PatchGrid, mel_edges

WINDOW = 1024  # samples: 64 ms, so bins are 15.6 Hz apart; a column of patches lasts 160 ms
HOP = 256  # samples: 16 ms
MAX_GAIN = 40.0  # dB; more would lift what leaks through a mask that keeps nothing


def hear(waveform: Tensor, gains: Tensor, grid: PatchGrid) -> Tensor:
    """A sound filtered by gains on its patches, as long as it was.

    waveform: (samples,) at 16 kHz. gains: (bands, columns), from 0 to 1, such as
    `grid.unfold(routing.dispatch_weights[0, :, j, k])` of slot k of expert j over its maximum, so
    that the heaviest patch passes whole.
    """
    import librosa  # a second to import

    sound = waveform.numpy()
    spectrum = librosa.stft(sound, n_fft=WINDOW, hop_length=HOP)
    spectrum *= spread(gains.float(), grid, spectrum.shape[1]).numpy()
    masked = librosa.istft(spectrum, n_fft=WINDOW, hop_length=HOP, length=len(sound))
    return torch.from_numpy(masked)


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


class Raised(NamedTuple):
    """A filtered sound, louder. waveform: (samples,). gain: in dB, so that it can be stated. short:
    how many dB it stays below the original's loudness, infinite where nothing of a sound is left.
    """

    waveform: Tensor
    gain: float
    short: float


def as_loud(masked: Tensor, original: Tensor) -> Raised:
    """A filtered sound with the root mean square of the original; raised by `MAX_GAIN` at most, and
    never beyond the original's peak or full scale, whichever is more."""
    peaks = original.abs().max().item(), masked.abs().max().item()
    if not all(peaks):
        return Raised(masked, 0.0, math.inf if peaks[0] else 0.0)
    wanted = (original.double().square().mean() / masked.double().square().mean()).sqrt().item()
    gain = min(wanted, 10 ** (MAX_GAIN / 20), max(peaks[0], 1.0) / peaks[1])
    return Raised(gain * masked, 20 * math.log10(gain), 20 * math.log10(wanted / gain))
