"""Numbers from records: who took part, who contributed, and where on the spectrogram.

Axes as in `moa`: b clips, m tokens, n experts, p slots, d width. All results are per clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from softmoa.model.ast import SPECIAL_TOKENS, ASTConfig
from softmoa.model.recording import LayerRecord, token_mean

_LOWEST_HZ, _HIGHEST_HZ = 20.0, 8000.0  # of the mel filters


def expert_outputs(record: LayerRecord) -> Tensor:
    """What each expert adds to each token, (b, m, n, d): sum_k C[i, j, k] Y[j, k].

    Over the experts these vectors add up to the output of the mixture, exactly.
    """
    # The pair always fits: slots with slot outputs, gates with TokenAnswers.
    return record.routing.per_expert(record.expert_out)  # pyright: ignore[reportArgumentType]


def expert_norms(record: LayerRecord) -> Tensor:
    """Length of what each expert adds, (b, n): mean over tokens of the norm of `expert_outputs`."""
    return token_mean(record, expert_outputs(record).norm(dim=-1))


def expert_contribution(record: LayerRecord) -> Tensor:
    """`expert_norms` as fractions of their sum, (b, n); all 0 where no expert adds anything."""
    return fractions(expert_norms(record))


def specialisation(record: LayerRecord) -> float:
    """How much the tokens of a clip differ in whom they listen to, in nats, from 0 to log n.

    The mean over tokens of the Kullback-Leibler divergence of their combine weights from the
    clip's: the mutual information of token and expert. 0 if all take the same blend, even of one.
    """
    weights = record.routing.expert_weights[0].double()
    blend = weights.mean(dim=0)
    return float(torch.special.xlogy(weights, weights / blend).nan_to_num().sum(dim=1).mean())


def read_from(record: LayerRecord, source: Tensor, sources: int) -> Tensor:
    """How much of what each expert reads comes from which source, (n, sources); rows sum to 1, or
    are all 0 for an expert that no token chose.

    source: (m,) of every token, from 0. The dispatch weights of the one clip's slots; of a token
    router the gates, as parts of all that the expert answers.
    """
    dispatch, _ = record.routing.per_slot()  # (1, m, n, p)
    read = dispatch[0].sum(dim=-1).T  # (n, m)
    return fractions(torch.zeros(len(read), sources).index_add(1, source, read.float()))


def fractions(norms: Tensor) -> Tensor:
    """Values (..., n) as fractions that sum to 1, or are all 0 where the values are."""
    total = norms.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, norms / total, 0.0)


@dataclass(frozen=True)
class PatchGrid:
    """Where patch tokens lie on a spectrogram of `columns` patches along time.

    Token 2 + band * columns + column covers mel bins [band * stride_frequency, + patch) and frames
    [column * stride_time, + patch). With a stride below the patch size neighbours overlap.
    """

    bands: int
    columns: int
    patch: int = 16
    stride_frequency: int = 16
    stride_time: int = 16
    mels: int = 128

    @classmethod
    def of(cls, config: ASTConfig, frames: int) -> PatchGrid:
        sizes = config.patch, config.stride_frequency, config.stride_time, config.mels
        return cls(config.bands, config.columns(frames), *sizes)

    @property
    def tokens(self) -> int:
        return SPECIAL_TOKENS + self.bands * self.columns

    def token(self, band: int, column: int) -> int:
        """Index of the token of a patch; raises ValueError outside the grid."""
        if not (0 <= band < self.bands and 0 <= column < self.columns):
            raise ValueError(f"no patch ({band}, {column}) in {self.bands} x {self.columns}")
        return SPECIAL_TOKENS + band * self.columns + column

    def place(self, token: int) -> tuple[int, int]:
        """(band, column) of a patch token; raises ValueError for a special token or beyond."""
        if not SPECIAL_TOKENS <= token < self.tokens:
            raise ValueError(f"token {token} is no patch of {self.bands} x {self.columns}")
        return divmod(token - SPECIAL_TOKENS, self.columns)

    def seconds(self, column: int) -> tuple[float, float]:
        """Start and end of a column in seconds, one frame being 10 ms."""
        start = column * self.stride_time
        return start / 100, (start + self.patch) / 100

    def hertz(self, band: int) -> tuple[float, float]:
        """Lowest and highest frequency of a band in Hz."""
        first, edges = band * self.stride_frequency, mel_edges(self.mels)
        return float(edges[first]), float(edges[first + self.patch])

    def unfold(self, values: Tensor) -> Tensor:
        """Token values (..., m) -> their picture (..., bands, columns), lowest band first."""
        return values[..., SPECIAL_TOKENS:].unflatten(-1, (self.bands, self.columns))


@cache
def mel_edges(mels: int = 128) -> np.ndarray:
    """Frequencies in Hz of the borders of mel bins, (mels + 1,): below each, then above the last;
    halfway between two filters' peaks."""
    from librosa import mel_frequencies

    return mel_frequencies(2 * mels + 3, fmin=_LOWEST_HZ, fmax=_HIGHEST_HZ, htk=True)[1::2]
