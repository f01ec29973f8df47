"""A long sound as a row of overlapping windows: labels and expert shares against time.

Every window goes through the model by itself, at its own length, as a short clip would.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from softmoa.data.audio import SAMPLE_RATE
from softmoa.lens.classifier import Classifier
from softmoa.lens.run import run
from softmoa.model.recording import expert_share

LONG = 10.0  # seconds; a longer clip gets a timeline
BATCH = 4  # windows at once


@dataclass(frozen=True)
class Timeline:
    """starts: (windows,) in seconds; each window is `window` seconds long.

    probabilities: (windows, classes). places: (layer, site) of the mixtures.
    shares: (places, windows, n), combine share of each expert, rows sum to 1.
    """

    starts: tuple[float, ...]
    window: float
    probabilities: Tensor
    places: tuple[tuple[int, str], ...]
    shares: Tensor

    @property
    def spans(self) -> list[tuple[float, float]]:
        """The stretch of time that each window is drawn over: between the midpoints of
        neighbouring windows' centres, from the first start to the last end."""
        centres = [start + self.window / 2 for start in self.starts]
        borders = [(a + b) / 2 for a, b in zip(centres, centres[1:], strict=False)]
        edges = [self.starts[0], *borders, self.starts[-1] + self.window]
        return list(zip(edges, edges[1:], strict=False))

    def top(self, count: int) -> list[int]:
        """The classes that are most probable in any window, best first."""
        return self.probabilities.amax(dim=0).argsort(descending=True)[:count].tolist()


def window_starts(samples: int, window: int, hop: int) -> list[int]:
    """Where windows of `window` samples begin: every `hop`, and one that ends with the sound."""
    if samples <= window:
        return [0]
    last = samples - window
    starts = list(range(0, last + 1, hop))
    return starts if starts[-1] == last else [*starts, last]


def timeline(
    classifier: Classifier, waveform: Tensor, window: float = 5.0, overlap: float = 0.5
) -> Timeline:
    """Run the windows of a waveform (samples,) at 16 kHz; `overlap`: share of a window, below 1."""
    size = min(int(min(window, classifier.seconds) * SAMPLE_RATE), len(waveform))
    hop = max(1, int(size * (1 - overlap)))
    starts = window_starts(len(waveform), size, hop)
    mels = [classifier.log_mel(waveform[start : start + size]) for start in starts]
    probabilities, shares, places = [], [], ()
    for i in range(0, len(mels), BATCH):
        output = run(classifier, mels[i : i + BATCH])
        places = tuple((record.layer, record.site) for record in output.records)
        probabilities.append(classifier.probabilities(output.logits))
        if output.records:
            shares.append(torch.stack([expert_share(record) for record in output.records]))
    return Timeline(
        tuple(start / SAMPLE_RATE for start in starts),
        size / SAMPLE_RATE,
        torch.cat(probabilities),
        places,
        torch.cat(shares, dim=1) if shares else torch.zeros(0, len(mels), 0),
    )
