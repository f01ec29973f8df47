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

from softmoa.methods.registry import Weights, every_weight
from softmoa.model.ast import AST, ASTConfig

Placement = Literal["mhsa", "ffn", "houlsby"]
SITES = {
    "mhsa": ("beside_attn",),
    "ffn": ("beside_mlp",),
    "houlsby": ("beside_attn", "beside_mlp"),
}
NORM_BEFORE = {"beside_attn": "ln_attn", "beside_mlp": "ln_mlp"}


def beside(branch: Callable[[ASTConfig, Any, int], nn.Module]) -> Callable[[AST, Any], None]:
    """`Method.plug` of what puts a new branch(config, options, r) at every place of every block.

    r, the bottleneck, is the width of the model over the option `reduction`, or the option `rank`.
    """

    def plug(model: AST, options: Any) -> None:
        config = model.config
        r = getattr(options, "rank", 0) or max(1, round(config.width / options.reduction))
        for block in model.blocks:
            for slot in SITES[options.placement]:
                setattr(block, slot, branch(config, options, r))

    return plug


def norms_beside(model: AST, options: Any) -> Weights:
    """The norms a branch reads through train with it, and the final norm (the papers' choice)."""
    for block in model.blocks:
        for slot in SITES[options.placement]:
            yield from every_weight(getattr(block, NORM_BEFORE[slot]))
    yield from every_weight(model.ln)
