"""A sound file of any length, in pieces, so that an hour of it needs no more memory than a minute.

It is gone through twice: first to learn what `audio.load` would say of all of it, such as how far
to turn it down, then to be heard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from softmoa.data.audio import SAMPLE_RATE, Mix, hear
from softmoa.data.decode import opened


@dataclass(frozen=True)
class LongSound:
    """max_seconds: what is used of it. mix: what heard all of that."""

    path: Path
    max_seconds: float
    rate: int
    mix: Mix
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """How much is used."""
        return self.mix.samples / self.rate

    def pieces(self) -> Iterator[Tensor]:
        """The waveform, (samples,) at 16 kHz each, as `audio.load` gives it in one."""
        resample, again = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1), Mix(self.mix.channel)
        with opened(self.path) as stream:
            for block in stream.first(self.max_seconds):
                yield _piece(resample.resample_chunk(self.mix.turned_down(again(block))))
            yield _piece(resample.resample_chunk(np.zeros(0, np.float32), last=True))


def _piece(mono: np.ndarray) -> Tensor:
    return torch.from_numpy(np.clip(mono, -1, 1))  # resampling may overshoot a full-scale edge


def survey(path: Path, max_seconds: float) -> LongSound:
    """Go through a file once, up to `max_seconds`. Raises AudioError if it cannot be used."""
    heard = hear(path, max_seconds, keep=False)
    notes = (*heard.notes, *heard.mix.notes())
    return LongSound(path, max_seconds, heard.rate, heard.mix, notes)
