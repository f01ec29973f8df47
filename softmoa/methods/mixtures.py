"""Mixtures of adapters beside a sublayer (Cappellazzo et al. 2024, arXiv 2402.00828).

          x --ln--+--> MHSA ----+                 x --ln--+--> FFN -----+
          |       +--> MoA -----+                 |       +--> MoA -----+
          +---------------------(+)--> x          +---------------------(+)--> x
                Pfeiffer at MHSA                        Pfeiffer at FFN        (Houlsby: both)

The mixture reads the normed input of the sublayer and is added once, as in the paper's figure.
Departs from the public reference code, which adds it a second time after the FFN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from softmoa.ast import AST
from softmoa.moa import Experts, MoA, SoftRouter

SITES = {
    "mhsa": ("beside_attn",),
    "ffn": ("beside_mlp",),
    "houlsby": ("beside_attn", "beside_mlp"),
}
NORM_BEFORE = {"beside_attn": ".ln_attn.", "beside_mlp": ".ln_mlp."}


@dataclass(frozen=True)
class SoftMoAOptions:
    """Options of Soft-MoA; the defaults are the paper's.

    reduction: width of the model over the width of an expert's bottleneck.
    placement: Pfeiffer beside "mhsa" or "ffn", or "houlsby" beside both.
    normalize: unit-norm tokens and phi in the routing logits (Soft MoE, section 2.3).
    """

    experts: int = 7
    slots: int = 1
    reduction: int = 128
    placement: Literal["mhsa", "ffn", "houlsby"] = "mhsa"
    normalize: bool = False

    def __post_init__(self) -> None:
        for name in ("experts", "slots", "reduction"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.placement not in SITES:
            raise ValueError(f"placement must be one of {', '.join(SITES)}, not {self.placement}")


def plug_soft_moa(model: AST, options: SoftMoAOptions) -> None:
    width = model.config.width
    bottleneck = max(1, round(width / options.reduction))
    for block in model.blocks:
        for slot in SITES[options.placement]:
            router = SoftRouter(width, options.experts, options.slots, options.normalize)
            experts = Experts(width, options.experts, bottleneck)
            setattr(block, slot, MoA(router, experts))


def norms_beside(options: SoftMoAOptions) -> tuple[str, ...]:
    """The norms a mixture reads through train with it, and the final norm (the paper's choice)."""
    return (*(NORM_BEFORE[slot] for slot in SITES[options.placement]), ".ln.")
