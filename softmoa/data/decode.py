"""From a sound file to mono samples at its own rate, whatever it is and wherever it breaks off.

A header is checked before anything is decoded, and no more than `max_seconds` are ever held. The
content decides the format, never the name. libsndfile reads what it knows, libav (package `av`)
the rest; what neither mends, `streams` does.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile

from softmoa.data.streams import View, behind, behind_ogg, first_frame, mended
from softmoa.data.values import InputError

# Names that sounds go by, for folders, zips and tables: those of what is read below.
SUFFIXES = frozenset(
    ".wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .spx .mp1 .mp2 .mp3 .mpga .aif .aiff .aifc "
    ".au .snd .caf .voc .m4a .m4b .m4r .mp4 .m4v .mov .qt .3gp .3g2 .3gpp .aac .adts .webm .weba "
    ".mka .mkv .amr .awb .ac3 .eac3 .wma .asf .avi .gsm .wv .tta .ape .sph .nist".split()
)
MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz
MAX_CHANNELS = 16
CANCELLED = 0.4  # of mean power of `n` channels, over n, below which they cancel: correlation -0.6
DAMAGED = "The file is damaged, and only the sound before the damage was used."
BREAKS_OFF = "The file breaks off before its end, and what is there was used."
LEFT_OUT = "A second part of the file cannot be read beside the first and was left out."
ANTIPHASE = "The channels cancel each other, so only the loudest of them was used."

Sound = tuple[int, np.ndarray, list[str]]  # rate, mono samples, notes
Heard = TypeVar("Heard")


class AudioError(InputError):
    """The sound cannot be used; the message is one sentence for the person who sent it."""


def could_be_sound(name: str) -> bool:
    """By its name: a suffix of SUFFIXES, or nothing that is a suffix ("take 2", "owl.17")."""
    suffix = Path(name).suffix.lower()
    return suffix in SUFFIXES or not re.fullmatch(r"\.[a-z][a-z0-9_~-]*|\.7z", suffix)


@dataclass(frozen=True)
class Stream:
    """A sound as mono blocks, (samples,) float32 each, a tenth of a second or so at a time.

    breaks: what `blocks` raises where the file breaks off. ended: notes on a file that was read to
    its end, given how many samples there were.
    """

    rate: int
    blocks: Iterator[np.ndarray]
    breaks: tuple[type[Exception], ...] = ()
    ended: Callable[[int], list[str]] = lambda _: []

    def within(self, max_seconds: float, notes: list[str]) -> Iterator[np.ndarray]:
        """Its blocks up to `max_seconds`; how they ended is put into `notes`."""
        limit, total = max_seconds * self.rate, 0
        try:
            for block in self.blocks:
                yield block[: int(min(limit - total, len(block)))]
                total += len(block)
                if total > limit:
                    notes.append(f"Only the first {max_seconds:g} s were used.")
                    return
        except self.breaks:
            notes.append(DAMAGED)
        else:
            notes.extend(self.ended(total))


def decode(path: Path, max_seconds: float) -> Sound:
    """File -> (rate, mono (samples,) float32, notes). Raises AudioError."""

    def read(mix: Mix) -> Sound:
        with opened(path, mix) as stream:
            return gather(stream, max_seconds)

    return mixed(read)


@contextmanager
def opened(path: Path, mix: Mix) -> Iterator[Stream]:
    """A file, read as one goes through it. Raises AudioError."""
    if not os.path.exists(path):
        raise AudioError("There is no such file; please choose a sound file.")
    if not os.path.isfile(path):  # never a pipe or a device, which could go on for ever
        what = "a folder" if os.path.isdir(path) else "a pipe or a device and no file"
        raise AudioError(f"This is {what}; please choose a sound file.")
    try:
        data = path.open("rb", buffering=0)
    except OSError as error:
        raise AudioError(
            f"The file cannot be opened ({error.strerror}); please choose another."
        ) from None
    with data:
        if not os.fstat(data.fileno()).st_size:
            raise AudioError("The file is empty; please record or export it again.")
        with _opened(data, mix) as stream:
            yield stream


class Mix:
    """Averages channels, or takes one; remembers how loud each is and what is left of them."""

    def __init__(self, channel: int | None = None) -> None:
        self.channel, self.channels, self.left = channel, np.zeros(1), 0.0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(samples, channels) -> (samples,)."""
        mono = block.mean(axis=1) if self.channel is None else block[:, self.channel]
        if block.shape[1] > 1:
            self.channels = self.channels + np.square(block, dtype=np.float64).sum(axis=0)
            self.left += float(np.square(mono, dtype=np.float64).sum())
        return mono

    @property
    def cancelled(self) -> bool:
        return self.left < CANCELLED * self.channels.mean() / len(self.channels)


def mixed(read: Callable[[Mix], tuple[int, Heard, list[str]]]) -> tuple[int, Heard, list[str]]:
    """`read(mix)` with channels averaged, or again with the loudest if they cancel each other."""
    found = read(mix := Mix())
    if mix.cancelled:
        found = read(Mix(int(mix.channels.argmax())))
        found[2].append(ANTIPHASE)
    return found


def checked_rate(rate: float) -> int:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"The sampling rate is {rate} Hz; please convert the sound to a rate from "
            f"{MIN_RATE // 1000} to {MAX_RATE // 1000} kHz."
        )
    return int(rate)


def check_channels(channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"The sound has {channels} channels; please convert it to 1 or 2 "
            f"(up to {MAX_CHANNELS} can be used)."
        )


def gather(stream: Stream, max_seconds: float) -> Sound:
    """All of a stream up to `max_seconds`."""
    notes: list[str] = []
    blocks = list(stream.within(max_seconds, notes))
    return stream.rate, np.concatenate([np.zeros(0, np.float32), *blocks]), notes


