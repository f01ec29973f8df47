"""What each expert of a mixture reads most among many sounds: a patch of each of a few clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from softmoa.lens.classifier import Classifier
from softmoa.lens.contribution import PatchGrid
from softmoa.lens.export import weights_of
from softmoa.lens.run import run


@dataclass(frozen=True)
class Favourite:
    """clip: index of a sound. band, column: its patch that a slot of the expert reads most.
    times: that patch's weight as a multiple of an even spread over the clip's tokens."""

    clip: int
    band: int
    column: int
    times: float


def favourites(
    classifier: Classifier, mels: Iterable[Tensor], count: int = 3
) -> list[list[list[Favourite]]]:
    """Of each record and expert the `count` clips with the patch that it reads most, best first.

    mels: log-mels (frames, 128). Weights are dispatch weights, or gates under a token router, whose
    share of what the expert answers takes their place.
    """
    found: list[list[list[Favourite]]] = []
    for clip, mel in enumerate(mels):
        grid = PatchGrid.of(classifier.model.config, len(mel))
        for row, record in enumerate(run(classifier, [mel]).records):
            weights = weights_of(record)[0]  # (n, p, m)
            multiple = weights / weights.mean(dim=-1, keepdim=True).clamp(min=1e-12)
            times, places = grid.unfold(multiple).amax(dim=1).flatten(1).max(dim=-1)
            if clip == 0:
                found.append([[] for _ in weights])
            for own, most, place in zip(found[row], times, places, strict=True):
                band, column = divmod(int(place), grid.columns)
                own.append(Favourite(clip, band, column, most.item()))
    return [
        [sorted(own, key=lambda one: -one.times)[:count] for own in experts] for experts in found
    ]
