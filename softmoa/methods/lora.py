"""LoRA: a low-rank correction of projections (Hu et al. 2021, arXiv 2106.09685), and DoRA.

          +--> W x (frozen) --------------------+
     x ---+                                    (+)--> y
          +--> down (r) --> up --> alpha / r ---+

`up` starts at zero, and with it the correction. DoRA (Liu et al. 2024, arXiv 2402.09353) also
trains the length of every row of W + correction, which starts at the length of the row of W.
Departs from the sister paper (arXiv 2312.03694), which states a factor of 8 that its own alpha and
rank do not give: the factor here is alpha / rank, as in LoRA's paper and in peft.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from softmoa.methods.registry import (
    Count,
    Method,
    Number,
    Options,
    final_norm,
    projections,
    register,
)
from softmoa.model.ast import AST, Linear

TARGETS = {
    "qv": ("attn.q", "attn.v"),
    "qkvo": ("attn.q", "attn.k", "attn.v", "attn.out"),
    "all": ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down"),
}


@dataclass(frozen=True)
class LoRAOptions(Options):
    """rank: width of the bottleneck. alpha: the correction is scaled by alpha / rank.

    targets: the projections of a block that are corrected: query and value (the papers' choice),
    all four of the attention, or those of the MLP too.
    """

    rank: Count = 6
    alpha: Number = 16
    targets: Literal["qv", "qkvo", "all"] = "qv"


class LowRank(nn.Module):
    """x -> (alpha / rank) up(down(x)), without biases."""

    def __init__(self, linear: Linear, rank: int, alpha: float):
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.scale * self.up(self.down(x))


class LowRankLength(LowRank):
    """The same, and a trained length of every row of the corrected matrix.

    As in DoRA, section 4.3, the length that a row has is not differentiated.
    """

    def __init__(self, linear: Linear, rank: int, alpha: float):
        super().__init__(linear, rank, alpha)
        self.length = nn.Parameter(linear.weight.detach().norm(dim=1))
        self.linear = (linear,)  # in a tuple: its weights are not this module's

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        (linear,) = self.linear
        correction = super().forward(x, y)
        moved = linear.weight + self.scale * self.up.weight @ self.down.weight
        ratio = self.length / moved.detach().norm(dim=1)
        return (ratio - 1) * (y - linear.bias) + ratio * correction


def plug(correction: type[LowRank], model: AST, options: LoRAOptions) -> None:
    for linear in projections(model, TARGETS[options.targets]):
        linear.delta = correction(linear, options.rank, options.alpha)


row = partial(
    Method,
    family="Low rank",
    options=LoRAOptions,
    trains=final_norm,
    learning_rate=5e-3,
    short_rate=5e-3,
    sizes=("rank",),
)
register(
    row(
        name="lora",
        title="LoRA",
        about="Adds a small low-rank correction to projections of the attention.",
        paper="arXiv 2106.09685",
        plug=partial(plug, LowRank),
    ),
    row(
        name="dora",
        title="DoRA",
        about="LoRA that also trains how long every row of a projection is.",
        paper="arXiv 2402.09353",
        plug=partial(plug, LowRankLength),
    ),
)
