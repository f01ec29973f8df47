"""Copies of a recording under other names and in other encodings, found by its spectral peaks.

python -m analysis.pretraining.copies    # is a clip of ESC-50 or of the gallery in the corpus?
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import typer

from analysis.pretraining.corpus import read
from analysis.pretraining.teacher import clip_of
from analysis.pretraining.unpack import AUDIO
from softmoa.data import tasks
from softmoa.data.audio import load
from softmoa.model.weights import ASSETS

SAME_VOTES = 8  # landmarks that agree on one shift; chance reached 7 in a minute of music
NEIGHBOURS, PAIRS = 29, 4  # of a peak: those behind it that are looked at, and those it pairs with
GAPS = (2, 60)  # frames between the two of a pair
SHIFT = 2  # frames: shifts that differ by less agree


def landmarks(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of spectral peaks, each as one number that tells both bins and the frames between, and
    the frame of the first.

    Two encodings of one recording share many, at a constant shift, whatever their level; other
    sounds share few (Wang 2003, "An industrial-strength audio search algorithm").
    """
    if len(samples) < 2048:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    frames = torch.from_numpy(samples).unfold(0, 1024, 256) * torch.hann_window(1024)
    level = torch.log(torch.fft.rfft(frames).abs()[:, :400] + 1e-4)
    highest = F.max_pool1d(F.max_pool1d(level, 25, 1, 12).T, 15, 1, 7).T  # first over bins
    frame, band = torch.nonzero((level == highest) & (level > level.mean() + 1)).numpy().T
    later = np.arange(len(frame))[:, None] + np.arange(1, NEIGHBOURS + 1)
    there, later = later < len(frame), np.minimum(later, len(frame) - 1)
    gap = frame[later] - frame[:, None]
    paired = there & (gap >= GAPS[0]) & (gap <= GAPS[1])
    paired &= paired.cumsum(axis=1) <= PAIRS
    first, nth = np.nonzero(paired)
    second = later[first, nth]
    marks = (band[first] * 400 + band[second]) * (GAPS[1] + 1) + gap[first, nth]
    return marks, frame[first]


class Known:
    """Recordings that a sound can be compared with."""

    def __init__(self, files: list[Path]):
        self.files = files
        found = [landmarks(load(file).waveform.numpy()) for file in files]
        marks, frames = (np.concatenate(parts) for parts in zip(*found, strict=True))
        numbers = np.repeat(np.arange(len(files)), [len(part) for part, _ in found])
        order = np.argsort(marks, kind="stable")
        self.marks, self.frames, self.numbers = marks[order], frames[order], numbers[order]

    def nearest(self, samples: np.ndarray) -> tuple[int, Path]:
        """How many landmarks of the sound agree on one shift with those of a file, at the most."""
        marks, frames = landmarks(samples)
        start = np.searchsorted(self.marks, marks, "left")
        count = np.searchsorted(self.marks, marks, "right") - start
        if not count.sum():
            return 0, self.files[0]
        offset = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
        at = np.repeat(start, count) + offset
        shift = (self.frames[at] - np.repeat(frames, count)) // SHIFT
        votes, times = np.unique(self.numbers[at] * 2**32 + shift, return_counts=True)
        best = times.argmax()
        return int(times[best]), self.files[round(votes[best] / 2**32)]


@cache
def known() -> Known:
    """All of ESC-50, of which ESC-10 is a part, and the clips of assets/examples."""
    torch.set_num_threads(1)
    gallery = (path for path in (ASSETS / "examples").iterdir() if path.suffix.lower() in AUDIO)
    return Known(sorted(clip.path for clip in tasks.load("esc50").files) + sorted(gallery))


def _compare(indices: np.ndarray) -> list[tuple[int, str, int]]:
    samples, rows = read()
    found = []
    for index in indices.tolist():
        count, file = known().nearest(clip_of(samples, rows[index]).numpy())
        if count >= SAME_VOTES:
            found.append((count, file.name, index))
    return found


def main(workers: int = 2) -> None:
    """Print the clips of the corpus, speech aside, that hold the same recording as one that is
    known under another name."""
    _, rows = read()
    searched = np.array([i for i, row in enumerate(rows) if row["kind"] != "speech"])
    with ProcessPoolExecutor(workers) as pool:
        for found in pool.map(_compare, np.array_split(searched, 50 * workers)):
            for count, name, index in found:
                typer.echo(f"{count} {name} {rows[index]['package']} {rows[index]['path']}")


if __name__ == "__main__":
    typer.run(main)
