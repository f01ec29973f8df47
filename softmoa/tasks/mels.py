"""Clips of a task as log-mels, decoded once and kept within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from torch import Tensor

from softmoa import audio
from softmoa.tasks.task import LabelledFile, TaskError

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

    def __len__(self) -> int:
        return len(self._mels)

    def log_mel(self, path: Path, max_seconds: float) -> Tensor:
        """Raises AudioError if the file cannot be read."""
        try:
            state = path.stat()
            key = (path.absolute(), state.st_mtime_ns, state.st_size, max_seconds)
        except OSError:
            key = None  # `audio.load` says what is wrong
        with self._lock:
            if key in self._mels:
                self._mels.move_to_end(key)
                return self._mels[key]
        mel = audio.log_mel(audio.load(path, max_seconds).waveform)
        with self._lock:
            if key is not None and key not in self._mels:
                self._mels[key] = mel
                self.bytes += mel.nbytes
            while self.bytes > self.limit:
                self.bytes -= self._mels.popitem(last=False)[1].nbytes
        return mel


CACHE = MelCache(CACHE_BYTES)


def log_mels(files: Sequence[LabelledFile], max_seconds: float = 10.0) -> list[tuple[Tensor, int]]:
    """Decode files in parallel -> [(log-mel (frames, 128), label)], ready for `training.fit`.

    What was decoded before comes from CACHE. Raises TaskError if a clip cannot be read.
    """

    def one(file: LabelledFile) -> tuple[Tensor, int]:
        try:
            return CACHE.log_mel(file.path, max_seconds), file.label
        except audio.AudioError as error:
            raise TaskError(f"{file.path.parent.name}/{file.path.name}: {error}") from None

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, files))
