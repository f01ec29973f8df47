"""Mixtures of adapters as the equations read, for tests to agree with and benchmarks to race.

One expert after the other, and for dense routing every answer held before any is weighed. They
take the weights of a `moa.MoA` and give the same numbers, in no hurry.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softmoa.model.ast import AST
from softmoa.model.moa import Experts, MoA, SoftRouter, TokenRouter


def expert(moa: MoA, j: int, x: Tensor) -> Tensor:
    """One adapter by itself: up(gelu(down(x))), (..., d) -> (..., d)."""
    e = moa.experts
    assert isinstance(e, Experts)
    return F.gelu(x @ e.down[j] + e.down_bias[j]) @ e.up[j] + e.up_bias[j]


def soft_moa(moa: MoA, x: Tensor) -> Tensor:
    """Soft MoE's algorithm 1, (b, m, d) -> (b, m, d). Source: arXiv 2308.00951, algorithm 1."""
    phi = moa.router.phi
    logits = torch.einsum("bmd,dnp->bmnp", x, phi)
    dispatch = logits.softmax(dim=1)
    combine = logits.flatten(2).softmax(dim=2).view_as(logits)
    slots = torch.einsum("bmnp,bmd->bnpd", dispatch, x)
    answers = torch.stack([expert(moa, j, slots[:, j]) for j in range(phi.shape[1])], dim=1)
    return torch.einsum("bmnp,bnpd->bmd", combine, answers)


def dense_moa(moa: MoA, x: Tensor) -> Tensor:
    """All experts' answers to all tokens stacked, weighed, summed: (b, m, d) -> (b, m, d)."""
    router = moa.router
    assert isinstance(router, TokenRouter)
    gates = (x @ router.phi + router.bias).softmax(dim=-1)
    answers = torch.stack([expert(moa, j, x) for j in range(gates.shape[-1])], dim=2)
    return (gates[..., None] * answers).sum(dim=2)


class NaiveMoA(nn.Module):
    """A mixture's weights under its naive form."""

    def __init__(self, moa: MoA):
        super().__init__()
        self.moa = moa

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        assert mask is None, "the naive form knows no padding"
        soft = isinstance(self.moa.router, SoftRouter)
        return soft_moa(self.moa, x) if soft else dense_moa(self.moa, x)


def make_naive(model: AST) -> None:
    """Put every mixture beside the attention of `model` under its naive form."""
    for block in model.blocks:
        if isinstance(block.beside_attn, MoA):
            block.beside_attn = NaiveMoA(block.beside_attn)
