"""From waveforms to log-mels: against independent implementations and answers known by hand."""

import importlib

import librosa
import numpy as np
import pytest
import scipy.signal
import torch
from sounds import noise, tone
from transformers import ASTFeatureExtractor

from softmoa.data.audio import SAMPLE_RATE, frames_in, load, log_mel


@pytest.fixture(params=["chirp", "noise", "quiet noise", "silence", "constant", "speech"])
def signal(request) -> torch.Tensor:
    if request.param == "speech":
        return load(request.getfixturevalue("digit")).waveform
    seconds = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    samples = {
        "chirp": 0.5 * scipy.signal.chirp(seconds, 20, 2, 8000, method="logarithmic"),
        "noise": noise(len(seconds)),
        "quiet noise": noise(len(seconds), peak=1e-4),
        "silence": np.zeros(len(seconds)),
        "constant": np.full(len(seconds), 0.5),
    }[request.param]
    return torch.from_numpy(samples.astype(np.float32))


def reference(waveform: torch.Tensor) -> torch.Tensor:
    """transformers' log-mel, without the frames that it pads with."""
    features = ASTFeatureExtractor()(waveform.numpy(), SAMPLE_RATE, return_tensors="pt")
    return features["input_values"][0, : frames_in(len(waveform))]


def test_log_mel_equals_transformers(signal):
    """Where torchaudio is installed, transformers takes its filters too."""
    assert (log_mel(signal) - reference(signal)).abs().max() < 1e-3


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")  # so has Kaldi
def test_log_mel_equals_transformers_own_numpy(signal, monkeypatch):
    """Without torchaudio transformers computes it by itself, and is an independent witness."""
    module = importlib.import_module(ASTFeatureExtractor.__module__)
    monkeypatch.setattr(module, "is_speech_available", lambda: False)
    monkeypatch.delattr(module, "ta_kaldi", raising=False)
    assert (log_mel(signal) - reference(signal)).abs().max() < 1e-3


@pytest.mark.parametrize("hz", [100, 250, 1000, 3000, 7000])
def test_a_tone_peaks_in_its_mel_band(hz):
    """128 triangles between 130 edges, equally spaced in mel = 1127 ln(1 + f / 700)."""
    edges = librosa.mel_frequencies(130, fmin=20, fmax=8000, htk=True)
    centres = librosa.hz_to_mel(edges[1:-1], htk=True)
    band = np.abs(centres - librosa.hz_to_mel(hz, htk=True)).argmin()
    peaks = log_mel(torch.from_numpy(tone(hz))).argmax(dim=1)
    assert (peaks == (band if hz == 1000 else peaks[0])).all()
    assert abs(peaks[0].item() - band) <= 1


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 16), (1, 16), (2800, 16), (2959, 16), (2960, 17), (16_000, 98), (163_840, 1022)],
)
def test_frames_in(samples, frames):
    """By hand: 1 + (samples - 400) // 160, and 16 at the least."""
    assert frames_in(samples) == frames == len(log_mel(torch.zeros(samples)))
