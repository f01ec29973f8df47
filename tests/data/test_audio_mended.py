"""What other programs leave: bytes before the first frame, joined streams, sizes of zero."""

import struct

import av
import numpy as np
import pytest
from loading import refusal, spectral_peak
from sounds import SOUNDFILE_FORMATS, noise, packets, tone, wav, write, write_libav

from softmoa.data.audio import ANTIPHASE, SAMPLE_RATE, load
from softmoa.data.decode import BREAKS_OFF, DAMAGED, HOLED, LEFT_OUT

MP3 = SOUNDFILE_FORMATS["mp3"]
ID3 = b"ID3\3\0\0\0\0\0\x64"  # a tag of 100 bytes


def two_seconds(path, hz: float = 1000, **form) -> bytes:
    return write(path, tone(hz, seconds=2), **form).read_bytes()


@pytest.mark.parametrize(
    "junk",
    [
        bytes(5000),
        b"\xff" * 3000,
        ID3 + bytes(100) + bytes(4000),
        ID3.replace(b"\3\0\0", b"\4\0\x10") + bytes(100) + b"3DI\4\0\x10\0\0\0\x64" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n" * 40,
    ],
)
def test_bytes_before_the_first_frame_of_an_mp3(tmp_path, junk):
    content = two_seconds(tmp_path / "a", 1000, **MP3)
    (tmp_path / "a").write_bytes(junk + content)
    clip = load(tmp_path / "a")
    assert clip.seconds == pytest.approx(2, abs=0.1) and clip.notes == ()
    assert spectral_peak(clip.waveform) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize(
    ("form", "between"),
    [
        *((SOUNDFILE_FORMATS[name], b"") for name in ("mp3", "vorbis", "wav-16", "flac")),
        (MP3, ID3 + bytes(100)),
        *(({"format": name}, b"") for name in ("AIFF", "CAF", "AU")),
        ({"format": "AIFF", "subtype": "ULAW"}, b""),
        ({"format": "CAF", "subtype": "ALAC_16"}, b""),
    ],
    ids=lambda of: " ".join(of.values()) if isinstance(of, dict) else "",
)
def test_joined_files_are_read_to_the_end(tmp_path, form, between):
    one, *others = (two_seconds(tmp_path / "a", hz, **form) for hz in (1000, 500, 250))
    (tmp_path / "a").write_bytes(one + b"".join(between + other for other in others))
    clip = load(tmp_path / "a")
    assert clip.seconds == pytest.approx(6, abs=0.02) and clip.notes == ()
    for k, hz in enumerate((1000, 500, 250)):
        part = clip.waveform[2 * k * SAMPLE_RATE : 2 * (k + 1) * SAMPLE_RATE]
        assert spectral_peak(part) == pytest.approx(hz, abs=2)


def without_length(path, samples) -> bytes:
    """An MP3 that does not say how long it is."""
    options = {"write_xing": "0", "id3v2_version": "0"}
    with av.open(str(path), "w", format="mp3", options=options) as container:
        container.mux(list(packets(container, samples[None], SAMPLE_RATE, "mono", "mp3")))
    return path.read_bytes()


def test_an_mp3_whose_first_frame_is_large_is_read_to_the_end(tmp_path):
    """libsndfile guesses the length from that frame."""
    samples = np.concatenate([noise(SAMPLE_RATE), tone(1000, seconds=8)])
    content = write(tmp_path / "a", samples, **MP3).read_bytes()
    (tmp_path / "a").write_bytes(content[content.find(content[:2], 4) :])  # but for the length
    clip = load(tmp_path / "a")
    assert clip.seconds == pytest.approx(9, abs=0.2) and clip.notes == ()


