"""Takes as small spectrograms."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import Image

from softmoa.data import audio
from softmoa.data.collection import Collection
from softmoa.data.tasks import Row
from softmoa.plots.style import grey

SHOWN = 24  # takes of a class that have a picture
WIDTH, HEIGHT = 120, 64


def takes(now: Collection | None) -> list[tuple[Row, str]]:
    """The takes that are shown, class by class, each with its caption."""
    return [
        (row, f"{label} {k}")
        for label in (now.labels if now else ())
        for k, row in enumerate(now.of(label)[:SHOWN] if now else (), 1)
    ]


def pictures(now: Collection | None) -> list[tuple[Image.Image, str]]:
    """What the gallery shows."""
    return [(spectrogram(row.path, row.path.stat().st_mtime_ns), name) for row, name in takes(now)]


@lru_cache(maxsize=1000)
def spectrogram(path: Path, written: int) -> Image.Image:
    """Time to the right, pitch upwards. written: part of the key, since a take may be replaced."""
    del written
    mel = audio.log_mel(audio.load(path).waveform).numpy().T[::-1]
    return Image.fromarray(grey(mel)).resize((WIDTH, HEIGHT))
