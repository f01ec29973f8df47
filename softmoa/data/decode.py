"""From a sound file to samples at its own rate, whatever it is and wherever it breaks off.

A header is checked before anything is decoded, and no more than a second is ever held. The content
decides the format, never the name. libsndfile reads what it knows, libav (package `av`) the rest;
what neither mends, `streams` does.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import soundfile

from softmoa.data.streams import (
    BREAKS_OFF,
    HOLED,
    View,
    behind,
    first_frame,
    info_bytes,
    mended,
)
from softmoa.data.values import InputError

# Names that sounds go by, for folders, zips and tables: those of what is read below.
SUFFIXES = frozenset(
    ".wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .spx .mp1 .mp2 .mp3 .mpga .aif .aiff .aifc "
    ".au .snd .caf .voc .m4a .m4b .m4r .mp4 .m4v .mov .qt .3gp .3g2 .3gpp .aac .adts .webm .weba "
    ".mka .mkv .amr .awb .ac3 .eac3 .wma .asf .avi .wv .tta .ape .sph .nist".split()
)
MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz
MAX_CHANNELS = 16
LIVE = 2**31 - 2**16  # bytes; live streams claim more, near 2**31 and 2**32, for want of knowledge
TOGETHER = 10  # blocks of a decoder that are handed on in one: a second, of some formats 0.2 s
DAMAGED = "The file is damaged, and only the sound before the damage was used."
LEFT_OUT = "A second part of the file cannot be read beside the first and was left out."


class AudioError(InputError):
    """The sound cannot be used; the message is one sentence for the person who sent it."""


def could_be_sound(path: Path) -> bool:
    """By a suffix of SUFFIXES, or by its content if its name has no suffix ("take 2", "owl.17")."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or re.fullmatch(r"\.[a-z][a-z0-9_~-]*|\.7z", suffix):
        return suffix in SUFFIXES
    try:
        with opened(path):
            return True
    except AudioError:
        return False


@dataclass(frozen=True)
class Stream:
    """A sound as it is decoded: blocks of (samples, channels), float32.

    notes: what is odd about it, all of it known once its blocks were gone through.
    """

    rate: int
    blocks: Iterator[np.ndarray]
    notes: list[str]

    def first(self, max_seconds: float) -> Iterator[np.ndarray]:
        """Its blocks up to `max_seconds`, several in one."""
        left = max_seconds * self.rate
        while several := list(islice(self.blocks, TOGETHER)):
            block = np.concatenate(several)
            yield block[: int(min(left, len(block)))]
            left -= len(block)
            if left < 0:
                self.notes.append(f"Only the first {max_seconds:g} s were used.")
                return


@contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """A file, read as one goes through it. Raises AudioError."""
    if not os.path.exists(path):
        raise AudioError("There is no such file; please choose a sound file.")
    if not os.path.isfile(path):  # never a pipe or a device, which could go on for ever
        what = "a folder" if os.path.isdir(path) else "a pipe or a device and no file"
        raise AudioError(f"This is {what}; please choose a sound file.")
    with ExitStack() as held:
        try:
            data = held.enter_context(path.open("rb", buffering=0))
        except OSError as error:
            raise AudioError(
                f"The file cannot be opened ({error.strerror}); please choose another."
            ) from None
        if not os.fstat(data.fileno()).st_size:
            raise AudioError("The file is empty; please record or export it again.")
        yield _by_libsndfile(data, held)


