"""Mixtures of adapters beside a sublayer, for the places see `beside` (arXiv 2402.00828).

soft     tokens ==mix==> slots --> experts ==mix==> tokens      every token, softly
dense    token --> all experts --> sum by the router's gates    every token, every expert
top-k    token --> its k best experts --> sum by their gates    most experts left out
soft LoRA: as soft, each expert a low-rank map without biases and activation
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from softmoa.methods.beside import Placement, beside, norms_beside
from softmoa.methods.registry import Count, Method, Number, Options, register
from softmoa.model.ast import ASTConfig
from softmoa.model.moa import Balancing, Experts, MoA, SoftRouter, TokenExperts, TokenRouter

SOFT_MOA = "arXiv 2402.00828"
KERNEL = 3  # slots that a convolution looks at


@dataclass(frozen=True)
class SoftMoAOptions(Options):
    """reduction: width of the model over the width of an expert's bottleneck.

    normalize: unit-norm tokens and phi in the routing logits (Soft MoE, section 2.3).
    module: what an expert is, a bottleneck or one with a convolution over its slots.
    """

    experts: Count = 7
    slots: Count = 1
    reduction: Number = 128
    placement: Placement = "mhsa"
    normalize: bool = False
    module: Literal["bottleneck", "convolution"] = "bottleneck"


@dataclass(frozen=True)
class DenseMoAOptions(Options):
    """reduction: width of the model over the width of an expert's bottleneck."""

    experts: Count = 7
    reduction: Number = 128
    placement: Placement = "mhsa"


@dataclass(frozen=True)
class TopKMoAOptions(Options):
    """k: experts a token is given to.

    balance: "none"; "loss", Switch's auxiliary loss times `coefficient`; or "bias", DeepSeek's
    bias on the choice, moved by `rate` a step. See `moa.TokenRouter`.
    """

    experts: Count = 7
    k: Count = 1
    reduction: Number = 128
    placement: Placement = "mhsa"
    balance: Balancing = "none"
    coefficient: Number = 0.01
    rate: Number = 0.001

    def __post_init__(self) -> None:
        if self.k > self.experts:
            raise ValueError(f"k must be at most experts, {self.experts}, not {self.k}")


@dataclass(frozen=True)
class SoftLoRAOptions(Options):
    """rank: width of an expert's bottleneck. alpha: its answer is scaled by alpha / rank."""

    experts: Count = 7
    slots: Count = 1
    rank: Count = 6
    alpha: Number = 16
    placement: Placement = "mhsa"


class ConvExperts(Experts):
    """Experts with a convolution inside (Convpass, arXiv 2207.07039), over an expert's slots:
    up(gelu(conv(gelu(down(x))))). It starts as the identity."""

    def __init__(self, width: int, experts: int, bottleneck: int):
        super().__init__(width, experts, bottleneck)
        self.conv = nn.Parameter(torch.zeros(experts, KERNEL, bottleneck, bottleneck))
        self.conv_bias = nn.Parameter(torch.zeros(experts, bottleneck))
        with torch.no_grad():
            self.conv[:, KERNEL // 2] = torch.eye(bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        """Slot inputs (b, n, p, d) -> slot outputs (b, n, p, d)."""
        hidden = F.gelu(torch.einsum("bnpd,ndr->bnpr", x, self.down) + self.down_bias[:, None])
        beyond = (0, 0, KERNEL // 2, KERNEL // 2)  # of the first and of the last slot: zeros
        seen = F.pad(hidden, beyond).unfold(2, KERNEL, 1)  # (b, n, p, r, KERNEL)
        heard = torch.einsum("bnprk,nkrs->bnps", seen, self.conv) + self.conv_bias[:, None]
        return torch.einsum("bnpr,nrd->bnpd", F.gelu(heard), self.up) + self.up_bias[:, None]


class LowRankExperts(nn.Module):
    """n low-rank maps as batched weights: (alpha / rank) up_j(down_j(x)); up starts at zero."""

    def __init__(self, width: int, experts: int, rank: int, alpha: float):
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(experts, width, rank))
        self.up = nn.Parameter(torch.zeros(experts, rank, width))
        nn.init.uniform_(self.down, -(width**-0.5), width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Slot inputs (b, n, p, d) -> slot outputs (b, n, p, d)."""
        return self.scale * torch.einsum("bnpd,ndr,nre->bnpe", x, self.down, self.up)


def soft_moa(config: ASTConfig, options: SoftMoAOptions, r: int) -> MoA:
    width, n = config.width, options.experts
    experts = ConvExperts if options.module == "convolution" else Experts
    return MoA(SoftRouter(width, n, options.slots, options.normalize), experts(width, n, r))


def soft_lora(config: ASTConfig, options: SoftLoRAOptions, r: int) -> MoA:
    width, n = config.width, options.experts
    router = SoftRouter(width, n, options.slots)
    return MoA(router, LowRankExperts(width, n, r, options.alpha))


def dense_moa(config: ASTConfig, options: DenseMoAOptions, r: int) -> MoA:
    width, n = config.width, options.experts
    return MoA(TokenRouter(width, n), TokenExperts(width, n, r))


def topk_moa(config: ASTConfig, options: TopKMoAOptions, r: int) -> MoA:
    width, n = config.width, options.experts
    choice = options.k, options.balance, options.coefficient, options.rate
    return MoA(TokenRouter(width, n, *choice), TokenExperts(width, n, r))


row = partial(
    Method,
    family="Mixtures",
    trains=norms_beside,
    learning_rate=5e-3,
    short_rate=1.5e-3,
    sizes=("reduction", "experts"),
)
register(
    row(
        name="dense-moa",
        title="Dense-MoA",
        about="Adds several adapters; every patch is answered by all of them, by its gates.",
        paper=SOFT_MOA,
        options=DenseMoAOptions,
        plug=beside(dense_moa),
    ),
    row(
        name="topk-moa",
        title="Top-k MoA",
        about="Adds several adapters; every patch is answered by its best one or two only.",
        paper="arXiv 2101.03961",
        options=TopKMoAOptions,
        plug=beside(topk_moa),
    ),
    row(
        name="soft-moa",
        title="Soft-MoA",
        about="Adds several adapters; each reads a blend of all patches, and answers to all.",
        paper=SOFT_MOA,
        options=SoftMoAOptions,
        plug=beside(soft_moa),
    ),
    row(
        name="soft-lora",
        title="Soft mixture of LoRA",
        about="Adds several low-rank maps; each reads a blend of all patches.",
        paper="arXiv 2106.09685 with the routing of arXiv 2308.00951",
        options=SoftLoRAOptions,
        plug=beside(soft_lora),
        sizes=("rank", "experts"),
    ),
)
