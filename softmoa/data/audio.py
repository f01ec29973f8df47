"""From a file or a microphone to the log-mel spectrogram an AST reads.

    path or (rate, samples) --load--> Clip: mono float32 at 16 kHz --log_mel--> (frames, 128)

Everything here is bounded: a header is checked before anything is decoded, and no more than
`max_seconds` of sound is ever held in memory, whatever the file claims or unpacks to.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor, nn
from torchaudio.compliance import kaldi

from softmoa.data.decode import MAX_CHANNELS, AudioError, Stream, checked, opened
from softmoa.data.limits import limits

SAMPLE_RATE = 16_000  # Hz, of every waveform after `load`
FRAME_SHIFT = 160  # samples: 10 ms, so 100 frames per second
FRAME_LENGTH = 400  # samples: 25 ms
N_MELS = 128
MIN_FRAMES = 16  # one patch of the encoder; shorter clips are padded with silence
MIN_SAMPLES = FRAME_LENGTH + (MIN_FRAMES - 1) * FRAME_SHIFT  # 0.175 s
AUDIOSET_MEAN = -4.2677393  # of the raw log-mel over AudioSet, as the published checkpoints use
AUDIOSET_STD = 4.5689974
LARGEST = 1e306  # of any sample
CANCELLED = 0.4  # of mean power of `n` channels, over n, below which they cancel: correlation -0.6
SILENT = 1e-3  # RMS of the loudest 10 ms below which nothing is heard

SILENT_NOTE = "This sound is silent, or nearly so, and its labels mean little."
ANTIPHASE = "The channels cancel each other, so only the loudest of them was used."

Source = str | os.PathLike | tuple[int, np.ndarray]


@dataclass(frozen=True)
class FrontEnd:
    """The log-mel of a checkpoint: its bands, and mean and deviation of what it was trained on."""

    mels: int = N_MELS
    mean: float = AUDIOSET_MEAN
    std: float = AUDIOSET_STD


AUDIOSET = FrontEnd()


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


class Mix:
    """Makes one channel of a sound, block by block, and remembers what is odd about it.

    channel: the one that is taken, None: the mean of all.
    """

    def __init__(self, channel: int | None = None) -> None:
        self.channel, self.channels = channel, np.zeros(1)  # power of each
        self.samples = self.damaged = self.lost = self.flat = 0
        self.peak = self.sum = self.power = 0.0

    @np.errstate(over="ignore", invalid="ignore")  # samples of 1e38 or infinity
    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(samples, channels) -> (samples,), zero where they are damaged."""
        read = block if self.channel is None else block[:, [self.channel]]
        finite = np.isfinite(read)
        heard = finite.sum(axis=1, keepdims=True)  # channels; a damaged one is left out of the mean
        mono = (np.where(finite, read, 0) / np.maximum(heard, 1)).astype(block.dtype).sum(axis=1)
        self.samples, self.lost = self.samples + len(mono), self.lost + int((heard == 0).sum())
        self.damaged += int((~finite.all(axis=1)).sum())
        self.peak = max(self.peak, float(np.abs(mono).max(initial=0)))
        self.flat += int(((np.abs(mono[1:]) >= 0.999) & (mono[1:] == mono[:-1])).sum())
        wide = mono.astype(np.float64)
        self.sum, self.power = self.sum + float(wide.sum()), self.power + float(wide @ wide)
        if block.shape[1] > 1:
            whole = np.where(np.isfinite(block), block, 0)
            self.channels = self.channels + np.square(whole, dtype=np.float64).sum(axis=0)
        return mono

    @property
    def cancelled(self) -> bool:
        """Whether the mean of all channels is much less than they are."""
        mean = self.channels.mean() / len(self.channels)
        return self.channel is None and self.power < CANCELLED * mean

    def turned_down(self, mono: np.ndarray) -> np.ndarray:
        """A block as float32, within full scale if the whole sound was heard before."""
        return (mono / max(self.peak, 1.0)).astype(np.float32, copy=False)

    def notes(self) -> list[str]:
        """One plain sentence each. Raises AudioError if nothing of the sound can be used."""
        if not self.samples:
            raise AudioError("The sound is empty or damaged; please record or export it again.")
        if self.lost == self.samples:
            raise AudioError(
                "Every sample of this sound is NaN or infinite; please export it again."
            )
        notes = [] if self.channel is None else [ANTIPHASE]
        if self.damaged:
            notes.append(f"Damaged samples (NaN or infinite) were left out: {self.damaged}.")
        if self.peak > 1:
            notes.append(
                f"The sound went beyond full scale ({self.peak:.3g} times) and was turned down."
            )
        elif self.flat > 0.005 * self.samples:  # a full-scale sine in 16 bits has at most 0.0035
            notes.append("The sound is clipped: it was too loud for the microphone or the file.")
        # Before resampling, whose edges turn a constant into two clicks.
        mean = self.sum / self.samples
        variance = self.power / self.samples - mean * mean
        if math.sqrt(max(variance, 0)) < 1e-4 * max(self.peak, 1.0):
            notes.append(SILENT_NOTE)
        return notes


@dataclass(frozen=True)
class Heard:
    """A sound that was gone through.

    mono: (samples,) at its own rate. mix: what made it of the channels. notes: on the file.
    """

    rate: int
    mono: np.ndarray
    mix: Mix
    notes: list[str]


