"""From a file or a microphone to the log-mel spectrogram an AST reads.

    path or (rate, samples) --load--> Clip: mono float32 at 16 kHz --log_mel--> (frames, 128)

Everything here is bounded: a header is checked before anything is decoded, and no more than
`max_seconds` of sound is ever held in memory, whatever the file claims or unpacks to.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor, nn
from torchaudio.compliance import kaldi

from softmoa.limits import LIMITS

SAMPLE_RATE = 16_000  # Hz, of every waveform after `load`
FRAME_SHIFT = 160  # samples: 10 ms, so 100 frames per second
FRAME_LENGTH = 400  # samples: 25 ms
N_MELS = 128
MIN_FRAMES = 16  # one patch of the encoder; shorter clips are padded with silence
MIN_SAMPLES = FRAME_LENGTH + (MIN_FRAMES - 1) * FRAME_SHIFT  # 0.175 s
AUDIOSET_MEAN = -4.2677393  # of the raw log-mel over AudioSet, as the published checkpoints use
AUDIOSET_STD = 4.5689974

MAX_SECONDS = LIMITS.audio_seconds
MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz
MAX_CHANNELS = 16

Source = str | os.PathLike | tuple[int, np.ndarray]


class AudioError(ValueError):
    """The sound cannot be used; the message is one sentence for the person who sent it."""


@dataclass(frozen=True)
class Clip:
    """A sound ready for the model.

    waveform: (samples,) float32, mono, 16 kHz, |x| <= 1.
    rate: sampling rate of the source in Hz.
    notes: what was done to the sound or is odd about it, one plain sentence each.
    """

    waveform: Tensor
    rate: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.waveform) / SAMPLE_RATE


@np.errstate(over="ignore", invalid="ignore")  # averaging channels of 1e38 or infinity
def load(source: Source, max_seconds: float = MAX_SECONDS) -> Clip:
    """Decode a file, or take `(rate, samples)` as Gradio gives them, to a mono 16 kHz `Clip`.

    Channels are averaged. Samples may be integers (scaled by their full range) or floats, with
    shape (samples,), (samples, channels) or (channels, samples): an axis longer than
    `MAX_CHANNELS` is time, and where both are short the first is. Only the first `max_seconds`
    are decoded; a file that breaks off gives what came before the break.

    Raises AudioError, with one sentence, for anything that is not a usable sound.
    """
    if isinstance(source, tuple):
        rate, mono, notes = _from_array(*source, max_seconds)
    else:
        rate, mono, notes = _decode(Path(source), max_seconds)
    if not len(mono):
        raise AudioError("The sound is empty or damaged; please record or export it again.")

    bad = ~np.isfinite(mono)
    if bad.all():
        raise AudioError("Every sample of this sound is NaN or infinite; please export it again.")
    if bad.any():
        mono = np.where(bad, np.float32(0), mono)
        notes.append(f"Damaged samples (NaN or infinite) were set to zero: {bad.sum()}.")
    peak = float(np.abs(mono).max())
    if peak > 1:
        mono = mono / peak
        notes.append(f"The sound went beyond full scale ({peak:.3g} times) and was turned down.")
    elif _flat_tops(mono) > 0.005:  # a full-scale sine in 16 bits has at most 0.0035
        notes.append("The sound is clipped: it was too loud for the microphone or the file.")
    mono = mono.astype(np.float32, copy=False)
    if np.std(mono) < 1e-4:  # before resampling, whose edges turn a constant into two clicks
        notes.append("This sound is silent, or nearly so, and its labels mean little.")
    seconds = len(mono) / rate
    if rate != SAMPLE_RATE:
        resampled = soxr.resample(mono, rate, SAMPLE_RATE)
        mono = resampled if len(resampled) else mono[:1]  # of less than half a sample soxr keeps 0
        mono = np.clip(mono, -1, 1)  # it may overshoot a full-scale edge
    if len(mono) < MIN_SAMPLES:
        notes.append(
            f"The sound lasts {1000 * seconds:.3g} ms and was padded with silence to "
            f"{1000 * MIN_SAMPLES // SAMPLE_RATE} ms, the least the model can read."
        )
    return Clip(torch.from_numpy(mono), rate, tuple(notes))


def log_mel(waveform: Tensor, mean: float = AUDIOSET_MEAN, std: float = AUDIOSET_STD) -> Tensor:
    """Normalised log-mel spectrogram as AST was trained on.

    waveform: (samples,) float at 16 kHz -> (frames, 128), one frame every 10 ms.
    Hann windows of 25 ms, 512-point FFT, 128 mel bands from 20 Hz to 8 kHz, natural logarithm,
    then (x - mean) / (2 std). A waveform shorter than one patch is padded with silence.
    Source: Gong et al. 2021 (AST), section 2.1 and its released front end.
    """
    return log_mels([waveform], mean, std)[0]


def log_mels(
    waveforms: Sequence[Tensor], mean: float = AUDIOSET_MEAN, std: float = AUDIOSET_STD
) -> list[Tensor]:
    """`log_mel` of many clips in one call, on the device they lie on.

    [(samples_i,)] -> [(frames_i, 128)].
    """
    mels: list[Tensor] = []
    for pack in _packs(waveforms):
        frames, starts = _frames(pack)
        part = _part(frames)
        packed = torch.empty(len(frames), N_MELS, device=frames.device)
        for some, out in zip(frames.split(part), packed.split(part), strict=True):
            torch.sub(_fbank(some), mean, out=out).div_(2 * std)
        mels += [packed[at:][: frames_in(len(w))] for at, w in zip(starts, pack, strict=True)]
    return mels


def _packs(waveforms: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The clips in their order, so many together as make one part; a long one alone."""
    pack: list[Tensor] = []
    total = 0
    for waveform in waveforms:
        frames = len(waveform) // FRAME_SHIFT + 1
        if pack and total + frames > _part(waveform):
            yield pack
            pack, total = [], 0
        pack.append(waveform)
        total += frames
    if pack:
        yield pack


