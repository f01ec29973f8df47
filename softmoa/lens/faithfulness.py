"""Is a map of a sound true? The class's probability with only, and without, what the map marks.

A map marks its highest patches, a quarter of them. What is not kept becomes as quiet as the
quietest place of the clip. With p of the whole clip, p+ of the kept part and p- of the rest:

    drop (AD)           max(0, p - p+) / p             Chattopadhay et al. 2018, arXiv 1710.11063
    increase (AI)       whether p+ > p                 the same
    gain (AG)           max(0, p+ - p) / (1 - p)       Zhang et al. 2023, arXiv 2301.07002
    faithfulness (FF)   p - p-                         Paissan et al. 2024, arXiv 2403.13086

A small drop and a large FF speak for a map, if a random map of equal area has neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softmoa.lens.contribution import PatchGrid

PART = 0.25  # of the patches are marked


@dataclass(frozen=True)
class Faithfulness:
    """Probabilities of one class: of the whole clip, of what a map marks, and of the rest."""

    whole: float
    kept: float
    rest: float

    @property
    def drop(self) -> float:
        return max(0.0, self.whole - self.kept) / self.whole

    @property
    def increase(self) -> bool:
        return self.kept > self.whole

    @property
    def gain(self) -> float:
        return max(0.0, self.kept - self.whole) / (1 - self.whole) if self.whole < 1 else 0.0

    @property
    def faithfulness(self) -> float:
        return self.whole - self.rest


def faithfulness(
    probability: Callable[[Sequence[Tensor]], Tensor],
    mel: Tensor,
    values: Tensor,
    grid: PatchGrid,
    draws: int = 3,
) -> tuple[Faithfulness, Faithfulness]:
    """Of a map of patches, and of random maps of equal area, as the mean of `draws`.

    probability: of the class, for each of some clips (frames, mels). values: (bands, columns).
    """
    count = math.ceil(PART * values.numel())
    random = torch.Generator().manual_seed(0)
    draws_of = [torch.randperm(values.numel(), generator=random) for _ in range(draws)]
    orders = [values.flatten().argsort(descending=True), *draws_of]
    clips, silence = [mel], mel.min()
    for order in orders:
        marked = torch.zeros(values.numel()).bool().index_fill(0, order[:count], True)
        kept = covered(marked.view_as(values), grid, len(mel))
        clips += [mel.where(kept, silence), mel.where(~kept, silence)]
    found = probability(clips)
    pairs = found[1:].unflatten(0, (-1, 2))
    whole, own, random = found[0].item(), pairs[0], pairs[1:].mean(dim=0)
    return Faithfulness(whole, *own.tolist()), Faithfulness(whole, *random.tolist())


def covered(marked: Tensor, grid: PatchGrid, frames: int) -> Tensor:
    """The places (frames, mels) of marked patches (bands, columns): of each a cell one stride wide
    in its middle, as the page draws it, so that so many patches always cover the same area."""
    places = torch.zeros(frames, grid.mels, dtype=torch.bool)
    left, bottom = (grid.patch - grid.stride_time) // 2, (grid.patch - grid.stride_frequency) // 2
    for band, column in marked.nonzero().tolist():
        start, low = left + column * grid.stride_time, bottom + band * grid.stride_frequency
        places[start : start + grid.stride_time, low : low + grid.stride_frequency] = True
    return places
