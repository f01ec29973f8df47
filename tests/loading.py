"""What tests of `softmoa.data.audio.load` ask of a sound that it reads, and of one that it "
"refuses."""

import re

import pytest
import torch

from softmoa.data.audio import SAMPLE_RATE, AudioError, Clip, frames_in, load, log_mel


def spectral_peak(waveform: torch.Tensor) -> float:
    """Frequency in Hz of the largest value of the spectrum."""
    spectrum = torch.fft.rfft(waveform * torch.hann_window(len(waveform))).abs()
    return spectrum.argmax().item() * SAMPLE_RATE / len(waveform)


def refusal(source: object) -> str:
    """The message of the AudioError, checked to be one sentence that helps and gives nothing away.

    Paths are left out by asking that no part of one is there: no slash, no folder's name.
    """
    with pytest.raises(AudioError) as caught:
        load(source)
    message = str(caught.value)
    assert re.fullmatch(r"[A-Z][^\n]*[^.]\.", message) and not re.search(r"[.!?]\s", message)
    assert "please" in message
    assert "/" not in message and "pytest" not in message
    return message


def assert_usable(clip: Clip) -> None:
    waveform = clip.waveform
    assert waveform.dtype == torch.float32 and waveform.ndim == 1
    assert 1 <= len(waveform) <= 30 * SAMPLE_RATE
    assert waveform.isfinite().all() and waveform.abs().max() <= 1
    assert len(log_mel(waveform[:SAMPLE_RATE])) == frames_in(min(len(waveform), SAMPLE_RATE))


def loads_or_refuses(source: object) -> None:
    try:
        clip = load(source)
    except AudioError:
        refusal(source)
    else:
        assert_usable(clip)
