"""Numbers from records: who took part, who contributed, and where on the spectrogram.

Axes as in `moa`: b clips, m tokens, n experts, p slots, d width. All results are per clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from softmoa.ast import SPECIAL_TOKENS, ASTConfig
from softmoa.recording import LayerRecord

_LOWEST_HZ, _HIGHEST_HZ = 20.0, 8000.0  # of the mel filters


def expert_share(record: LayerRecord) -> Tensor:
    """Combine mass of each expert, (b, n), as fractions of all mass: mean over tokens of
    sum_k C[i, j, k], or of the gates of a token router.

    What Soft MoE calls expert importance (arXiv 2308.00951, section 3.5). NaN where every expert is
    switched off.
    """
    mass = _token_mean(record, record.routing.expert_weights)
    return mass / mass.sum(dim=-1, keepdim=True)


def expert_outputs(record: LayerRecord) -> Tensor:
    """What each expert adds to each token, (b, m, n, d): sum_k C[i, j, k] Y[j, k].

    Over the experts these vectors add up to the output of the mixture, exactly.
    """
    return record.routing.parts(record.expert_out)


def expert_norms(record: LayerRecord) -> Tensor:
    """Length of what each expert adds, (b, n): mean over tokens of the norm of `expert_outputs`."""
    return _token_mean(record, expert_outputs(record).norm(dim=-1))


def expert_contribution(record: LayerRecord) -> Tensor:
    """`expert_norms` as fractions of their sum, (b, n); all 0 where no expert adds anything."""
    return fractions(expert_norms(record))


def fractions(norms: Tensor) -> Tensor:
    """Values (..., n) as fractions that sum to 1, or are all 0 where the values are."""
    total = norms.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, norms / total, 0.0)


def _token_mean(record: LayerRecord, values: Tensor) -> Tensor:
    """Mean of (b, m, n) over the real tokens -> (b, n)."""
    mask = record.routing.mask
    if mask is None:
        return values.mean(dim=1)
    return (values * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


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
        return cls(
            config.bands,
            config.columns(frames),
            config.patch,
            config.stride_frequency,
            config.stride_time,
            config.mels,
        )

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
        first = band * self.stride_frequency
        return mel_edge_hz(first, self.mels), mel_edge_hz(first + self.patch, self.mels)

    def unfold(self, values: Tensor) -> Tensor:
        """Token values (..., m) -> their picture (..., bands, columns), lowest band first."""
        return values[..., SPECIAL_TOKENS:].unflatten(-1, (self.bands, self.columns))


def mel_edge_hz(edge: float, mels: int = 128) -> float:
    """Frequency in Hz of the border below mel bin `edge`, halfway between two filters' peaks."""
    low, high = (1127 * math.log1p(hz / 700) for hz in (_LOWEST_HZ, _HIGHEST_HZ))
    return 700 * math.expm1((low + (edge + 0.5) * (high - low) / (mels + 1)) / 1127)
