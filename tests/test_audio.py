"""From files and arrays to waveforms and log-mels, with answers known beforehand."""

import importlib
import math
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from transformers import ASTFeatureExtractor

from softmoa import audio
from softmoa.audio import SAMPLE_RATE, AudioError, Clip, frames_in, load, log_mel, log_mels

SILENT = "This sound is silent, or nearly so, and its labels mean little."
DAMAGED = "The file is damaged, and only the sound before the damage was used."
CLIPPED = "The sound is clipped: it was too loud for the microphone or the file."
FIRST_30_S = "Only the first 30 s were used."

SOUNDFILE_FORMATS = {
    "wav-u8": dict(format="WAV", subtype="PCM_U8"),
    "wav-16": dict(format="WAV", subtype="PCM_16"),
    "wav-24": dict(format="WAV", subtype="PCM_24"),
    "wav-32": dict(format="WAV", subtype="PCM_32"),
    "wav-float": dict(format="WAV", subtype="FLOAT"),
    "flac": dict(format="FLAC", subtype="PCM_16"),
    "vorbis": dict(format="OGG", subtype="VORBIS"),
    "opus": dict(format="OGG", subtype="OPUS"),
    "mp3": dict(format="MP3", subtype="MPEG_LAYER_III"),
}
LIBAV_FORMATS = {
    "m4a": dict(codec="aac", format="ipod"),
    "aac": dict(codec="aac", format="adts"),
    "webm": dict(codec="libopus", format="webm"),
}


def tone(hz: float, rate: int = SAMPLE_RATE, seconds: float = 1.0, peak: float = 0.5) -> np.ndarray:
    return peak * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def noise(samples: int, peak: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-peak, peak, samples)


def spectral_peak(waveform: torch.Tensor) -> float:
    """Frequency in Hz of the largest value of the spectrum."""
    spectrum = torch.fft.rfft(waveform * torch.hann_window(len(waveform))).abs()
    return spectrum.argmax().item() * SAMPLE_RATE / len(waveform)


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE, **form) -> Path:
    """(samples,) or (samples, channels) through libsndfile, as WAV unless told otherwise."""
    soundfile.write(path, samples, rate, **({"format": "WAV"} | form))
    return path


def packets(container, samples: np.ndarray, rate: int, layout: str, codec: str) -> Iterator:
    """(channels, samples) -> encoded packets of a new stream of an open libav container."""
    stream = container.add_stream(codec, rate=rate, layout=layout)
    stream.bit_rate = 16_000 if len(samples) == 1 else 256_000
    packed = samples.astype(np.float32).T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate, frame.pts = rate, 0
    size = 1024 if codec == "aac" else rate // 50
    form = stream.codec_context.format.name
    resampler = av.AudioResampler(format=form, layout=layout, rate=rate, frame_size=size)
    for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
        yield from stream.encode(piece)


def write_libav(
    path: Path, samples: np.ndarray, rate: int, codec: str, format: str, layout: str = "mono"
) -> Path:
    """(channels, samples) through libav."""
    with av.open(str(path), "w", format=format) as container:
        for packet in packets(container, samples, rate, layout, codec):
            container.mux(packet)
    return path


def write_hour(
    path: Path, rate: int, codec: str, format: str, seconds: float = 3600.0, **options: str
) -> Path:
    """A long silent file in little time: one encoded packet, over and over."""
    with av.open(str(path), "w", format=format, options=options) as container:
        packet = list(packets(container, np.zeros((1, 2 * rate)), rate, "mono", codec))[5]
        content, step = bytes(packet), packet.duration
        for i in range(math.ceil(seconds / (step * packet.time_base))):
            copy = av.Packet(content)
            copy.stream, copy.time_base, copy.duration = packet.stream, packet.time_base, step
            copy.pts = copy.dts = i * step
            container.mux(copy)
    return path


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


# Formats


@pytest.mark.parametrize("name", SOUNDFILE_FORMATS)
def test_formats_of_soundfile(tmp_path, name):
    """A 1 kHz tone, 0.5 left and 0.25 right: it is found at 0.375 and nothing is noted."""
    left = tone(1000, 48_000)
    stereo = np.stack([left, left / 2], axis=1)
    clip = load(write(tmp_path / "sound", stereo, 48_000, **SOUNDFILE_FORMATS[name]))
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


