"""The third teacher: what EfficientWord-Net hears in a word, whoever says it.

Whisper says what is heard at a moment; that two voices say the same, this network was trained to
tell. It embeds 1.5 s of speech in 2,048 numbers. The weights are those that the package
`EfficientWord-Net` 1.0.5 ships (Apache-2.0), fetched when needed and not redistributed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from analysis.pretraining.initialise import wheel_member
from analysis.pretraining.teacher import network
from softmoa.data.audio import SAMPLE_RATE

WORD_EMBEDDING = 2048
WINDOW = 3 * SAMPLE_RATE // 2
FRAME, HOP, FFT, BANDS = 400, 160, 512, 64
SMALLEST = float(np.finfo(float).eps)  # of an energy, before its logarithm
NETWORK = "eff_word_net/models/resnet_50_arc/slim_93%_accuracy_72.7390%.onnx"


def network_file() -> Path:
    """The teacher's file; called once before several processes need it."""
    return wheel_member("efficientword-net==1.0.5", NETWORK)


@cache
def mel_filters() -> Tensor:
    """(257, 64) triangles between whole bins of the spectrum, equally spaced in mel."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    low, centre, high = (
        np.floor((FFT + 1) * hertz / SAMPLE_RATE)[n : BANDS + n, None] for n in range(3)
    )
    bins = np.arange(FFT // 2 + 1)
    rising = (bins - low) / np.maximum(centre - low, 1)
    falling = (high - bins) / np.maximum(high - centre, 1)
    weights = np.where(bins < centre, rising, falling) * ((bins >= low) & (bins < high))
    return torch.from_numpy(weights.T)


def filterbank(waveform: Tensor) -> Tensor:
    """(samples,) at 16 kHz -> (149, 64) log energies of 1.5 s: a longer sound is cut to its middle,
    a shorter one gets silence on both sides."""
    missing = WINDOW - len(waveform)
    before = missing // 2
    whole = HOP - (WINDOW - FRAME) % HOP  # fills up the last frame
    window = torch.nn.functional.pad(waveform.double(), (before, missing - before + whole))
    spectra = torch.fft.rfft(window.unfold(0, FRAME, HOP), FFT).abs().square() / FFT
    return (spectra @ mel_filters()).clamp_min(SMALLEST).log()


def hear(waveforms: list[Tensor]) -> np.ndarray:
    """(words, 2048), each of length one; the network takes one at a time."""
    embed = network(network_file())
    banks = [filterbank(waveform).float().numpy()[None, None] for waveform in waveforms]
    return np.concatenate([embed(bank)[0] for bank in banks])
