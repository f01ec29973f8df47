"""Copies of a recording are found whatever their level, place and bandwidth; others are not."""

import numpy as np
import pytest
import soundfile
import soxr

from analysis.pretraining.copies import SAME_VOTES, Known, landmarks


def song(seed: int, seconds: float = 4.0) -> np.ndarray:
    """Tones of random pitch, a new one every tenth of a second, over some noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(1_600) / 16_000
    tones = [np.sin(2 * np.pi * rng.uniform(200, 5_000) * time) for _ in range(int(seconds * 10))]
    noise = 0.01 * rng.standard_normal(1_600 * len(tones))
    return (0.3 * np.concatenate(tones) + noise).astype(np.float32)


@pytest.fixture
def known(tmp_path):
    files = []
    for seed in range(3):
        files.append(tmp_path / f"{seed}.wav")
        soundfile.write(files[-1], song(seed), 16_000)
    return Known(files)


def test_a_quieter_copy_within_another_sound_is_found(known):
    quiet = 0.1 * song(1)
    narrow = soxr.resample(soxr.resample(quiet, 16_000, 11_025), 11_025, 16_000)
    within = np.concatenate([song(7, 1.3), narrow, song(8, 0.5)]).astype(np.float32)
    count, file = known.nearest(within)
    assert count >= 3 * SAME_VOTES and file.name == "1.wav"


def test_another_recording_is_no_copy(known):
    assert known.nearest(song(9))[0] < SAME_VOTES


def test_what_is_too_short_or_silent_has_no_landmarks(known):
    assert not len(landmarks(np.ones(2_000, np.float32))[0])
    assert known.nearest(np.zeros(16_000, np.float32))[0] == 0