@pytest.mark.parametrize("name", LIBAV_FORMATS)
def test_formats_of_libav(tmp_path, name):
    left = tone(1000, 48_000)
    stereo = np.stack([left, left / 2])
    path = write_libav(tmp_path / "sound", stereo, 48_000, layout="stereo", **LIBAV_FORMATS[name])
    clip = load(path)
    assert clip.rate == 48_000 and clip.notes == ()
    assert clip.seconds == pytest.approx(1, abs=0.05)
    assert spectral_peak(clip.waveform) == pytest.approx(1000, abs=1)
    middle = clip.waveform[4000:12000]
    assert middle.square().mean().sqrt() == pytest.approx(0.375 / math.sqrt(2), rel=0.02)


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
def test_many_channels_in_a_container(tmp_path, layout):
    """Frames of 8 planes crash PyAV's own conversion to arrays."""
    samples = np.tile(tone(1000, 48_000), (av.AudioLayout(layout).nb_channels, 1))
    path = write_libav(tmp_path / "sound.mka", samples, 48_000, "flac", "matroska", layout)
    assert spectral_peak(load(path).waveform) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize("name", LIBAV_FORMATS)
def test_containers_without_pyav(tmp_path, monkeypatch, name):
    path = write_libav(tmp_path / "sound", noise(SAMPLE_RATE)[None], 16_000, **LIBAV_FORMATS[name])
    monkeypatch.setitem(sys.modules, "av", None)  # makes the import fail, as where it is missing
    assert "pip install av" in refusal(path)


def test_text_without_pyav_is_not_blamed_on_pyav(tmp_path, monkeypatch):
    (tmp_path / "notes.wav").write_text("Dear diary,\n" * 100)
    monkeypatch.setitem(sys.modules, "av", None)
    assert "not a sound file" in refusal(tmp_path / "notes.wav")


@pytest.mark.parametrize("suffix", [".raw", ".wav", ".mp3", ".flac", ".txt", ".m3u8", ""])
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


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000])
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


@pytest.mark.parametrize("rate", [0, -8000, 3999, 192_001, 10**9, math.nan, math.inf])
def test_absurd_rates_of_arrays(rate):
    assert "sampling rate" in refusal((rate, noise(8000)))


@pytest.mark.parametrize("channels", [2, 6, 16])
def test_channels_are_averaged(tmp_path, channels):
    """Channel k carries k/100 times the same noise, so the mean is (channels + 1)/200 of it."""
    samples = noise(5000, peak=1)[:, None] * np.arange(1, channels + 1) / 100
    expected = samples[:, 0] * (channels + 1) / 2
    clip = load(write(tmp_path / "many.wav", samples, subtype="FLOAT"))
    assert np.allclose(clip.waveform.numpy(), expected, atol=1e-7)
    assert np.allclose(load((SAMPLE_RATE, samples)).waveform.numpy(), expected, atol=1e-7)


def test_too_many_channels(tmp_path):
    message = refusal(write(tmp_path / "many.wav", np.zeros((100, 17))))
    assert "17 channels" in message
    assert refusal((SAMPLE_RATE, np.zeros((100, 17)))) == message


