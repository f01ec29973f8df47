"""What adapters and mixtures share: their places beside the sublayers of a block, and their size.

      x --ln--+--> MHSA ------+              x --ln--+--> FFN -------+
      |       +--> branch ----+              |       +--> branch ----+
      +----------------------(+)--> x        +----------------------(+)--> x
           "mhsa" (Pfeiffer)                      "ffn" (Pfeiffer)        "houlsby": both

A branch reads the normed input of its sublayer and is added once, as in the paper's figure.
Departs from the public reference code, which adds a mixture beside MHSA a second time after the
FFN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from softmoa.ast import AST

Placement = Literal["mhsa", "ffn", "houlsby"]
SITES = {
    "mhsa": ("beside_attn",),
    "ffn": ("beside_mlp",),
    "houlsby": ("beside_attn", "beside_mlp"),
}
NORM_BEFORE = {"beside_attn": ".ln_attn.", "beside_mlp": ".ln_mlp."}
FINAL_NORM = ".ln."


def plug_beside(model: AST, placement: Placement, branch: Callable[[], nn.Module]) -> None:
    """A new branch at every place of every block."""
    for block in model.blocks:
        for slot in SITES[placement]:
            setattr(block, slot, branch())


def bottleneck(model: AST, reduction: float) -> int:
    """Width of an adapter's bottleneck: the model's width over the reduction rate."""
    return max(1, round(model.config.width / reduction))


def norms_beside(options: Any) -> tuple[str, ...]:
    """The norms a branch reads through train with it, and the final norm (the papers' choice)."""
    return (*(NORM_BEFORE[slot] for slot in SITES[options.placement]), FINAL_NORM)
