"""From files and arrays to waveforms, with answers known beforehand."""

import math
import sys

import numpy as np
import pytest
import soundfile
import torch
from loading import refusal, spectral_peak
from sounds import LIBAV_FORMATS, SOUNDFILE_FORMATS, noise, tone, write, write_libav

from softmoa.data.audio import SAMPLE_RATE, load, log_mel

SILENT = "This sound is silent, or nearly so, and its labels mean little."
CLIPPED = "The sound is clipped: it was too loud for the microphone or the file."
FIRST_30_S = "Only the first 30 s were used."


# Formats


@pytest.mark.parametrize("name", [*SOUNDFILE_FORMATS, *LIBAV_FORMATS])
def test_formats(tmp_path, name):
    """A 1 kHz tone, 0.5 left and 0.25 right: it is found at 0.375 and nothing is noted."""
    left, path = tone(1000, 48_000), tmp_path / "sound"
    stereo = np.stack([left, left / 2])
    if name in SOUNDFILE_FORMATS:
        write(path, stereo.T, 48_000, **SOUNDFILE_FORMATS[name])
    else:
        write_libav(path, stereo, 48_000, layout="stereo", **LIBAV_FORMATS[name])
    clip = load(path)
    assert clip.rate == 48_000 and clip.notes == ()
    assert clip.seconds == pytest.approx(1, abs=0.05)  # MP3 comes in whole frames
    assert spectral_peak(clip.waveform) == pytest.approx(1000, abs=1)
    middle = clip.waveform[4000:12000]
    assert middle.square().mean().sqrt() == pytest.approx(0.375 / math.sqrt(2), rel=0.02)


@pytest.mark.parametrize(
    ("name", "step"), [("wav-u8", 2**-7), ("wav-16", 2**-15), ("wav-24", 2**-23), ("flac", 2**-15)]
)
def test_lossless_files_return_the_samples(tmp_path, name, step):
    samples = noise(5000)
    clip = load(write(tmp_path / "sound", samples, **SOUNDFILE_FORMATS[name]))
    assert np.abs(clip.waveform.numpy() - samples).max() <= step


@pytest.mark.parametrize("name", ["flac", "vorbis", "opus", "mp3"])
def test_reading_in_blocks_equals_reading_at_once(tmp_path, name):
    """soundfile seeks after each read, and an MP3 comes out garbled at every seek."""
    path = write(tmp_path / "sound", noise(3 * SAMPLE_RATE, 0.2), **SOUNDFILE_FORMATS[name])
    whole, _ = soundfile.read(path, dtype="float32")
    waveform = load(path).waveform.numpy()
    assert len(waveform) == len(whole) and np.abs(waveform - whole).max() < 1e-6


def test_a_spoken_digit(digit):
    clip = load(digit)
    assert clip.rate == 8000 and clip.notes == ()
    assert clip.seconds == pytest.approx(soundfile.info(digit).duration, abs=1 / SAMPLE_RATE)


def test_containers_without_pyav(tmp_path, monkeypatch):
    path = write_libav(tmp_path / "a", noise(SAMPLE_RATE)[None], 16_000, **LIBAV_FORMATS["m4a"])
    monkeypatch.setitem(sys.modules, "av", None)  # makes the import fail, as where it is missing
    assert "pip install av" in refusal(path)


@pytest.mark.parametrize("suffix", [".raw", ".mp3", ".m3u8", ""])
def test_the_content_decides_and_not_the_extension(tmp_path, suffix):
    samples = noise(8000, 0.2)
    wav = write(tmp_path / f"wav{suffix}", samples)
    mp3 = write(tmp_path / f"mp3{suffix}", samples, **SOUNDFILE_FORMATS["mp3"])
    m4a = write_libav(tmp_path / f"m4a{suffix}", samples[None], 16_000, **LIBAV_FORMATS["m4a"])
    assert [round(load(path).seconds, 1) for path in (wav, mp3, m4a)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    "name", ["é 日本.wav", "two\nlines.wav", "100%s.wav", "-x.wav", "\udcff.wav", "http:a.wav"]
)
def test_odd_names(tmp_path, name):
    try:
        wav = write(tmp_path / "plain.wav", noise(8000)).rename(tmp_path / name)
        m4a = write_libav(
            tmp_path / "plain.m4a", noise(8000)[None], 16_000, **LIBAV_FORMATS["m4a"]
        ).rename(tmp_path / f"m4a{name}")
    except (OSError, ValueError):
        pytest.skip("this file system does not take such a name")
    assert load(str(wav)).seconds == 0.5
    assert load(str(m4a)).seconds == pytest.approx(0.5, abs=0.1)