# Arrays


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 128, 255], np.uint8), [-1, 0, 127 / 128]),
        (np.array([0, 2**15, 3 * 2**14], np.uint16), [-1, 0, 0.5]),
        (np.array([-128, 0, 64], np.int8), [-1, 0, 0.5]),
        (np.array([-(2**15), 0, 2**14], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([-(2**63), 0, 2**62], np.int64), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float16), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float32), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float64), [-1, 0, 0.5]),
        (np.array([[-(2**15), -(2**15)], [2**14, 0]], np.int16), [-1, 0.25]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_arrays_are_scaled_by_their_full_range(samples, expected):
    assert load((SAMPLE_RATE, samples)).waveform.tolist() == expected


def test_transposed_arrays_are_recognised():
    stereo = noise(2000).reshape(1000, 2)
    assert torch.equal(load((SAMPLE_RATE, stereo)).waveform, load((SAMPLE_RATE, stereo.T)).waveform)


def test_an_array_is_left_as_it_was():
    samples = np.array([3, np.nan, -3], np.float32)
    load((SAMPLE_RATE, samples))
    assert np.array_equal(samples, np.array([3, np.nan, -3], np.float32), equal_nan=True)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros((2, 3, 4)),
        np.float32(0.5),
        np.array(["a"]),
        np.array([None]),
        np.zeros(9, complex),
        np.zeros(9, bool),
        np.zeros(0),
        np.zeros((0, 2), np.int16),
        np.zeros((9, 0)),
    ],
    ids=repr,
)
def test_arrays_that_are_no_sound(samples):
    refusal((SAMPLE_RATE, samples))


# Odd sounds


@pytest.mark.parametrize("rate", [4000, 16_000, 44_100, 192_000])
def test_one_sample(tmp_path, rate):
    clip = load(write(tmp_path / "one.wav", np.array([0.5]), rate))
    assert 1 <= len(clip.waveform) <= 4
    assert log_mel(clip.waveform).shape == (16, 128)
    assert any("padded with silence to 175 ms" in note for note in clip.notes)


def test_shorter_than_a_frame():
    """10 ms of sound: padded for the model and not in the clip, with the padding told."""
    clip = load((SAMPLE_RATE, noise(160)))
    assert len(clip.waveform) == 160
    assert clip.notes == (
        "The sound lasts 10 ms and was padded with silence to 175 ms, the least the model can "
        "read.",
    )
    padded = torch.cat([clip.waveform, torch.zeros(2800 - 160)])
    assert torch.equal(log_mel(clip.waveform), log_mel(padded))


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


def test_a_quiet_sound_is_not_silence():
    assert load((SAMPLE_RATE, tone(440, peak=0.001))).notes == ()


def test_clipping_is_told(tmp_path):
    clip = load(write(tmp_path / "loud.wav", np.clip(tone(440, 44_100, peak=1.5), -1, 1), 44_100))
    assert clip.notes == (CLIPPED,)
    assert clip.waveform.abs().max() <= 1


@pytest.mark.parametrize("hz", [20, 50, 440, 1000])
def test_a_full_scale_tone_is_not_clipped(tmp_path, hz):
    assert load(write(tmp_path / "full.wav", tone(hz, 44_100, peak=1), 44_100)).notes == ()


def test_beyond_full_scale_is_turned_down():
    samples = noise(8000, peak=1)
    samples[100] = 1
    clip = load((SAMPLE_RATE, 4 * samples))
    assert clip.notes == ("The sound went beyond full scale (4 times) and was turned down.",)
    assert np.allclose(clip.waveform.numpy(), samples, atol=1e-7)


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
    assert clip.notes == ("Damaged samples (NaN or infinite) were set to zero: 3.",)
    samples[list(holes)] = 0
    assert np.array_equal(clip.waveform.numpy(), samples)


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


# Bad files


def test_files_that_are_not_there(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.wav")
    assert "no such file" in refusal(str(tmp_path / "null\0byte.wav"))
    assert "no such file" in refusal(tmp_path / ("x" * 300))
    assert "a folder" in refusal(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    refusal(tmp_path / "pipe.wav")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path / "mine.wav", noise(100))
    path.chmod(0)
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\0", "not a sound file"),
        (b"Dear diary,\n" * 1000, "not a sound file"),
        (bytes(100_000), "not a sound file"),
        (b"RIFF", "not a sound file"),
        (b"fLaC" + bytes(1000), "not a sound file"),
        (b"OggS" + bytes(1000), "not a sound file"),
        (b"ID3\4\0\0\0\0\0\0" + bytes(1000), "not a sound file"),
        (b"\xff\xf1P\x80" + bytes(1000), "not a sound file"),
        (b"\0\0\0\x18ftypM4A " + bytes(1000), "not a sound file"),
        (b"\x1aE\xdf\xa3" + bytes(1000), "not a sound file"),
        (b"%PDF-1.7\n" + bytes(range(256)) * 100, "not a sound file"),
    ],
)
def test_files_that_are_no_sound(tmp_path, content, words):
    (tmp_path / "sound.wav").write_bytes(content)
    assert words in refusal(tmp_path / "sound.wav")


