"""A long sound as a row of windows: labels and expert shares against time.

Every window goes through the model by itself, at its own length, as a short clip would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor

from softmoa.data.audio import SAMPLE_RATE
from softmoa.lens.classifier import Classifier
from softmoa.lens.run import run
from softmoa.model.precision import Precision
from softmoa.model.recording import Place, expert_share

LONG = 10.0  # seconds; a longer clip gets a timeline
BATCH = 4  # windows at once


@dataclass(frozen=True)
class Timeline:
    """starts: (windows,) in seconds; each window is `window` seconds long.

    probabilities: (windows, classes). places: (layer, site) of the mixtures.
    shares: (places, windows, n), combine share of each expert, rows sum to 1.
    headlines: what each window is said to be.
    """

    starts: tuple[float, ...]
    window: float
    probabilities: Tensor
    places: tuple[Place, ...]
    shares: Tensor
    headlines: tuple[str, ...] = ()

    @property
    def spans(self) -> list[tuple[float, float]]:
        """The stretch of time that each window is drawn over: between the midpoints of
        neighbouring windows' centres, from the first start to the last end."""
        centres = [start + self.window / 2 for start in self.starts]
        borders = [(a + b) / 2 for a, b in pairwise(centres)]
        edges = [self.starts[0], *borders, self.starts[-1] + self.window]
        return list(pairwise(edges))

    @property
    def stretches(self) -> list[tuple[float, float, str]]:
        """From, to and headline, where neighbours of one headline are one stretch."""
        found: list[tuple[float, float, str]] = []
        for (start, end), said in zip(self.spans, self.headlines, strict=True):
            if found and found[-1][2] == said:
                start = found.pop()[0]
            found.append((start, end, said))
        return found

    def top(self, count: int) -> list[int]:
        """The classes that are most probable in any window, best first."""
        return self.probabilities.amax(dim=0).argsort(descending=True)[:count].tolist()

    def coarser(self, most: int) -> Timeline:
        """In at most `most` longer cells: of each the highest probabilities and mean shares."""
        if len(self.starts) <= most:
            return self
        cells = torch.arange(len(self.starts)).tensor_split(most)
        first = [int(cell[0]) for cell in cells]
        return Timeline(
            tuple(self.starts[i] for i in first),
            self.starts[-1] + self.window - self.starts[first[-1]],
            torch.stack([self.probabilities[cell].amax(dim=0) for cell in cells]),
            self.places,
            torch.stack([self.shares[:, cell].mean(dim=1) for cell in cells], dim=1),
        )


def windows(pieces: Iterable[Tensor], size: int, hop: int) -> Iterator[tuple[int, Tensor]]:
    """Where windows of `size` samples begin, and what is in them: every `hop`, and one that ends
    with the sound. A shorter sound is one window. No more is held than a piece and a window."""
    held, held_from, start = torch.zeros(0), 0, 0
    for piece in pieces:
        held = torch.cat([held, piece])
        while start + size <= held_from + len(held):
            yield start, held[start - held_from :][:size]
            start += hop
        past = max(0, start - hop - held_from)  # the last window's samples may be in another's
        held, held_from = held[past:], held_from + past
    end = held_from + len(held)
    if start == 0 or start - hop + size < end:
        start = max(0, end - size)
        yield start, held[start - held_from :]


def listen(
    classifier: Classifier,
    pieces: Iterable[Tensor],
    window: float = 5.0,
    overlap: float = 0.5,
    precision: Precision = "auto",
) -> Iterator[Timeline]:
    """The timeline of a few windows at a time, of a waveform that comes in pieces, (samples,) at
    16 kHz each; `overlap`: share of a window, below 1."""
    size = int(min(window, classifier.seconds) * SAMPLE_RATE)
    cut = windows(pieces, size, max(1, int(size * (1 - overlap))))
    while batch := list(islice(cut, BATCH)):
        starts, sounds = zip(*batch, strict=True)
        mels = [classifier.log_mel(sound) for sound in sounds]
        output = run(classifier, mels, precision=precision)
        probabilities = classifier.probabilities(output.logits)
        shares = [expert_share(record) for record in output.records]
        yield Timeline(
            tuple(start / SAMPLE_RATE for start in starts),
            len(sounds[0]) / SAMPLE_RATE,
            probabilities,
            tuple(record.place for record in output.records),
            torch.stack(shares) if shares else torch.zeros(0, len(starts), 0),
            tuple(map(str, map(classifier.headline, probabilities, sounds))),
        )


def joined(parts: Iterable[Timeline]) -> Timeline:
    """What `listen` has given so far, as one."""
    parts = list(parts)
    return Timeline(
        sum((part.starts for part in parts), ()),
        parts[0].window,
        torch.cat([part.probabilities for part in parts]),
        parts[0].places,
        torch.cat([part.shares for part in parts], dim=1),
        sum((part.headlines for part in parts), ()),
    )


def timeline(
    classifier: Classifier, waveform: Tensor, window: float = 5.0, overlap: float = 0.5
) -> Timeline:
    """Run all windows of a waveform, see `listen`."""
    return joined(listen(classifier, [waveform], window, overlap))


def report(classifier: Classifier, line: Timeline, top_k: int) -> dict:
    """A timeline as plain JSON values."""
    windows = []
    for i, (start, said) in enumerate(zip(line.starts, line.headlines, strict=True)):
        best = classifier.top(line.probabilities[i], top_k)
        windows.append(
            {
                "start_s": round(start, 4),
                "end_s": round(start + line.window, 4),
                "headline": said,
                "labels": [{"label": label, "probability": round(p, 6)} for label, p in best],
                "shares": [[round(x, 6) for x in row] for row in line.shares[:, i].tolist()],
            }
        )
    return {
        "bundle": classifier.name,
        "backbone": classifier.backbone,
        "device": str(classifier.model.device),
        "places": [{"layer": layer, "site": site} for layer, site in line.places],
        "windows": windows,
    }