def hear(
    source: Source, max_seconds: float, keep: bool = True, channel: int | None = None
) -> Heard:
    """Go through a sound once, or again for its loudest channel if they cancel each other.

    keep: whether `mono` is wanted. Raises AudioError.
    """
    mix, kept = Mix(channel), [np.zeros(0, np.float32)]
    with _opening(source, max_seconds) as stream:
        for block in stream.first(max_seconds):
            mono = mix(block)
            if keep:
                kept.append(mono)
    if mix.cancelled:
        return hear(source, max_seconds, keep, int(mix.channels.argmax()))
    return Heard(stream.rate, np.concatenate(kept), mix, stream.notes)


def load(source: Source, max_seconds: float | None = None) -> Clip:
    """Decode a file, or take `(rate, samples)` as Gradio gives them, to a mono 16 kHz `Clip`.

    Channels are averaged. Samples may be integers (scaled by their full range) or floats, with
    shape (samples,), (samples, channels) or (channels, samples): an axis longer than
    `MAX_CHANNELS` is time, and where both are short the first is. Only the first `max_seconds`
    (`limits().audio_seconds`) are decoded; a file that breaks off gives what came before the break.

    Raises AudioError, with one sentence, for anything that is not a usable sound.
    """
    max_seconds = limits().audio_seconds if max_seconds is None else max_seconds
    heard = hear(source, max_seconds)
    rate, notes = heard.rate, [*heard.notes, *heard.mix.notes()]
    mono = heard.mix.turned_down(heard.mono)
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


def loudest(waveform: Tensor) -> float:
    """RMS of the loudest 10 ms of (samples,) at 16 kHz."""
    frames = nn.functional.pad(waveform, (0, -len(waveform) % FRAME_SHIFT)).view(-1, FRAME_SHIFT)
    return frames.square().mean(dim=1).sqrt().max().item()


def loudest_part(waveform: Tensor, seconds: float) -> Tensor:
    """(samples,) -> its window of so many seconds with the most energy, to the tenth of a second;
    the first of several that are alike."""
    window, step = int(seconds * SAMPLE_RATE), SAMPLE_RATE // 10
    if len(waveform) <= window:
        return waveform
    energy = nn.functional.pad(waveform.double().square().cumsum(dim=0), (1, 0))
    starts = torch.arange(0, len(waveform) - window + 1, step)
    heard = energy[starts + window] - energy[starts]
    start = int(starts[(heard >= 0.999 * heard.max()).nonzero()[0]])
    return waveform[start : start + window]


def log_mel(waveform: Tensor, front_end: FrontEnd = AUDIOSET) -> Tensor:
    """Normalised log-mel spectrogram as AST was trained on.

    waveform: (samples,) float at 16 kHz -> (frames, mels), one frame every 10 ms.
    Hann windows of 25 ms, 512-point FFT, mel bands from 20 Hz to 8 kHz, natural logarithm,
    then (x - mean) / (2 std). A waveform shorter than one patch is padded with silence.
    Source: Gong et al. 2021 (AST), section 2.1 and its released front end.
    """
    padded = nn.functional.pad(waveform.float(), (0, max(0, MIN_SAMPLES - len(waveform))))
    raw = kaldi.fbank(
        padded[None],
        sample_frequency=SAMPLE_RATE,
        num_mel_bins=front_end.mels,
        window_type="hanning",
        htk_compat=True,
        use_energy=False,
        dither=0.0,
    )
    return (raw - front_end.mean) / (2 * front_end.std)


def frames_in(samples: int) -> int:
    """Number of log-mel frames of a waveform of so many samples at 16 kHz."""
    return 1 + (max(samples, MIN_SAMPLES) - FRAME_LENGTH) // FRAME_SHIFT


def seconds_of(frames: int) -> float:
    """The shortest sound of so many log-mel frames."""
    return (FRAME_LENGTH + (frames - 1) * FRAME_SHIFT) / SAMPLE_RATE


def pad_batch(mels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[(frames_i, 128)] -> (b, max frames, 128) padded with zeros, and the true frames (b,)."""
    frames = torch.tensor([len(mel) for mel in mels])
    return nn.utils.rnn.pad_sequence(list(mels), batch_first=True), frames


def _opening(source: Source, max_seconds: float) -> AbstractContextManager[Stream]:
    if isinstance(source, tuple):
        return nullcontext(_of_array(*source, max_seconds))
    return opened(Path(source))


def _of_array(rate: float, samples: np.ndarray, max_seconds: float) -> Stream:
    """Samples of any number type, up to `max_seconds` and one more, which shows that there were
    more."""
    samples = np.asarray(samples)
    kind = samples.dtype.kind
    if samples.ndim not in (1, 2) or kind not in "iuf":
        raise AudioError(
            f"The samples are {samples.dtype} of shape {samples.shape}; please give numbers of "
            "shape (samples,) or (samples, channels)."
        )
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] <= MAX_CHANNELS < samples.shape[1]:
        samples = samples.T
    rate = checked(rate, samples.shape[1])
    full_scale = 2.0 ** (np.iinfo(samples.dtype).bits - 1) if kind in "iu" else 1.0
    samples = samples[: int(max_seconds * rate) + 1].astype(np.float64)
    samples = samples / full_scale - (kind == "u")
    # The sum of channels overflows beyond; infinity stays, and is damage.
    samples = np.where(np.isinf(samples), samples, np.clip(samples, -LARGEST, LARGEST))
    return Stream(rate, iter([samples]), [])


def encode(waveform: Tensor, rate: int = SAMPLE_RATE, form: str = "WAV") -> bytes:
    """(samples,) in [-1, 1] -> the bytes of a file of 16 bits, WAV or FLAC."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.numpy(), rate, format=form, subtype="PCM_16")
    return buffer.getvalue()