@pytest.mark.parametrize(
    "make", [without_length, lambda path, x: write(path, x, **MP3).read_bytes()]
)
@pytest.mark.parametrize("hole", [bytes(1200), b"", bytes(range(256)) * 12])
def test_an_mp3_damaged_in_its_middle_is_noted(tmp_path, make, hole):
    content = make(tmp_path / "a", noise(4 * SAMPLE_RATE, 0.2))
    assert load(tmp_path / "a").notes == ()
    half = len(content) // 2
    (tmp_path / "a").write_bytes(content[:half] + hole + content[half + 1200 :])
    [note] = load(tmp_path / "a").notes
    assert note in (HOLED, DAMAGED, BREAKS_OFF)


def test_an_ogg_with_a_damaged_page_is_noted(tmp_path):
    content = bytearray(
        write(tmp_path / "a", noise(4 * SAMPLE_RATE, 0.2), format="OGG").read_bytes()
    )
    content[len(content) // 2] ^= 255
    (tmp_path / "a").write_bytes(content)
    clip = load(tmp_path / "a")
    assert clip.seconds < 3.9 and clip.notes == (HOLED,)


KINDS = ["MP3", "WAV", "AIFF", "AU", "OGG", "FLAC", "CAF", "VOC", "W64"]


@pytest.mark.parametrize("other", ["WAV", "FLAC", "AIFF", "OGG", "MP3"])
@pytest.mark.parametrize("first", ["MP3 without length", *KINDS])
def test_joined_files_of_two_kinds_are_read_to_the_end(tmp_path, first, other):
    if first == "MP3 without length":
        one = without_length(tmp_path / "a", tone(1000, seconds=2))
    else:
        one = two_seconds(tmp_path / "a", 1000, format=first)
    (tmp_path / "a").write_bytes(one + two_seconds(tmp_path / "a", 500, format=other))
    clip = load(tmp_path / "a")
    assert clip.seconds == pytest.approx(4, abs=0.2) and clip.notes == ()
    assert spectral_peak(clip.waveform[-SAMPLE_RATE:]) == pytest.approx(500, abs=2)


def test_a_joined_file_of_another_rate_is_noted(tmp_path):
    one, other = two_seconds(tmp_path / "a", **MP3), wav(tone(500, 8000), 8000)
    (tmp_path / "a").write_bytes(one + other)
    clip = load(tmp_path / "a")
    assert clip.seconds == 2 and clip.notes == (LEFT_OUT,)


@pytest.mark.parametrize(
    ("codec", "form", "seconds"),
    [
        *(("aac", "mp4", 1), ("pcm_s16le", "mov", 1), ("g722", "wav", 1), ("mp3", "avi", 2)),
        *(("tta", "tta", 1), ("flac", "matroska", 2), ("libopus", "webm", 2)),
    ],
)
def test_what_libav_leaves_out_of_joined_files_is_noted(tmp_path, codec, form, seconds):
    path = write_libav(tmp_path / "a", tone(500)[None], SAMPLE_RATE, codec, form)
    assert load(path).notes == ()
    path.write_bytes(2 * path.read_bytes())
    clip = load(path)
    assert clip.seconds == pytest.approx(seconds, abs=0.2)
    assert clip.notes == ((LEFT_OUT,) if seconds == 1 else ())


@pytest.mark.parametrize("kinds", [("tta", "wav"), ("wav", "tta"), ("flac", "tta")])
def test_a_second_kind_that_cannot_be_read_is_noted(tmp_path, kinds):
    content = b""
    for k, form in enumerate(kinds):
        codec = {"wav": "pcm_s16le"}.get(form, form)
        path = write_libav(tmp_path / str(k), tone(500)[None], SAMPLE_RATE, codec, form)
        content += path.read_bytes()
    path.write_bytes(content)
    clip = load(path)
    assert clip.seconds == 1 and clip.notes == (LEFT_OUT,)


def test_what_a_flac_says_of_itself_is_no_second_file(tmp_path):
    """Such as the header of the WAV that it was made of."""
    content = two_seconds(tmp_path / "a", format="FLAC")
    kept = b"riff" + wav(tone(500))
    block = b"\2" + len(kept).to_bytes(3, "big") + kept  # behind the first, of 34 bytes
    (tmp_path / "a").write_bytes(content[:42] + block + content[42:])
    clip = load(tmp_path / "a")
    assert clip.seconds == 2 and clip.notes == ()


@pytest.mark.parametrize(
    "form",
    [
        *(dict(format=name) for name in ("AIFF", "W64", "CAF", "RF64")),
        dict(format="WAV", subtype="GSM610"),
        dict(format="CAF", subtype="ALAC_16"),
    ],
)
def test_a_file_that_breaks_off_is_noted_in_every_format(tmp_path, form):
    write(tmp_path / "a", noise(2 * SAMPLE_RATE, 0.2), **form)
    whole = load(tmp_path / "a")
    assert whole.notes == () and whole.seconds == pytest.approx(2, abs=0.05)
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[: len(content) * 2 // 3])
    cut = load(tmp_path / "a")
    assert cut.notes == (BREAKS_OFF,) and 1.1 < cut.seconds < 1.5


@pytest.mark.parametrize(("codec", "form"), [("ac3", "ac3"), ("eac3", "eac3"), ("pcm_u8", "voc")])
def test_what_libav_reads_and_breaks_off_is_noted(tmp_path, codec, form):
    samples = noise(2 * 44_100, 0.2)[None]
    path = write_libav(tmp_path / "a", samples, 44_100, codec, form)
    assert load(path).notes == ()
    path.write_bytes(path.read_bytes()[:-100])
    assert load(path).notes == (BREAKS_OFF,)


@pytest.mark.parametrize("chunks", [b"", b"LIST\x04\0\0\0INFO"])
def test_a_wav_of_a_live_stream_has_sizes_of_zero(tmp_path, chunks):
    content = two_seconds(tmp_path / "a")
    head, sound = content[:36], content[44:]
    head = head[:4] + bytes(4) + head[8:] + chunks
    (tmp_path / "a").write_bytes(head + b"data" + bytes(4) + sound)
    clip = load(tmp_path / "a")
    assert clip.seconds == 2 and spectral_peak(clip.waveform) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("codec", ["g722", "g726", "ac3"])
def test_codings_of_wav_that_libav_reads(tmp_path, codec):
    rate = {"ac3": 44_100, "g726": 8000}.get(codec, 16_000)
    path = write_libav(tmp_path / "a", tone(500, rate)[None], rate, codec, "wav")
    clip = load(path)
    assert clip.seconds == pytest.approx(1, abs=0.1)
    assert spectral_peak(clip.waveform) == pytest.approx(500, abs=5)


def test_a_voc_of_any_kind_is_read(tmp_path):
    """Of the block that holds 8 bits libsndfile reads none."""
    assert (
        load(write_libav(tmp_path / "a", tone(500, 8000)[None], 8000, "pcm_u8", "voc")).rate == 8000
    )
    assert load(write(tmp_path / "a", tone(500, 8000), 8000, format="VOC")).seconds == 1


@pytest.mark.parametrize(("tag", "name"), [(0x2000, "AC-3"), (0x161, "WMA"), (0x1234, "0x1234")])
def test_a_coding_of_wav_that_nothing_reads_is_named(tmp_path, monkeypatch, tag, name):
    content = bytearray(two_seconds(tmp_path / "a"))
    content[20:22] = struct.pack("<H", tag)
    (tmp_path / "a").write_bytes(content)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    message = refusal(tmp_path / "a")
    assert f"coded as {name}," in message and "convert it to WAV" not in message


@pytest.mark.parametrize("second", [-1.0, -0.8])
def test_channels_that_cancel(tmp_path, second):
    samples = tone(1000)
    both = np.stack([second * samples, samples], axis=1)
    for clip in (load(write(tmp_path / "a", both)), load((SAMPLE_RATE, both))):
        assert clip.notes == (ANTIPHASE,)
        assert clip.waveform.abs().max() == pytest.approx(0.5, abs=0.01)
