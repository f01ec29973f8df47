"""Methods that scale what the frozen encoder computes, channel by channel.

    SSF      W x + b --> scale * y + shift        behind every projection of a block
             (Lian et al. 2022, arXiv 2210.08823)
    (IA)3    scale * k, scale * v, and W (scale * h) of the MLP's inner activations h
             (Liu et al. 2022, arXiv 2205.05638)

Scales start at 1 and shifts at 0. SSF's scales behind the norms are the norms' own weights, which
train; departs from the paper in leaving the patch embedding alone.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softmoa.methods.lora import TARGETS
from softmoa.methods.registry import (
    Method,
    NoOptions,
    Options,
    every_norm,
    final_norm,
    projections,
    register,
)
from softmoa.model.ast import AST, Linear


class ScaleOutput(nn.Module):
    """y -> scale * y + shift, as what is added to y; without a shift where none is wanted."""

    def __init__(self, width: int, shift: bool):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width)) if shift else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        added = (self.scale - 1) * y
        return added if self.shift is None else added + self.shift


class ScaleInput(nn.Module):
    """W x -> W (scale * x)."""

    def __init__(self, linear: Linear):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(linear.in_features))
        self.linear = (linear,)  # in a tuple: its weights are not this module's

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.linear((self.scale - 1) * x, self.linear[0].weight.to(x.dtype))


def plug_ssf(model: AST, options: Options) -> None:
    for linear in projections(model, TARGETS["all"]):
        linear.delta = ScaleOutput(linear.out_features, shift=True)


def plug_ia3(model: AST, options: Options) -> None:
    for linear in projections(model, ("attn.k", "attn.v")):
        linear.delta = ScaleOutput(linear.out_features, shift=False)
    for linear in projections(model, ("mlp.down",)):
        linear.delta = ScaleInput(linear)


row = partial(Method, family="Scaling", options=NoOptions, learning_rate=5e-3)
register(
    row(
        name="ssf",
        title="SSF",
        about="Scales and shifts every channel behind every projection and norm.",
        paper="arXiv 2210.08823",
        plug=plug_ssf,
        trains=every_norm,
        short_rate=5e-3,
    ),
    row(
        name="ia3",
        title="(IA)³",
        about="Scales the keys, the values and the inner activations of every layer.",
        paper="arXiv 2205.05638",
        plug=plug_ia3,
        trains=final_norm,
        short_rate=5e-3,
    ),
)
