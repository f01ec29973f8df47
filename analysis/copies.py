"""Copies of a recording under other names and in other encodings, found by its spectral peaks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
import typer

from analysis.evaluate_backbone import esc10
from analysis.unpack import AUDIO
from softmoa.audio import load
from softmoa.weights import ASSETS

SAME_VOTES = 8  # landmarks that agree on one shift; chance reached 7 in a minute of music


def landmarks(samples: np.ndarray) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Pairs of spectral peaks (bin, bin, frames between) and the frame of the first.

    Two encodings of one recording share many, at a constant shift, whatever their level; other
    sounds share few (Wang 2003, "An industrial-strength audio search algorithm").
    """
    if len(samples) < 2048:
        return
    frames = torch.from_numpy(samples).unfold(0, 1024, 256) * torch.hann_window(1024)
    level = torch.log(torch.fft.rfft(frames).abs()[:, :400] + 1e-4)
    highest = F.max_pool2d(level[None, None], (15, 25), 1, (7, 12))[0, 0]
    peaks = torch.nonzero((level == highest) & (level > level.mean() + 1)).tolist()
    for i, (frame, low) in enumerate(peaks):
        later = [(t - frame, high) for t, high in peaks[i + 1 : i + 30] if 2 <= t - frame <= 60]
        for gap, high in later[:4]:
            yield (low, high, gap), frame


def print_copies(samples: np.ndarray, rows: list[dict[str, str]]) -> None:
    """Print the clips of the corpus that hold the same recording as a clip of ESC-10 or of
    assets/examples under another name. samples, rows: as `corpus.read` gives them."""
    gallery = (path for path in (ASSETS / "examples").iterdir() if path.suffix.lower() in AUDIO)
    files = [*esc10()[0], *sorted(gallery)]
    known = defaultdict(list)
    for number, file in enumerate(files):
        for mark, frame in landmarks(load(file).waveform.numpy()):
            known[mark].append((number, frame))
    for row in rows:
        start, length = int(row["start"]), int(row["samples"])
        clip = samples[start : start + length].astype(np.float32) / 32768
        votes: Counter[tuple[int, int]] = Counter()
        for mark, frame in landmarks(clip):
            votes.update((number, (at - frame) // 2) for number, at in known.get(mark, ()))
        for (number, _), count in votes.most_common(1):
            if count >= SAME_VOTES:
                typer.echo(f"{count} {files[number].name} {row['package']} {row['path']}")