def _frames(pack: list[Tensor]) -> tuple[Tensor, list[int]]:
    """All frames (n, 400) of some clips, and where those of each begin.

    Frames are computed independently of each other, so clips laid end to end on the 10 ms grid give
    the frames of each; the few that straddle two clips are not used.
    """
    if len(pack) == 1 and len(pack[0]) >= MIN_SAMPLES:
        return pack[0].float().unfold(0, FRAME_LENGTH, FRAME_SHIFT), [0]
    slots = [-(-max(len(w), MIN_SAMPLES) // FRAME_SHIFT) for w in pack]
    starts = (np.cumsum(slots, dtype=int) - slots).tolist()
    joined = torch.zeros(sum(slots) * FRAME_SHIFT + FRAME_LENGTH, device=pack[0].device)
    for start, waveform in zip(starts, pack, strict=True):
        joined[start * FRAME_SHIFT :][: len(waveform)] = waveform
    return joined.unfold(0, FRAME_LENGTH, FRAME_SHIFT), starts


def _part(x: Tensor) -> int:
    return _GPU_FRAMES if x.is_cuda else _CPU_FRAMES


# Frames at a time: what a core's cache holds, and what fills a GPU.
_CPU_FRAMES, _GPU_FRAMES = 1024, 2**17
_FFT = 512
_PREEMPHASIS = 0.97


def _fbank(frames: Tensor) -> Tensor:
    """(n, 400) samples -> (n, 128) log-mel energies, equal to torchaudio's `kaldi.fbank`.

    torchaudio's own holds a dozen arrays of a whole clip, builds its filters anew at every call,
    and takes one clip at a time.
    """
    window, filters = _front_end(frames.device)
    centred = frames - frames.mean(dim=1, keepdim=True)
    padded = frames.new_zeros(len(frames), _FFT)
    x = padded[:, :FRAME_LENGTH]
    torch.mul(centred[:, :-1], -_PREEMPHASIS, out=x[:, 1:])
    torch.mul(centred[:, 0], -_PREEMPHASIS, out=x[:, 0])
    x.add_(centred).mul_(window)
    parts = torch.view_as_real(torch.fft.rfft(padded)).flatten(1)  # (n, 514): real, imaginary, ...
    squares = parts.square_()  # pairs of them are the power; the filters add them up
    mel = torch.cat([squares[:, reach] @ weights for reach, weights in filters], dim=1)
    return mel.clamp_(min=torch.finfo(mel.dtype).eps).log_()


@lru_cache(maxsize=4)
def _front_end(device: torch.device) -> tuple[Tensor, list[tuple[slice, Tensor]]]:
    """Symmetric Hann window (400,) and the triangular mel filters, 16 at a time.

    Each part is what its filters reach of the squared parts of the spectrum, an eighth on average,
    and their weights (reached, 16), the same for the real and the imaginary part of a bin.
    """
    # Low and high edge in Hz, and three numbers of vocal tract normalisation, which 1.0 leaves out.
    triangles, _ = kaldi.get_mel_banks(N_MELS, _FFT, SAMPLE_RATE, 20.0, 0.0, 100.0, -500.0, 1.0)
    filters = []
    for weights in triangles.T.repeat_interleave(2, dim=0).split(16, dim=1):
        reached = weights.sum(dim=1).nonzero().flatten().tolist()
        reach = slice(reached[0], reached[-1] + 1)
        filters.append((reach, weights[reach].contiguous().to(device)))
    return torch.hann_window(FRAME_LENGTH, periodic=False).to(device), filters


def frames_in(samples: int) -> int:
    """Number of log-mel frames of a waveform of so many samples at 16 kHz."""
    return 1 + (max(samples, MIN_SAMPLES) - FRAME_LENGTH) // FRAME_SHIFT


def pad_as_trained(mel: Tensor, frames: int = 1024) -> Tensor:
    """Cut or pad (n, mels) to `frames` as the published checkpoints were trained.

    The padding is zero before normalisation, so it is louder than the average sound.
    """
    zero = -AUDIOSET_MEAN / (2 * AUDIOSET_STD)
    return nn.functional.pad(mel[:frames], (0, 0, 0, max(frames - len(mel), 0)), value=zero)


def pad_batch(mels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[(frames_i, 128)] -> (b, max frames, 128) padded with zeros, and the true frames (b,)."""
    frames = torch.tensor([len(mel) for mel in mels])
    return nn.utils.rnn.pad_sequence(list(mels), batch_first=True), frames


def _checked_rate(rate: float) -> int:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"The sampling rate is {rate} Hz; please convert the sound to a rate from "
            f"{MIN_RATE // 1000} to {MAX_RATE // 1000} kHz."
        )
    return int(rate)


def _check_channels(channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"The sound has {channels} channels; please convert it to 1 or 2 "
            f"(up to {MAX_CHANNELS} can be used)."
        )


def _flat_tops(mono: np.ndarray) -> float:
    """Share of samples at full scale that equal the one before, as clipping leaves them."""
    flat = (np.abs(mono[1:]) >= 0.999) & (mono[1:] == mono[:-1])
    return np.count_nonzero(flat) / len(mono)


def _from_array(
    rate: float, samples: np.ndarray, max_seconds: float
) -> tuple[int, np.ndarray, list[str]]:
    """Samples of any number type -> (rate, mono, notes)."""
    rate, samples = _checked_rate(rate), np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "iuf":
        raise AudioError(
            f"The samples are {samples.dtype} of shape {samples.shape}; please give numbers of "
            "shape (samples,) or (samples, channels)."
        )
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] <= MAX_CHANNELS < samples.shape[1]:
        samples = samples.T
    _check_channels(samples.shape[1])
    # One sample more than will be kept shows that there was more.
    mono = samples[: int(max_seconds * rate) + 1].mean(axis=1, dtype=np.float64)
    if samples.dtype.kind in "iu":
        mono = mono / 2.0 ** (np.iinfo(samples.dtype).bits - 1) - (samples.dtype.kind == "u")
    return rate, *_gather([mono], rate, max_seconds)


class _Stream(soundfile.SoundFile):
    """Read straight on: soundfile seeks after every read of a seekable file, which garbles MP3."""

    def seekable(self) -> bool:
        return False


def _decode(path: Path, max_seconds: float) -> tuple[int, np.ndarray, list[str]]:
    """File -> (rate, mono float32, notes)."""
    if not os.path.isfile(path):  # never a pipe or a device, which could go on for ever
        what = "This is a folder" if os.path.isdir(path) else "There is no such file"
        raise AudioError(f"{what}; please choose a sound file.")
    try:
        data = path.open("rb", buffering=0)
    except OSError as error:
        raise AudioError(
            f"The file cannot be opened ({error.strerror}); please choose another."
        ) from None
    with data:
        if not os.fstat(data.fileno()).st_size:
            raise AudioError("The file is empty; please record or export it again.")
        # By descriptor, so that the content decides the format and never the name.
        try:
            sound = _Stream(data.fileno(), closefd=False)
        except soundfile.LibsndfileError:
            data.seek(0)
            return _decode_container(data, max_seconds)
        with sound:
            rate = _checked_rate(sound.samplerate)
            _check_channels(sound.channels)
            return rate, *_gather(_blocks(sound), rate, max_seconds, soundfile.LibsndfileError)


def _blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Mono, a tenth of a second at a time."""
    while len(block := sound.read(sound.samplerate // 10, dtype="float32", always_2d=True)):
        yield block.mean(axis=1)


# What libav may touch when it opens a file: a playlist would have it read other files and
# addresses, and a look at a video stream would decode a picture of any size.
_LIBAV_OPTIONS = {
    "format_whitelist": "mov,matroska,aac",
    "codec_whitelist": "aac,alac,opus,vorbis,flac,mp3,mp3float,pcm_s16le,pcm_s24le,pcm_f32le",
}
_LIBAV_MAX_SAMPLES = 2**20  # in one packet, whose header may claim 2**32


def _decode_container(data: io.FileIO, max_seconds: float) -> tuple[int, np.ndarray, list[str]]:
    """m4a, aac, webm and other containers, through PyAV when it is installed."""
    unreadable = AudioError(
        "This is not a sound file that can be read; please convert it to WAV, FLAC, OGG or MP3."
    )
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        if _is_container(data):
            raise AudioError(
                "Reading m4a, aac and webm needs the package 'av' (pip install av); "
                "please install it or convert the file to WAV, FLAC, OGG or MP3."
            ) from None
        raise unreadable from None
    breaks = (FFmpegError, ValueError)
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
        rate = _checked_rate(codec.sample_rate)
        _check_channels(codec.channels)
        codec.options = {"max_samples": str(_LIBAV_MAX_SAMPLES)}
        # Not "fltp": PyAV 18 reads past the last plane of frames with 8 channels or more.
        to_float = av.AudioResampler(format="flt", rate=rate)
        blocks = (
            packed.to_ndarray().reshape(packed.samples, -1).mean(axis=1)
            for frame in container.decode(stream)
            for packed in to_float.resample(frame)
        )
        return rate, *_gather(blocks, rate, max_seconds, breaks)


def _is_container(data: io.FileIO) -> bool:
    """ISO media (m4a, mp4), Matroska (webm) or raw AAC, by their first bytes."""
    head = data.read(12)
    return (
        head[4:8] == b"ftyp"
        or head[:4] == b"\x1aE\xdf\xa3"
        or head[:2] in (b"\xff\xf1", b"\xff\xf9")
    )


def _gather(
    blocks: Iterable[np.ndarray],
    rate: int,
    max_seconds: float,
    breaks: type[Exception] | tuple[type[Exception], ...] = (),
) -> tuple[np.ndarray, list[str]]:
    """Mono blocks up to `max_seconds`, and notes on how they ended.

    breaks: what the decoder raises where a file breaks off.
    """
    limit, kept, total, notes = int(max_seconds * rate), [np.zeros(0, np.float32)], 0, []
    try:
        for block in blocks:
            kept.append(block)
            total += len(block)
            if total > limit:
                notes.append(f"Only the first {max_seconds:g} s were used.")
                break
    except breaks:
        notes.append("The file is damaged, and only the sound before the damage was used.")
    return np.concatenate(kept)[:limit], notes


def encode_wav(waveform: Tensor, rate: int = SAMPLE_RATE) -> bytes:
    """(samples,) in [-1, 1] -> the bytes of a 16-bit WAV file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.numpy(), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
