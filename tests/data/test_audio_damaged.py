"""Files that are no sound, end early or lie: refused, or read as far as they are true."""

import os
import struct
from pathlib import Path

import pytest
import torch
from loading import refusal, spectral_peak
from sounds import LIBAV_FORMATS, SOUNDFILE_FORMATS, noise, tone, write, write_libav

from softmoa.data.audio import SAMPLE_RATE, load
from softmoa.data.decode import BREAKS_OFF, DAMAGED

# Bad files


def test_files_that_are_not_there(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.wav")
    assert "no such file" in refusal(str(tmp_path / "null\0byte.wav"))
    assert "no such file" in refusal(tmp_path / ("x" * 300))
    assert "a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")  # not waited for
    assert "a pipe or a device" in refusal(tmp_path / "pipe.wav")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"Dear diary,\n" * 1000, "not a sound file"),
        (bytes(100_000), "not a sound file"),
        (b"RIFF", "breaks off within its header"),
        (b"RIFF\x24\x7d\0\0WAVEfmt \x10\0\0\0", "breaks off within its header"),
        (b"fLaC" + bytes(1000), "not a sound file"),
        (b"OggS" + bytes(1000), "not a sound file"),
        (b"\0\0\0\x18ftypM4A " + bytes(1000), "its index"),
        (b"%PDF-1.7\n" + bytes(range(256)) * 100, "not a sound file"),
    ],
)
def test_files_that_are_no_sound(tmp_path, content, words):
    (tmp_path / "sound.wav").write_bytes(content)
    assert words in refusal(tmp_path / "sound.wav")


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
    [("flac", (DAMAGED,)), *((n, (BREAKS_OFF,)) for n in ("wav-16", "vorbis", "opus", "mp3"))],
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


@pytest.mark.parametrize("form", [("pcm_s16le", "avi"), ("flac", "wav"), ("alac", "caf")])
def test_what_libav_guesses_of_a_duration_is_no_promise(tmp_path, form):
    path = write_libav(tmp_path / "sound", noise(20 * SAMPLE_RATE, 0.2)[None], SAMPLE_RATE, *form)
    content = path.read_bytes()
    whole = load(path)
    assert whole.seconds == pytest.approx(20, abs=0.1) and whole.notes == ()
    if form[1] != "caf":  # its index is at the end
        path.write_bytes(content[: len(content) // 2])
        assert load(path).notes in ((BREAKS_OFF,), (DAMAGED,))


def test_a_truncated_m4a_is_refused(tmp_path):
    """Its index is at the end."""
    path = write_libav(tmp_path / "sound", noise(64_000)[None], 16_000, **LIBAV_FORMATS["m4a"])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "breaks off before its end, where its index is" in refusal(path)
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
        (40, "<I", 16_000, 0.5),
        (40, "<I", 0, 1),
        (4, "<I", 2**32 - 1, 1),  # file size
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
        (24, "<I", 0, "header of this WAV is damaged"),  # sampling rate
        (24, "<I", 3999, "rate is 3999 Hz"),
        (24, "<I", 2**32 - 1, "header of this WAV is damaged"),
        (22, "<H", 0, "0 channels"),  # channels
        (22, "<H", 17, "17 channels"),
        (20, "<H", 0x7777, "coded as 0x7777, which"),  # coding
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
