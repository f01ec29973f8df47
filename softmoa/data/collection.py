"""Sounds that a visitor records or uploads, by class, until they are a dataset.

A `Collection` is a value; its clips are files in one folder, which goes when the collection does.
`Current` holds the one that a visitor has by now.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from softmoa.data import audio, folders, own
from softmoa.data.own import DataLimits, OwnData, Remark
from softmoa.data.tasks import Row, TaskError

ROOT = folders.temporary("collections")
LONGEST_LABEL = 40
TAKE_SECONDS = 10.0

FRAME = audio.FRAME_SHIFT
MARGIN = 10  # frames kept before the first and after the last that is heard


def trim(waveform: Tensor) -> Tensor:
    """(samples,) without the silence before and after the sound, but for 0.1 s.

    A frame of 10 ms is heard if its RMS is above 5 % of the loudest and twice the background (the
    quietest fifth); a sound without pauses has no background and is kept whole.
    By hand, since the first call of librosa.effects.trim compiles for tens of seconds, and its
    level below the peak alone keeps a noisy background.
    Raises TaskError if nothing can be heard.
    """
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
    level = frames.square().mean(dim=1).sqrt()
    if not len(level) or level.max() < audio.SILENT:
        raise TaskError("Nothing was heard; please check the microphone and come closer.")
    loudest = level.max()
    bar = torch.maximum(0.05 * loudest, 2 * level.quantile(0.2)).clamp(max=0.5 * loudest)
    heard = (level >= bar).nonzero()
    first, last = int(heard[0]) - MARGIN, int(heard[-1]) + 1 + MARGIN
    return waveform[max(first, 0) * FRAME : last * FRAME]


@dataclass(frozen=True)
class Collection:
    """labels: classes in the order they were named, also those without clips."""

    folder: Path
    labels: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def swept(self) -> bool:
        """Whether it had clips and they are gone, unused for too long."""
        return bool(self.rows) and not self.folder.is_dir()

    def of(self, label: str) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.label == label)

    def add_label(self, text: str, limits: DataLimits) -> Collection:
        """Raises TaskError if the name cannot be used or there are enough."""
        label = " ".join(text.split())
        if not label or not label.isprintable():
            raise TaskError("Give the class a name.")
        if len(label) > LONGEST_LABEL:
            raise TaskError(f"A class has at most {LONGEST_LABEL} letters in its name.")
        if label.lower() in (known.lower() for known in self.labels):
            raise TaskError(f"There is a class '{label}' already.")
        if len(self.labels) >= limits.classes:
            raise TaskError(f"At most {limits.classes} classes can be used.")
        return replace(self, labels=(*self.labels, label))

    def add_take(
        self, label: str, source: audio.Source, limits: DataLimits
    ) -> tuple[Collection, float]:
        """With a recording, trimmed, and its seconds.

        Raises TaskError or AudioError if it cannot be used.
        """
        if label not in self.labels:
            raise TaskError("Name a class and choose it first.")
        if len(self.rows) >= limits.clips:
            raise TaskError(f"At most {limits.clips} clips can be used.")
        sound = trim(audio.load(source, TAKE_SECONDS).waveform)
        written = audio.encode(sound)
        self._check_room(len(written), limits)
        path = self._free(label, "take.wav")
        path.write_bytes(written)
        rows = (*self.rows, Row(path, label))
        return replace(self, rows=rows), len(sound) / audio.SAMPLE_RATE

    def drop(self, place: int) -> Collection:
        """Without a clip."""
        self.rows[place].path.unlink(missing_ok=True)
        return replace(self, rows=self.rows[:place] + self.rows[place + 1 :])

    def drop_label(self, label: str) -> Collection:
        """Without a class and its clips."""
        for row in self.of(label):
            row.path.unlink(missing_ok=True)
        rows = tuple(row for row in self.rows if row.label != label)
        return replace(self, labels=tuple(x for x in self.labels if x != label), rows=rows)

    def add_clips(
        self, rows: Sequence[Row], remarks: Sequence[Remark], limits: DataLimits
    ) -> Collection:
        """With all clips of a zip, moved here. Raises TaskError, and moves none, if refused."""
        labels = tuple(dict.fromkeys((*self.labels, *(row.label for row in rows))))
        if len(labels) > limits.classes or len(self.rows) + len(rows) > limits.clips:
            raise TaskError(
                f"With this zip there are {len(labels)} classes and "
                f"{len(self.rows) + len(rows)} clips; at most {limits.classes} and "
                f"{limits.clips} can be used."
            )
        if long := [label for label in labels if len(label) > LONGEST_LABEL]:
            raise TaskError(
                f"The class '{long[0][:LONGEST_LABEL]}…' has more than {LONGEST_LABEL} letters."
            )
        self._check_room(sum(row.path.stat().st_size for row in rows), limits)
        moved = []
        for row in rows:
            free = self._free(row.label, row.path.name)
            row.path.rename(free)
            moved.append(replace(row, path=free))
        everything, copies = own.without_unusable((*self.rows, *moved))
        for row in {*self.rows, *moved}.difference(everything):
            row.path.unlink()
        said = tuple(dict.fromkeys((*self.remarks, *remarks, *copies)))
        return replace(self, labels=labels, rows=tuple(everything), remarks=said)

    def build(self, seed: int = 0) -> OwnData:
        """All clips in their splits. Raises TaskError if there are too few."""
        if empty := [label for label in self.labels if not self.of(label)]:
            raise TaskError(f"The class '{empty[0]}' has no clips yet.")
        if len(self.labels) < 2:
            raise TaskError("Name at least two classes and record a few takes of each.")
        return own.build(self.rows, self.remarks, "your-sounds", seed)

    def _check_room(self, more: int, limits: DataLimits) -> None:
        """Raises TaskError where so many bytes more are too many: together no more than one zip."""
        here = sum(row.path.stat().st_size for row in self.rows)
        kept, most = (here + more) / 1e6, limits.zip.total_mb
        if kept > most:
            raise TaskError(f"All sounds would have {kept:.0f} MB; at most {most:g} MB are kept.")

    def _free(self, label: str, name: str) -> Path:
        """A path for a clip of a class, not in use; the name decides the clip's split."""
        folder = self.folder / own.safe_name(label)
        folder.mkdir(exist_ok=True)
        self.folder.touch()  # in use: not to be swept away
        taken = {path.name.lower() for path in folder.iterdir()}
        return folder / own.free_path(own.safe_name(name), taken)


class Current:
    """What one visitor has collected by now.

    A page's events overlap, and unpacking a zip takes seconds: under the lock, `now` is replaced by
    what is made of its present value, never of the one at an event's start.
    """

    def __init__(self, now: Collection | None = None) -> None:
        self.now = now
        self.lock = Lock()

    def __deepcopy__(self, memo: dict) -> Current:
        """For a session of its own: gradio copies the first value of a State, a lock cannot be."""
        return Current(self.now)


@contextmanager
def unpacked(path: Path, limits: DataLimits) -> Iterator[tuple[list[Row], list[Remark]]]:
    """`own.listed` of a zip, from where clips move to a collection at no cost."""
    folders.make_private(ROOT)
    with own.listed(path, limits, ROOT) as found:
        yield found


def new(keep_minutes: float, labels: tuple[str, ...] = ()) -> Collection:
    """No clips, in a folder of its own; folders unused for `keep_minutes` are removed."""
    folders.make_private(ROOT)
    folders.sweep(ROOT, keep_minutes)
    return Collection(Path(tempfile.mkdtemp(dir=ROOT)), labels)


def delete(collection: Collection | None) -> None:
    """Remove the clips from disk."""
    if collection is not None:
        shutil.rmtree(collection.folder, ignore_errors=True)
