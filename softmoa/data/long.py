"""A sound file of any length, in pieces, so that an hour of it needs no more memory than a minute.

It is gone through twice: first to learn what `audio.load` would say of all of it, such as how far
to turn it down, then to be heard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from softmoa.data.audio import SAMPLE_RATE, Condition
from softmoa.data.decode import Mix, mixed, opened

BLOCKS = 100  # of the decoder, in one piece: 10 s, of some formats 2 s


@dataclass(frozen=True)
class LongSound:
    """max_seconds: what is used of it. channel: the one that is heard, None: the mean of all."""

    path: Path
    max_seconds: float
    rate: int
    condition: Condition
    channel: int | None
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """How much is used."""
        return min(self.condition.samples / self.rate, self.max_seconds)

    def pieces(self) -> Iterator[Tensor]:
        """The waveform, (samples,) at 16 kHz each, as `audio.load` gives it in one."""
        resample = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1)
        with opened(self.path, Mix(self.channel)) as stream:
            for mono in _together(stream.within(self.max_seconds, [])):
                yield _piece(resample.resample_chunk(self.condition.mended(mono)))
            yield _piece(resample.resample_chunk(np.zeros(0, np.float32), last=True))


def _together(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    while piece := list(islice(blocks, BLOCKS)):
        yield np.concatenate(piece)


def _piece(mono: np.ndarray) -> Tensor:
    return torch.from_numpy(np.clip(mono, -1, 1))  # resampling may overshoot a full-scale edge


def survey(path: Path, max_seconds: float) -> LongSound:
    """Go through a file once, up to `max_seconds`. Raises AudioError if it cannot be used."""

    def read(mix: Mix) -> tuple[int, tuple[Condition, Mix], list[str]]:
        condition, notes = Condition(), []
        with opened(path, mix) as stream:
            for mono in _together(stream.within(max_seconds, notes)):
                condition.hear(mono)
        return stream.rate, (condition, mix), notes

    rate, (condition, mix), notes = mixed(read)
    notes += condition.notes()
    return LongSound(path, max_seconds, rate, condition, mix.channel, tuple(notes))