# Sampling rates and channels


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 44100, 192000])
def test_a_tone_keeps_its_frequency_level_and_length(tmp_path, rate):
    clip = load(write(tmp_path / "tone.wav", tone(1000, rate), rate))
    assert clip.rate == rate and clip.notes == ()
    assert len(clip.waveform) == SAMPLE_RATE
    assert spectral_peak(clip.waveform) == pytest.approx(1000, abs=1)
    middle = clip.waveform[4000:12000]
    assert middle.square().mean().sqrt() == pytest.approx(0.5 / math.sqrt(2), rel=0.01)


def test_what_lies_above_8_khz_does_not_fold_down():
    """At 48 kHz a tone of 9 kHz would come back as one of 7 kHz without a filter."""
    both = tone(9000, 48_000) + tone(1000, 48_000, peak=0.001)
    assert spectral_peak(load((48_000, both)).waveform[1000:-1000]) == pytest.approx(1000, abs=2)


# Arrays


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 128, 255], np.uint8), [-1, 0, 127 / 128]),
        (np.array([-(2**15), 0, 2**14], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        *((np.array([-1, 0, 0.5], kind), [-1, 0, 0.5]) for kind in ("f2", "f4", "f8")),
        (np.array([[-(2**15), -(2**15)], [2**14, 0]], np.int16), [-1, 0.25]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_arrays_are_scaled_by_their_full_range(samples, expected):
    assert load((SAMPLE_RATE, samples)).waveform.tolist() == expected


# Odd sounds


def test_silence_is_told(tmp_path):
    clip = load(write(tmp_path / "silence.wav", np.zeros(SAMPLE_RATE)))
    assert clip.notes == (SILENT,) and not clip.waveform.any()
    floor = (math.log(torch.finfo(torch.float32).eps) + 4.2677393) / (2 * 4.5689974)
    assert torch.allclose(log_mel(clip.waveform), torch.tensor(floor))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_constant_is_silence(rate):
    """At 44.1 kHz the resampler's edges would hide it."""
    clip = load((rate, np.full(rate, 0.5)))
    assert clip.notes == (SILENT,)
    assert torch.allclose(clip.waveform[4000:12000], torch.tensor(0.5), atol=1e-4)


def test_clipping_is_told(tmp_path):
    clip = load(write(tmp_path / "loud.wav", np.clip(tone(440, 44_100, peak=1.5), -1, 1), 44_100))
    assert clip.notes == (CLIPPED,) and clip.waveform.abs().max() <= 1


@pytest.mark.parametrize("hz", [20, 1000])
def test_a_full_scale_tone_is_not_clipped(tmp_path, hz):
    assert load(write(tmp_path / "full.wav", tone(hz, 44_100, peak=1), 44_100)).notes == ()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("huge", [np.float32(3e38), np.float64(1e300)])
def test_the_largest_numbers_do_not_overflow(huge):
    clip = load((SAMPLE_RATE, np.stack([tone(440), tone(440)], axis=1).astype(type(huge)) * huge))
    assert np.allclose(clip.waveform.numpy(), tone(440, peak=1), atol=1e-3)


def test_nan_and_infinity_become_zero(tmp_path):
    samples = noise(8000).astype(np.float32)
    holes = {10: np.nan, 20: np.inf, 30: -np.inf}
    broken = samples.copy()
    broken[list(holes)] = list(holes.values())
    clip = load(write(tmp_path / "holes.wav", broken, subtype="FLOAT"))
    assert clip.notes == ("Damaged samples (NaN or infinite) were left out: 3.",)
    samples[list(holes)] = 0
    assert np.array_equal(clip.waveform.numpy(), samples)


def test_a_channel_of_nan_leaves_the_other():
    sound = tone(440).astype(np.float32)
    clip = load((SAMPLE_RATE, np.stack([sound, np.full_like(sound, np.nan)], axis=1)))
    assert np.array_equal(clip.waveform.numpy(), sound)
    assert clip.notes == (f"Damaged samples (NaN or infinite) were left out: {len(sound)}.",)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, [np.inf, -np.inf]])
def test_nothing_but_nan_or_infinity(tmp_path, value):
    samples = np.array([value] * 1000, np.float32)
    assert "NaN or infinite" in refusal(write(tmp_path / "nan.wav", samples, subtype="FLOAT"))
    assert "NaN or infinite" in refusal((SAMPLE_RATE, samples))


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_only_the_first_30_s_are_used(tmp_path, rate):
    samples = tone(440, rate, seconds=31)
    exact = load(write(tmp_path / "30.wav", samples[: 30 * rate], rate))
    longer = load(write(tmp_path / "31.wav", samples, rate))
    assert exact.notes == () and longer.notes == (FIRST_30_S,)
    assert len(exact.waveform) == len(longer.waveform) == 30 * SAMPLE_RATE
    assert torch.equal(exact.waveform, longer.waveform)
    assert load((rate, samples)).notes == (FIRST_30_S,)
    assert load((rate, samples), max_seconds=0.5).seconds == 0.5