def checked(rate: float, channels: int) -> int:
    """The rate. Raises AudioError if it or the number of channels cannot be used."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"The sampling rate is {rate} Hz; please convert the sound to a rate from "
            f"{MIN_RATE // 1000} to {MAX_RATE // 1000} kHz."
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"The sound has {channels} channels; please convert it to 1 or 2 "
            f"(up to {MAX_CHANNELS} can be used)."
        )
    return int(rate)


# libsndfile -------------------------------------------------------------------------------------


class _Sound(soundfile.SoundFile):
    """Read straight on: soundfile seeks after every read of a seekable file, which garbles MP3."""

    def __init__(self, source: int | View) -> None:
        super().__init__(source, closefd=False)  # pyright: ignore[reportArgumentType]

    def seekable(self) -> bool:
        return False


def _by_libsndfile(data: io.FileIO, held: ExitStack) -> Stream:
    file = data.fileno()
    start, source, cut = mended(file)
    data.seek(0)
    try:
        # By descriptor where nothing is to be mended: a sound of an hour need not pass by Python.
        sound = _Sound(source or file)
    except soundfile.LibsndfileError:
        data.seek(0)
        try:
            return _by_libav(data, held)
        except AudioError:
            if (start := first_frame(file, 0)) < 0:
                raise
            sound = _Sound(View(file, start))
    held.enter_context(sound)
    rate, notes = checked(sound.samplerate, sound.channels), []
    return Stream(rate, _blocks(file, start, sound, cut, notes), notes)


def _blocks(
    file: int, start: int, sound: soundfile.SoundFile, cut: bool, notes: list[str]
) -> Iterator[np.ndarray]:
    """A tenth of a second at a time, of the stream at `start` and of those behind it."""
    form, holed = (sound.samplerate, sound.channels), False
    while True:
        got = 0
        try:
            while len(block := sound.read(form[0] // 10, dtype="float32", always_2d=True)):
                got += len(block)
                yield block
        except soundfile.LibsndfileError:
            notes.append(DAMAGED)
            return
        following, lacks = behind(file, start)
        cut = cut or lacks == BREAKS_OFF or _lacks(sound, got)
        # Encoders err by less than a tenth of a second in what they say of the length.
        says = sound.format != "MP3" or info_bytes(file, start)
        holed = holed or lacks == HOLED or (says and got < sound.frames - form[0] // 10)
        if following < 0:
            break
        try:
            end = max(behind(file, following)[0], 0)
            sound, start = _Sound(View(file, following, end)), following
            alike = (sound.samplerate, sound.channels) == form
        except soundfile.LibsndfileError:
            alike = False
        if not alike:
            notes.append(LEFT_OUT)
            break
    if cut or holed:
        notes.append(BREAKS_OFF if cut else HOLED)


def _lacks(sound: soundfile.SoundFile, got: int) -> bool:
    """Whether a header promises more than there is, as libsndfile remarks in its log."""
    log = sound.extra_info
    claim = r"(?:data|SSND|[Rr]iff(?: size)?|Data Size)\s*: (\d+) \(should be (\d+)\)"
    short = any(
        64 < int(says) - int(has) and int(says) < LIVE for says, has in re.findall(claim, log)
    )
    return short or "truncated file" in log or (sound.format == "FLAC" and got < sound.frames)


# libav ------------------------------------------------------------------------------------------

# What libav may touch when it opens a file: a playlist would have it read other files and
# addresses, and a look at a video stream would decode a picture of any size.
_LIBAV_OPTIONS = {
    "format_whitelist": (
        "mov,matroska,aac,wav,w64,caf,ogg,aiff,au,voc,amr,ac3,eac3,asf,avi,wv,tta,ape"
    ),
    "codec_whitelist": (
        "aac,alac,opus,vorbis,flac,mp1float,mp2float,mp3,mp3float,speex,ac3,eac3,wmav1,wmav2,"
        "wavpack,tta,ape,amrnb,amrwb,gsm,gsm_ms,g722,g726,g723_1,truespeech,adpcm_ms,"
        "adpcm_ima_wav,adpcm_ima_qt,adpcm_yamaha,adpcm_swf,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,"
        "pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,"
        "pcm_alaw,pcm_mulaw"
    ),
}
_LIBAV_MAX_SAMPLES = 2**20  # in one packet, whose header may claim 2**32
# Format tags of WAV that libsndfile does not read.
_WAV_CODECS = {
    0x22: "TrueSpeech", 0x50: "MPEG layer 2", 0x55: "MP3", 0x64: "G.726", 0x65: "G.722",
    0xFF: "AAC", 0x160: "WMA", 0x161: "WMA", 0x162: "WMA", 0x2000: "AC-3", 0x566F: "Vorbis",
    0xF1AC: "FLAC",
}  # fmt: skip


def _by_libav(data: io.FileIO, held: ExitStack) -> Stream:
    """m4a, aac, webm, FLAC in Ogg and others, through PyAV when it is installed."""
    head = os.pread(data.fileno(), 64, 0)
    unreadable = AudioError(_why_not(head))
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        if head[8:12] == b"WAVE":
            raise unreadable from None
        raise AudioError(
            "This is no sound that can be read without the package 'av' (pip install av), as m4a, "
            "aac and webm cannot; please install it or convert the file to WAV, FLAC, OGG or MP3."
        ) from None
    breaks = (FFmpegError, ValueError, OSError)  # OSError: a header had it look at no place
    try:
        container = av.open(data, "r", metadata_errors="ignore", options=_LIBAV_OPTIONS)
    except breaks:
        raise unreadable from None
    held.enter_context(container)
    if not container.streams.audio:
        raise AudioError("No sound track was found in this file; please choose another.")
    stream = container.streams.audio[0]
    codec = stream.codec_context
    if codec is None or not codec.sample_rate:  # unknown to libav, or a header of noise
        raise unreadable
    rate, notes = checked(codec.sample_rate, codec.channels), []
    codec.options = {"max_samples": str(_LIBAV_MAX_SAMPLES)}
    # Not "fltp": PyAV 18 reads past the last plane of frames with 8 channels or more.
    to_float = av.AudioResampler(format="flt", rate=rate)
    promised = float((stream.duration or 0) * (stream.time_base or 0))
    if "matroska" in container.format.name:
        promised = (container.duration or 0) / 1e6
    claimed = 0  # bytes
    if head[:4] in (b"RIFF", b"caff"):  # of which libav guesses the duration
        promised = 0
    if head[:4] == b"RIFF":
        claimed = int.from_bytes(head[4:8], "little")
    lacks = 64 < claimed - os.fstat(data.fileno()).st_size and claimed < LIVE

    def blocks() -> Iterator[np.ndarray]:
        got = before = last = 0  # samples; bytes of the last two packets
        try:
            for packet in container.demux(stream):
                before, last = (last, packet.size) if packet.size else (before, last)
                for packed in chain.from_iterable(map(to_float.resample, packet.decode())):
                    got += packed.samples
                    yield packed.to_ndarray().reshape(packed.samples, -1)
        except breaks:
            notes.append(DAMAGED)
            return
        following, lacking = behind(data.fileno(), 0)
        ogg = head[:4] == b"OggS"
        # The frames of AC-3 differ by 2 bytes at most; libav fills up what is missing of the last.
        torn = "ac3" in container.format.name and last + 2 < before
        if lacks or torn or got / rate < promised - 0.2 or lacking:
            notes.append(BREAKS_OFF)
        # Of the links of Ogg and the parts of AVI it reads one after another.
        if following > 0 and not ogg and head[8:12] != b"AVI ":
            notes.append(LEFT_OUT)

    return Stream(rate, blocks(), notes)


def _why_not(head: bytes) -> str:
    """One sentence on a file that nothing reads, by its first bytes."""
    if head[:4] == b"RIFF" and len(head) < 44:
        return "The file breaks off within its header; please record or export it again."
    if head[:4] == b"RIFF" and head[8:16] == b"WAVEfmt ":
        tag = int.from_bytes(head[20:22], "little")
        if tag in (1, 3, 6, 7, 0xFFFE):  # PCM and the like
            return "The header of this WAV is damaged; please export the sound again."
        name = _WAV_CODECS.get(tag, f"0x{tag:04X}")
        return (
            f"The sound in this WAV is coded as {name}, which cannot be read here; please export "
            "it as plain WAV (PCM) or as FLAC."
        )
    if head[4:8] == b"ftyp":
        return (
            "This file cannot be read, or it breaks off before its end, where its index is; please "
            "export it again or convert it to WAV, FLAC, OGG or MP3."
        )
    return "This is not a sound file that can be read; please convert it to WAV, FLAC, OGG or MP3."
