"""`words`: some takes of nine words of Speech Commands, by the official lists of speakers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile

from analysis.pretraining.clips import Clip
from softmoa.data import tasks
from softmoa.data.audio import SAMPLE_RATE

QUIETEST = 0.012  # root mean square; below it takes are empty or cut
TAKES = {"train": 40, "valid": 15, "test": 40}  # of each word, no speaker twice
LOUDEST = 0.7  # peak; Opus may overshoot
SOURCE, LICENCE = "speech-commands-v0.02", "CC-BY-4.0"


def words() -> Iterator[Clip]:
    """Speakers are ranked by a hash: of each the first take is used if it can be heard; clips are
    1 s, padded."""
    task = tasks.load("speech-commands")
    for split, takes in TAKES.items():
        for label, word in enumerate(task.labels):
            first = {
                file.group: file
                for file in sorted(getattr(task, split), key=lambda f: f.path, reverse=True)
                if file.label == label
            }
            ranked = sorted(first, key=lambda speaker: hashlib.sha256(speaker.encode()).digest())
            heard = ((speaker, _second(first[speaker].path)) for speaker in ranked)
            loud = ((speaker, x) for speaker, x in heard if np.sqrt(np.mean(x**2)) > QUIETEST)
            for speaker, samples in islice(loud, takes):
                name = first[speaker].path.stem
                detail = f"{word}/{name}"
                yield Clip(word, split, name, speaker, SOURCE, LICENCE, detail, samples)


def _second(path: Path) -> np.ndarray:
    heard, rate = soundfile.read(path, dtype="float32")
    assert rate == SAMPLE_RATE
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[: len(heard)] = heard[:SAMPLE_RATE]
    return samples * min(1, LOUDEST / np.abs(samples).max())
