"""Clips of a task as log-mels, decoded once and kept within a bound, or computed when needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from softmoa.data import audio
from softmoa.data.audio import AUDIOSET, FrontEnd
from softmoa.data.limits import limits
from softmoa.data.task import LabelledFile, TaskError

CLIP_SECONDS = 10.0  # what training hears of a clip, unless a recipe says otherwise
CACHE_BYTES = 256 * 2**20  # of log-mels: ESC-10, FSDD and the embedded tasks need about 250 MB


class MelCache:
    """Log-mels of files as they are on disk; beyond `limit` bytes the longest unused are dropped.

    The tensors are shared by all callers: never write into one.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.bytes = 0
        self._mels: OrderedDict[tuple, Tensor] = OrderedDict()
        self._lock = Lock()

    def log_mel(self, path: Path, max_seconds: float, front_end: FrontEnd = AUDIOSET) -> Tensor:
        """Raises AudioError if the file cannot be read."""
        try:
            state = path.stat()
            key = (path.absolute(), state.st_mtime_ns, state.st_size, max_seconds, front_end)
        except OSError:
            key = None  # `audio.load` says what is wrong
        with self._lock:
            if key in self._mels:
                self._mels.move_to_end(key)
                return self._mels[key]
        mel = audio.log_mel(_heard(path, max_seconds), front_end)
        with self._lock:
            if key is not None and key not in self._mels:
                self._mels[key] = mel
                self.bytes += mel.nbytes
            while self.bytes > self.limit:
                self.bytes -= self._mels.popitem(last=False)[1].nbytes
        return mel


CACHE = MelCache(CACHE_BYTES)


def _heard(path: Path, max_seconds: float) -> Tensor:
    """The waveform of a clip that training hears."""
    sound = audio.load(path, max(max_seconds, limits().audio_seconds)).waveform
    return audio.loudest_part(sound, max_seconds)


def log_mels(
    files: Sequence[LabelledFile],
    max_seconds: float = CLIP_SECONDS,
    front_end: FrontEnd = AUDIOSET,
) -> list[tuple[Tensor, int]]:
    """Decode files in parallel -> [(log-mel (frames, mels), label)], ready for `training.fit`.

    Of a longer clip the loudest `max_seconds` are heard, and not the noise before the event. What
    was decoded before comes from CACHE. Raises TaskError if a clip cannot be read.
    """
    mels = _each(lambda path: CACHE.log_mel(path, max_seconds, front_end), files)
    return [(mel, file.label) for mel, file in zip(mels, files, strict=True)]


def _each(one: Callable[[Path], Tensor], files: Sequence[LabelledFile]) -> list[Tensor]:
    """Of files in parallel; raises TaskError if one cannot be read."""

    def named(file: LabelledFile) -> Tensor:
        try:
            return one(file.path)
        except audio.AudioError as error:
            raise TaskError(f"{file.path.parent.name}/{file.path.name}: {error}") from None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(named, files))


@dataclass(frozen=True)
class Shelf:
    """The log-mels of a task, on a device where there is room, else computed whenever they are
    asked for.

    keep: where they stay once they were asked for, None: nowhere. compute: the device that those
    are computed on which stay nowhere.
    """

    max_seconds: float
    front_end: FrontEnd
    keep: torch.device | None
    compute: torch.device
    kept: dict[LabelledFile, Tensor] = field(default_factory=dict)

    def get(self, files: Sequence[LabelledFile]) -> list[Tensor]:
        """[(frames, mels)] of some files; raises TaskError if one cannot be read."""
        if self.keep is None:
            sounds = _each(lambda path: _heard(path, self.max_seconds), files)
            return [audio.log_mel(sound.to(self.compute), self.front_end) for sound in sounds]
        new = [file for file in files if file not in self.kept]
        mels = log_mels(new, self.max_seconds, self.front_end) if new else []
        self.kept.update((f, mel.to(self.keep)) for f, (mel, _) in zip(new, mels, strict=True))
        return [self.kept[file] for file in files]


@dataclass(frozen=True)
class Examples(Sequence[tuple[Tensor, int]]):
    """Labelled log-mels of a shelf; a slice is not fetched before it is gone through."""

    shelf: Shelf
    files: tuple[LabelledFile, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return replace(self, files=self.files[index])
        return next(iter(self.pick([index])))

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return zip(self.shelf.get(self.files), (file.label for file in self.files), strict=True)

    def pick(self, indices: Sequence[int]) -> Examples:
        return replace(self, files=tuple(self.files[i] for i in indices))
