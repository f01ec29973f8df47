"""LoRA: a low-rank correction of projections (Hu et al. 2021, arXiv 2106.09685).

          +--> W x (frozen) --------------------+
     x ---+                                    (+)--> y
          +--> down (r) --> up --> alpha / r ---+

`up` starts at zero, and with it the correction.
Departs from the sister paper (arXiv 2312.03694), which states a factor of 8 that its own alpha and
rank do not give: the factor here is alpha / rank, as in LoRA's paper and in peft.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from softmoa.ast import AST, Linear
from softmoa.methods.options import Options

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

    rank: int = 6
    alpha: float = 16
    targets: Literal["qv", "qkvo", "all"] = "qv"


class LowRank(nn.Module):
    """x -> (alpha / rank) up(down(x)), without biases."""

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float):
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.up(self.down(x))


def plug_lora(model: AST, options: LoRAOptions) -> None:
    for block in model.blocks:
        for target in TARGETS[options.targets]:
            linear = block.get_submodule(target)
            assert isinstance(linear, Linear)
            linear.delta = LowRank(
                linear.in_features, linear.out_features, options.rank, options.alpha
            )
