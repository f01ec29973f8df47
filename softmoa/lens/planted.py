"""A sound planted in another: does any expert point at it?

An expert points at the planted sound if its weights are higher on the patches where that is heard
than on all others. The score is the area under the ROC curve (AUC): how often a patch of the
planted sound has more weight than one of the rest; 0.5 is chance. Of many experts one is high by
luck or points there anyway, so the best score before the sound was planted stands beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from softmoa.data.audio import AUDIOSET, SAMPLE_RATE, FrontEnd, log_mel
from softmoa.lens.classifier import Classifier
from softmoa.lens.contribution import PatchGrid
from softmoa.lens.export import weights_of
from softmoa.lens.run import run
from softmoa.model.recording import LayerRecord

RISE = 3.0  # dB, mean of a patch, from which on the planted sound is said to be heard there


@dataclass(frozen=True)
class Planted:
    """host, mixed: (samples,), both turned down alike if the mix would clip. area: (bands, columns)
    bool, where the planted sound is heard."""

    host: Tensor
    mixed: Tensor
    area: Tensor


@dataclass(frozen=True)
class Pointing:
    """The expert that points best: index of its record and of the expert, its score, and the best
    score of any expert before; NaN where the sound is heard in no patch or in all."""

    row: int
    expert: int
    score: float
    before: float


def plant(
    host: Tensor,
    sound: Tensor,
    at: float,
    level: float,
    grid: PatchGrid,
    front_end: FrontEnd = AUDIOSET,
) -> Planted:
    """Mix a sound into another, from `at` seconds on, as far as it fits.

    host, sound: (samples,) at 16 kHz. level: in dB, of the sound's root mean square over the
    host's. grid: of the host. front_end: of the model.
    """
    start = min(max(round(at * SAMPLE_RATE), 0), len(host) - 1)
    sound = sound[: len(host) - start]
    loudness = [x.double().square().mean().sqrt().clamp(min=1e-9).item() for x in (host, sound)]
    added = torch.zeros_like(host)
    added[start : start + len(sound)] = sound * (loudness[0] / loudness[1] * 10 ** (level / 20))
    peak = max(1.0, (host + added).abs().max().item())
    host, mixed = host / peak, (host + added) / peak
    # Of natural logarithms of power, scaled.
    rise = log_mel(mixed, front_end) - log_mel(host, front_end)
    stride = grid.stride_frequency, grid.stride_time
    patches = F.avg_pool2d(rise.T[None, None], grid.patch, stride, ceil_mode=True)
    patches = patches[0, 0, : grid.bands, : grid.columns]  # rounded up along frequency, too
    decibels = patches * 2 * front_end.std * 10 / math.log(10)
    return Planted(host, mixed, decibels > RISE)


def pointing(classifier: Classifier, planted: Planted, grid: PatchGrid) -> Pointing:
    """Which expert of all mixtures reads the planted sound most, by its dispatch weights (by its
    gates under a token router)."""
    if not 0 < planted.area.sum() < planted.area.numel():
        return Pointing(0, 0, math.nan, math.nan)
    before, after = (
        scores(run(classifier, [classifier.log_mel(sound)]).records, planted.area, grid)
        for sound in (planted.host, planted.mixed)
    )
    row, expert = divmod(int(after.argmax()), after.shape[1])
    return Pointing(row, expert, after.max().item(), before.max().item())


def scores(records: tuple[LayerRecord, ...], area: Tensor, grid: PatchGrid) -> Tensor:
    """AUC of every expert's weights for the patches of an area (bands, columns); (records, n)."""
    from sklearn.metrics import roc_auc_score  # half a second to import

    maps = [grid.unfold(weights_of(record)[0].sum(dim=1)) for record in records]
    wanted = area.flatten().numpy()
    return torch.tensor(
        [[roc_auc_score(wanted, one.flatten().numpy()) for one in of_layer] for of_layer in maps]
    )
