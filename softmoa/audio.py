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
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor
from torchaudio.compliance import kaldi

SAMPLE_RATE = 16_000  # Hz, of every waveform after `load`
FRAME_SHIFT = 160  # samples: 10 ms, so 100 frames per second
FRAME_LENGTH = 400  # samples: 25 ms
N_MELS = 128
MIN_FRAMES = 16  # one patch of the encoder; shorter clips are padded with silence
MIN_SAMPLES = FRAME_LENGTH + (MIN_FRAMES - 1) * FRAME_SHIFT  # 0.175 s
AUDIOSET_MEAN = -4.2677393  # of the raw log-mel over AudioSet, as the published checkpoints use
AUDIOSET_STD = 4.5689974

MAX_SECONDS = 30.0
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


def load(source: Source, max_seconds: float = MAX_SECONDS) -> Clip:
    """Decode a file, or take `(rate, samples)` as Gradio gives them, to a mono 16 kHz `Clip`.

    Channels are averaged. Samples may be integers (scaled by their full range) or floats, with
    shape (samples,) or (samples, channels). Only the first `max_seconds` are decoded.

    Raises AudioError, with one sentence, for anything that is not a usable sound.
    """
    if isinstance(source, tuple):
        rate, samples = source
        rate = _checked_rate(rate)
        mono, more = _from_array(np.asarray(samples), int(max_seconds * rate))
    else:
        rate, mono, more = _decode(Path(source), max_seconds)
    if not len(mono):
        raise AudioError("There is no sound in this file: it holds no samples.")

    notes = []
    if more:
        notes.append(f"Only the first {max_seconds:g} s were used.")
    bad = ~np.isfinite(mono)
    if bad.all():
        raise AudioError("Every sample of this sound is NaN or infinite; please export it again.")
    if bad.any():
        mono = np.where(bad, np.float32(0), mono)
        notes.append(f"{bad.sum()} samples were NaN or infinite and were set to zero.")
    peak = float(np.abs(mono).max())
    if peak > 1:
        mono = mono / np.float32(peak)
        notes.append(f"The samples went up to {peak:.3g} times full scale and were scaled down.")
    elif np.mean(np.abs(mono) >= 0.999) > 0.01:
        notes.append("The recording is clipped: it was too loud for the microphone or the file.")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    mono = np.clip(mono, -1, 1).astype(np.float32)  # the resampler may overshoot a full-scale edge
    if np.std(mono) < 1e-4:
        notes.append("This sound is silent, or nearly so; the labels mean little.")
    if len(mono) < MIN_SAMPLES:
        notes.append(
            f"The sound lasts {1000 * len(mono) / SAMPLE_RATE:.0f} ms and was padded with silence "
            f"to {1000 * MIN_SAMPLES // SAMPLE_RATE} ms, one patch of the model."
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
    """`log_mel` of many clips in one call: [(samples_i,)] -> [(frames_i, 128)].

    Kaldi frames are computed independently of each other, so clips laid end to end on the 10 ms
    grid give the frames of each; the few that straddle two clips are thrown away.
    """
    lengths = [max(len(w), MIN_SAMPLES) for w in waveforms]
    slots = [-(-n // FRAME_SHIFT) * FRAME_SHIFT for n in lengths]
    joined = torch.zeros(sum(slots) + FRAME_LENGTH, dtype=torch.float32)
    starts = np.cumsum([0, *slots[:-1]])
    for start, waveform in zip(starts, waveforms, strict=True):
        joined[start : start + len(waveform)] = waveform
    frames = kaldi.fbank(
        joined[None],
        sample_frequency=SAMPLE_RATE,
        frame_shift=10.0,
        frame_length=25.0,
        num_mel_bins=N_MELS,
        window_type="hanning",
        htk_compat=True,
        use_energy=False,
        dither=0.0,
    )
    frames = (frames - mean) / (2 * std)
    return [
        frames[start // FRAME_SHIFT :][: frames_in(length)]
        for start, length in zip(starts, lengths, strict=True)
    ]


def frames_in(samples: int) -> int:
    """Number of log-mel frames of a waveform of so many samples at 16 kHz."""
    return 1 + (max(samples, MIN_SAMPLES) - FRAME_LENGTH) // FRAME_SHIFT


def pad_batch(mels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[(frames_i, 128)] -> (b, max frames, 128) padded with zeros, and the true frames (b,)."""
    frames = torch.tensor([len(mel) for mel in mels])
    return torch.nn.utils.rnn.pad_sequence(list(mels), batch_first=True), frames


def _checked_rate(rate: int) -> int:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"The sampling rate is {rate} Hz; rates from {MIN_RATE // 1000} to "
            f"{MAX_RATE // 1000} kHz can be used."
        )
    return int(rate)


def _checked_channels(channels: int) -> int:
    if channels > MAX_CHANNELS:
        raise AudioError(f"The file has {channels} channels; up to {MAX_CHANNELS} can be used.")
    return channels


def _from_array(samples: np.ndarray, limit: int) -> tuple[np.ndarray, bool]:
    """(samples,) or (samples, channels) of any number type -> mono float32, and if it was cut."""
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "iuf":
        raise AudioError("Samples must be numbers with shape (samples,) or (samples, channels).")
    if samples.ndim == 2:
        _checked_channels(samples.shape[1])
    more = len(samples) > limit
    samples = samples[:limit]
    kind = samples.dtype
    if kind.kind in "iu":
        bits = np.iinfo(kind).bits
        samples = samples.astype(np.float32) / 2.0 ** (bits - 1) - (kind.kind == "u")
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    return mono.astype(np.float32), more


def _decode(path: Path, max_seconds: float) -> tuple[int, np.ndarray, bool]:
    """File -> (rate, mono float32 samples, whether there was more)."""
    try:
        data = path.open("rb")
    except OSError as error:
        raise AudioError(f"The file cannot be opened: {error.strerror}.") from None
    with data:
        if not data.read(1):
            raise AudioError("The file is empty.")
        data.seek(0)
        # Opened by content and not by path, so that a wrong extension does no harm.
        try:
            sound = soundfile.SoundFile(data)
        except (soundfile.LibsndfileError, TypeError, ValueError):
            return _decode_container(path, max_seconds)
        with sound:
            rate = _checked_rate(sound.samplerate)
            _checked_channels(sound.channels)
            mono, more = _gather(_blocks(sound), int(max_seconds * rate))
    return rate, mono, more


def _blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Half a second at a time; a file that breaks off gives what came before the break."""
    while True:
        try:
            block = sound.read(sound.samplerate // 2, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            return
        if not len(block):
            return
        yield block.mean(axis=1)


def _decode_container(path: Path, max_seconds: float) -> tuple[int, np.ndarray, bool]:
    """m4a, aac, webm and other containers, through PyAV when it is installed."""
    unreadable = "This is not an audio file that can be read: try WAV, FLAC, OGG or MP3."
    try:
        import av
    except ImportError:
        if _is_container(path):
            raise AudioError(
                "Reading m4a, aac and webm needs the package 'av' (pip install av); "
                "or convert the file to WAV, FLAC, OGG or MP3."
            ) from None
        raise AudioError(unreadable) from None
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError("There is no sound in this file.")
            stream = container.streams.audio[0]
            rate = _checked_rate(stream.rate or 0)
            _checked_channels(stream.channels)
            to_float = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
            mono, more = _gather(
                (
                    planes.to_ndarray().mean(axis=0)
                    for frame in container.decode(stream)
                    for planes in to_float.resample(frame)
                ),
                int(max_seconds * rate),
            )
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(unreadable) from None
    return rate, mono, more


def _is_container(path: Path) -> bool:
    """ISO media (m4a, mp4), Matroska (webm) or raw AAC, by their first bytes."""
    with path.open("rb") as data:
        head = data.read(12)
    return (
        head[4:8] == b"ftyp"
        or head[:4] == b"\x1aE\xdf\xa3"
        or head[:2] in (b"\xff\xf1", b"\xff\xf9")
    )


def _gather(blocks: Iterable[np.ndarray], limit: int) -> tuple[np.ndarray, bool]:
    """Mono blocks up to `limit` samples, and whether there were more."""
    kept, total = [np.zeros(0, np.float32)], 0
    for block in blocks:
        kept.append(block)
        total += len(block)
        if total > limit:
            break
    return np.concatenate(kept)[:limit].astype(np.float32), total > limit


def encode_wav(waveform: Tensor, rate: int = SAMPLE_RATE) -> bytes:
    """(samples,) in [-1, 1] -> the bytes of a 16-bit WAV file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.numpy(), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