def write_film(path: Path, side: int, sound: np.ndarray | None = None) -> Path:
    """One picture, and (samples,) at 16 kHz if given."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        picture = av.VideoFrame(side, side, "yuv420p")
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        film = stream.encode(picture) + stream.encode(None)
        if sound is not None:
            film += list(packets(container, sound[None], SAMPLE_RATE, "mono", "aac"))
        container.mux(film)
    return path


def test_a_video_without_sound(tmp_path):
    assert "No sound track" in refusal(write_film(tmp_path / "film.mp4", 64))


def test_a_codec_that_libav_lacks(tmp_path):
    path = write_libav(tmp_path / "sound", noise(8000)[None], 16_000, "aac", "matroska")
    content = path.read_bytes()
    assert content.count(b"A_AAC") == 1
    path.write_bytes(content.replace(b"A_AAC", b"A_XYZ"))
    assert "not a sound file" in refusal(path)


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile secret.aac\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.aac\n#EXT-X-ENDLIST\n",
    ],
)
@pytest.mark.parametrize("suffix", [".wav", ".m3u8", ".ffconcat"])
def test_a_playlist_does_not_open_other_files(tmp_path, playlist, suffix):
    """libav would follow it, and so read what lies beside an upload or at an address."""
    write_libav(tmp_path / "secret.aac", noise(8000)[None], 16_000, **LIBAV_FORMATS["aac"])
    (tmp_path / f"upload{suffix}").write_text(playlist)
    assert "not a sound file" in refusal(tmp_path / f"upload{suffix}")


# Truncated files and lying headers


@pytest.mark.parametrize(
    ("name", "notes"),
    [("wav-16", ()), ("flac", (DAMAGED,)), ("vorbis", ()), ("opus", ()), ("mp3", ())],
)
def test_a_truncated_file_gives_what_came_before(tmp_path, name, notes):
    samples = noise(20 * SAMPLE_RATE, 0.2)
    path = write(tmp_path / "sound", samples, **SOUNDFILE_FORMATS[name])
    whole, content = load(path).waveform, path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    clip = load(path)
    assert clip.seconds == pytest.approx(10, abs=1.5) and clip.notes == notes
    assert torch.equal(clip.waveform, whole[: len(clip.waveform)])
    path.write_bytes(content[:20])
    refusal(path)


@pytest.mark.parametrize(("name", "notes"), [("aac", (DAMAGED,)), ("webm", ())])
def test_a_truncated_stream_gives_what_came_before(tmp_path, name, notes):
    path = write_libav(tmp_path / "sound", noise(64_000)[None], 16_000, **LIBAV_FORMATS[name])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    clip = load(path)
    assert clip.seconds == pytest.approx(2, abs=0.3) and clip.notes == notes
    path.write_bytes(content[:40])
    refusal(path)


def test_a_truncated_m4a_is_refused(tmp_path):
    """Its index is at the end."""
    path = write_libav(tmp_path / "sound", noise(64_000)[None], 16_000, **LIBAV_FORMATS["m4a"])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "not a sound file" in refusal(path)
    path.write_bytes(content[:-1000])
    assert "No sound track" in refusal(path)


def patched_wav(folder: Path, offset: int, form: str, value: int) -> Path:
    """One second of 16-bit WAV with one field of its 44-byte header replaced."""
    path = write(folder / "patched.wav", tone(1000))
    content = bytearray(path.read_bytes())
    assert content[36:40] == b"data" and len(content) == 44 + 2 * SAMPLE_RATE
    struct.pack_into(form, content, offset, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("offset", "form", "value", "seconds"),
    [
        (40, "<I", 2**32 - 1, 1),  # data size: as a live stream writes it
        (40, "<I", 2**31, 1),
        (40, "<I", 16_000, 0.5),
        (4, "<I", 2**32 - 1, 1),  # file size
        (4, "<I", 0, 1),
        (32, "<H", 0, 1),  # bytes per frame
        (28, "<I", 2**32 - 1, 1),  # bytes per second
    ],
)
def test_a_wav_header_that_lies_about_sizes(tmp_path, offset, form, value, seconds):
    clip = load(patched_wav(tmp_path, offset, form, value))
    assert clip.seconds == seconds
    assert spectral_peak(clip.waveform) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize(
    ("offset", "form", "value", "words"),
    [
        (40, "<I", 0, "empty or damaged"),  # data size
        (24, "<I", 0, "not a sound file"),  # sampling rate
        (24, "<I", 1, "rate is 1 Hz"),
        (24, "<I", 3999, "rate is 3999 Hz"),
        (24, "<I", 2**31 - 1, "rate is 2147483647 Hz"),
        (24, "<I", 2**32 - 1, "not a sound file"),
        (22, "<H", 0, "not a sound file"),  # channels
        (22, "<H", 17, "17 channels"),
        (22, "<H", 2**16 - 1, "not a sound file"),
        (20, "<H", 0x7777, "not a sound file"),  # coding
    ],
)
def test_a_wav_header_that_cannot_be_true(tmp_path, offset, form, value, words):
    assert words in refusal(patched_wav(tmp_path, offset, form, value))


def patched_flac(folder: Path, keep: int, value: int) -> Path:
    """One second of FLAC with its rate (20 bits), channels (3), bits (5), samples (36) masked."""
    path = write(folder / "patched.flac", tone(1000), **SOUNDFILE_FORMATS["flac"])
    content = bytearray(path.read_bytes())
    fields = int.from_bytes(content[18:26], "big")
    assert fields >> 44 == SAMPLE_RATE and fields % 2**36 == SAMPLE_RATE
    content[18:26] = (fields & keep | value).to_bytes(8, "big")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("samples", [0, 2**36 - 1])
def test_a_flac_header_that_lies_about_its_length(tmp_path, samples):
    """0 is how an encoder says that it did not know."""
    assert load(patched_flac(tmp_path, ~(2**36 - 1), samples)).seconds == 1


@pytest.mark.parametrize(("rate", "words"), [(0, "not a sound"), (1, "1 Hz"), (655_350, "655350")])
def test_a_flac_header_that_lies_about_its_rate(tmp_path, rate, words):
    assert words in refusal(patched_flac(tmp_path, 2**44 - 1, rate << 44))


# Bounds

MEASURE = """
import os, sys
import av
from softmoa.audio import load

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