# libsndfile -------------------------------------------------------------------------------------


class _Stream(soundfile.SoundFile):
    """Read straight on: soundfile seeks after every read of a seekable file, which garbles MP3."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(data: io.FileIO, mix: Mix) -> Iterator[Stream]:
    start, source, cut = mended(data)
    data.seek(0)
    try:
        # By descriptor where nothing is to be mended: a sound of an hour need not pass by Python.
        sound = _Stream(source or data.fileno(), closefd=False)  # pyright: ignore[reportArgumentType]
    except soundfile.LibsndfileError:
        data.seek(0)
        with ExitStack() as held:
            try:
                stream = held.enter_context(_opened_by_libav(data, mix))
            except AudioError:
                if (start := first_frame(data, 0)) < 0:
                    raise
                sound = _Stream(View(data, start))  # pyright: ignore[reportArgumentType]
            else:
                yield stream
                return
    with sound:
        rate = checked_rate(sound.samplerate)
        check_channels(sound.channels)
        odd = {BREAKS_OFF: None} if cut else {}
        blocks = _blocks(data, start, sound, mix, odd)
        yield Stream(rate, blocks, (soundfile.LibsndfileError,), lambda _: list(odd))


def _blocks(
    data: io.FileIO, start: int, sound: soundfile.SoundFile, mix: Mix, odd: dict[str, None]
) -> Iterator[np.ndarray]:
    """Mono, a tenth of a second at a time, of the stream at `start` and of those behind it; what is
    odd about them is put into `odd`."""
    form = sound.samplerate, sound.channels
    while True:
        got = 0
        while len(block := sound.read(form[0] // 10, dtype="float32", always_2d=True)):
            got += len(block)
            yield mix(block)
        following, whole = behind(data, start)
        if not whole or _lacks(sound, got):
            odd[BREAKS_OFF] = None
        if following < 0:
            return
        try:
            sound = _Stream(View(data, start := following))  # pyright: ignore[reportArgumentType]
        except soundfile.LibsndfileError:
            odd[LEFT_OUT] = None
            return
        if (sound.samplerate, sound.channels) != form:
            odd[LEFT_OUT] = None
            return


def _lacks(sound: soundfile.SoundFile, got: int) -> bool:
    """Whether a header promises more than there is, as libsndfile remarks in its log; sizes near
    2^31 and 2^32 are those of live streams."""
    log = sound.extra_info
    claim = r"(?:data|SSND|[Rr]iff(?: size)?|Data Size)\s*: (\d+) \(should be (\d+)\)"
    short = any(
        64 < int(says) - int(has) and int(says) < 2**31 - 2**16
        for says, has in re.findall(claim, log)
    )
    return short or "truncated file" in log or (sound.format == "FLAC" and got < sound.frames)


# libav ------------------------------------------------------------------------------------------

# What libav may touch when it opens a file: a playlist would have it read other files and
# addresses, and a look at a video stream would decode a picture of any size.
_LIBAV_OPTIONS = {
    "format_whitelist": "mov,matroska,aac,wav,w64,caf,ogg,aiff,au,amr,ac3,eac3,asf,avi,wv,tta,ape",
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
_MAGIC = re.compile(
    rb"....ftyp|\x1aE\xdf\xa3|\xff[\xf1\xf9]|caff|#!AMR|0&\xb2u|wvpk|TTA1|MAC |\x0bw"
    rb"|RIFF....AVI |OggS.{24}.(\x7fFLAC|Speex)|FORM....AIFC",
    re.DOTALL,
)


@contextmanager
def _opened_by_libav(data: io.FileIO, mix: Mix) -> Iterator[Stream]:
    """m4a, aac, webm, FLAC in Ogg and others, through PyAV when it is installed."""
    head = data.read(64)
    data.seek(0)
    unreadable = AudioError(_why_not(head))
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        if _MAGIC.match(head):
            raise AudioError(
                "Reading m4a, aac, webm and some other formats needs the package 'av' (pip install "
                "av); please install it or convert the file to WAV, FLAC, OGG or MP3."
            ) from None
        raise unreadable from None
    breaks = (FFmpegError, ValueError, OSError)  # OSError: a header had it look at no place
    try:
        container = av.open(data, "r", metadata_errors="ignore", options=_LIBAV_OPTIONS)
    except breaks:
        raise unreadable from None
    with container:
        if not container.streams.audio:
            raise AudioError("No sound track was found in this file; please choose another.")
        stream = container.streams.audio[0]
        codec = stream.codec_context
        if codec is None or not codec.sample_rate:  # unknown to libav, or a header of noise
            raise unreadable
        rate = checked_rate(codec.sample_rate)
        check_channels(codec.channels)
        codec.options = {"max_samples": str(_LIBAV_MAX_SAMPLES)}
        # Not "fltp": PyAV 18 reads past the last plane of frames with 8 channels or more.
        to_float = av.AudioResampler(format="flt", rate=rate)
        blocks = (
            mix(packed.to_ndarray().reshape(packed.samples, -1))
            for frame in container.decode(stream)
            for packed in to_float.resample(frame)
        )
        promised = float((stream.duration or 0) * (stream.time_base or 0))
        if "matroska" in container.format.name:
            promised = (container.duration or 0) / 1e6

        def ended(samples: int) -> list[str]:
            short = samples / rate < promised - 0.2
            ogg = head[:4] == b"OggS" and not behind_ogg(data.fileno(), 0)[1]
            return [BREAKS_OFF] if short or ogg else []

        yield Stream(rate, blocks, breaks, ended)


def _why_not(head: bytes) -> str:
    """One sentence on a file that nothing reads, by its first bytes."""
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