for argument in sys.argv[1:]:
    path, seconds = argument.split("@")
    if not (child := os.fork()):  # the high-water mark of a child starts afresh
        before = peak()
        clip = load(path, float(seconds))
        print(peak() - before, len(clip.waveform), len(clip.notes), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_an_hour_costs_no_more_memory_than_30_s(tmp_path):
    """Peak resident memory of one load in a process of its own, of small files that unpack far."""

    def flac(name: str, rate: int, channels: int, seconds: int) -> Path:
        second = np.zeros((rate, channels), np.int16)
        form = dict(format="FLAC", compression_level=0)
        with soundfile.SoundFile(tmp_path / name, "w", rate, channels, **form) as sound:
            for _ in range(seconds):
                sound.write(second)
        return tmp_path / name

    pairs = {"flac": (flac("30.flac", 16_000, 1, 30), flac("hour.flac", 16_000, 1, 3600))}
    pairs["6 channels"] = flac("w30.flac", 192_000, 6, 30), flac("w60.flac", 192_000, 6, 60)
    for name, codec, form, options in [
        ("mp3", "libmp3lame", "mp3", {"write_xing": "0"}),
        ("ogg", "libopus", "ogg", {}),
        ("m4a", "aac", "ipod", {}),
        ("webm", "libopus", "webm", {}),
        ("aac", "aac", "adts", {}),
    ]:
        pairs[name] = tuple(
            write_hour(tmp_path / f"{seconds}.{name}", 16_000, codec, form, seconds, **options)
            for seconds in (30, 3600)
        )
    silence = np.zeros(31 * SAMPLE_RATE)
    pairs["film"] = tuple(write_film(tmp_path / f"{n}.mp4", n, silence) for n in (64, 4080))
    assert max(path.stat().st_size for pair in pairs.values() for path in pair) < 8e6

    runs = [f"{path}@30" for pair in pairs.values() for path in pair]
    control = f"{pairs['flac'][1]}@300"
    lines = subprocess.run(
        [sys.executable, "-c", MEASURE, *runs, control], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    costs = np.array([line.split() for line in lines], int)
    costs, control_cost = costs[:-1].reshape(len(pairs), 2, 3), costs[-1, 0]
    for name, (short, hour) in zip(pairs, costs, strict=True):
        assert short[1] == pytest.approx(30 * SAMPLE_RATE, abs=SAMPLE_RATE), name
        assert hour[1] == 30 * SAMPLE_RATE, name
        assert hour[2] == 2, f"{name}: silent, and cut to 30 s"
        assert hour[0] < short[0] + 8000, f"{name}: {short[0]} kB against {hour[0]} kB"
    assert control_cost > 30_000, "five minutes unbounded: the measurement would show a leak"


def test_a_packet_that_claims_to_unpack_far_is_refused(tmp_path, monkeypatch):
    """The same limit, made small: libav's own is 2**31."""
    path = write_libav(tmp_path / "sound", noise(8000)[None], 16_000, **LIBAV_FORMATS["m4a"])
    assert load(path).notes == ()
    monkeypatch.setattr(audio, "_LIBAV_MAX_SAMPLES", 1000)
    refusal(path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_no_file_is_left_open_and_nothing_is_printed(tmp_path, capfd):
    good = [write(tmp_path / n, noise(8000, 0.2), **f) for n, f in SOUNDFILE_FORMATS.items()]
    for name, form in LIBAV_FORMATS.items():
        good.append(write_libav(tmp_path / name, noise(8000)[None], 16_000, **form))
    bad = [tmp_path / "text", tmp_path / "half"]
    bad[0].write_text("Dear diary")
    bad[1].write_bytes(good[-3].read_bytes()[:2000])
    before = os.listdir("/proc/self/fd")
    for path in good:
        load(path)
    for path in bad:
        refusal(path)
    assert os.listdir("/proc/self/fd") == before
    assert capfd.readouterr() == ("", "")


# Any input at all


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "sound"


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> dict[str, bytes]:
    """A quarter of a second in each format."""
    folder = tmp_path_factory.mktemp("valid")
    for name, form in SOUNDFILE_FORMATS.items():
        write(folder / name, noise(4000, 0.2), **form)
    for name, form in LIBAV_FORMATS.items():
        write_libav(folder / name, noise(4000)[None], 16_000, **form)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def loads_or_refuses(source: object) -> None:
    try:
        clip = load(source)
    except AudioError:
        refusal(source)
    else:
        assert_usable(clip)


MAGIC = [
    b"",
    b"RIFF\xff\xff\0\0WAVEfmt ",
    b"fLaC\0\0\0\x22",
    b"OggS\0\2",
    b"ID3\4",
    b"\xff\xfb\x90",
]


@settings(max_examples=150)
@given(magic=st.sampled_from(MAGIC), content=st.binary(max_size=2000))
def test_random_bytes_load_or_are_refused(scratch, magic, content):
    scratch.write_bytes(magic + content)
    loads_or_refuses(scratch)


@settings(max_examples=150)
@given(
    name=st.sampled_from(["wav-16", "wav-float", "flac", "vorbis", "opus", *LIBAV_FORMATS]),
    changes=st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=6),
    from_the_end=st.booleans(),
    cut=st.integers(0, 3000) | st.just(0),
)
def test_corrupt_headers_load_or_are_refused(scratch, valid, name, changes, from_the_end, cut):
    """Also the last bytes, where an m4a has its index."""
    content = bytearray(valid[name])
    for place, value in changes:
        content[-1 - place if from_the_end else place] = value
    scratch.write_bytes(content[: len(content) - cut])
    loads_or_refuses(scratch)


NUMBERS = ["i1", "i2", "i4", "u1", "f4", "f8"]


@settings(max_examples=150)
@given(
    rate=st.integers(4000, 192_000) | st.integers(-1, 10**6) | st.floats(),
    samples=st.sampled_from(NUMBERS).flatmap(
        lambda kind: st_numpy.arrays(kind, st_numpy.array_shapes(max_dims=2, max_side=20))
    ),
)
def test_any_array_loads_or_is_refused(rate, samples):
    loads_or_refuses((rate, samples))


@settings(max_examples=60)
@given(
    rate=st.sampled_from([4000, 16_000, 44_100, 192_000]),
    samples=st.sampled_from(NUMBERS).flatmap(
        lambda kind: st_numpy.arrays(
            kind,
            st.tuples(st.integers(1, 100), st.integers(1, 6)),
            # Finite numbers of any size, of which a sound can always be made.
            elements=st_numpy.from_dtype(np.dtype(kind), allow_nan=False, allow_infinity=False),
        )
    ),
)
def test_any_array_of_finite_numbers_loads(rate, samples):
    assert_usable(load((rate, samples)))


# Log-mel


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


def test_twice_the_amplitude_adds_log_4():
    """But in the lowest bands: some lie between two points of the FFT and are always silent."""
    waveform = torch.from_numpy(noise(SAMPLE_RATE, peak=0.4))
    gain = (log_mel(2 * waveform) - log_mel(waveform))[:, 10:]
    assert torch.allclose(gain, torch.tensor(math.log(4) / (2 * 4.5689974)), atol=1e-4)


def test_log_mel_is_normalised_by_mean_and_twice_std():
    waveform = torch.from_numpy(noise(SAMPLE_RATE))
    raw = log_mel(waveform, mean=0, std=0.5)
    assert torch.allclose(log_mel(waveform, mean=3, std=4), (raw - 3) / 8, atol=1e-6)


def test_a_frame_every_10_ms():
    """A click at sample 8100 lies in frames 49 (7840 to 8239) and 50 (8000 to 8399)."""
    waveform = torch.zeros(SAMPLE_RATE)
    waveform[8100] = 1
    loudness = log_mel(waveform).mean(dim=1)
    assert (loudness > loudness.min()).nonzero().flatten().tolist() == [49, 50]


def test_log_mels_of_unequal_clips_equal_each_alone():
    lengths = [1, 160, 399, 2800, 2801, 2960, 16_000, 12_345, 40_000]
    clips = [torch.from_numpy(noise(n, seed=n)).float() for n in lengths]
    together = log_mels(clips)
    assert [len(mel) for mel in together] == [frames_in(n) for n in lengths]
    for clip, mel in zip(clips, together, strict=True):
        assert (mel - log_mel(clip)).abs().max() < 1e-6
    assert log_mels([]) == []


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 16), (1, 16), (2800, 16), (2959, 16), (2960, 17), (16_000, 98), (163_840, 1022)],
)
def test_frames_in(samples, frames):
    """By hand: 1 + (samples - 400) // 160, and 16 at the least."""
    assert frames_in(samples) == frames == len(log_mel(torch.zeros(samples)))


def test_pad_batch():
    mels = [torch.ones(3, 128), torch.ones(5, 128)]
    batch, frames = audio.pad_batch(mels)
    assert batch.shape == (2, 5, 128) and frames.tolist() == [3, 5]
    assert batch[0].sum() == 3 * 128 and batch[0, :3].all() and batch[1].all()


def test_encode_wav_round_trip(tmp_path):
    waveform = torch.from_numpy(noise(8000, peak=1)).float()
    (tmp_path / "sound.wav").write_bytes(audio.encode_wav(waveform, 8000))
    assert soundfile.info(tmp_path / "sound.wav").samplerate == 8000
    (tmp_path / "sound.wav").write_bytes(audio.encode_wav(waveform))
    assert (load(tmp_path / "sound.wav").waveform - waveform).abs().max() <= 2**-15


def test_a_spoken_digit(digit):
    clip = load(digit)
    assert clip.rate == 8000 and clip.notes == ()
    assert clip.seconds == pytest.approx(soundfile.info(digit).duration, abs=1 / SAMPLE_RATE)
