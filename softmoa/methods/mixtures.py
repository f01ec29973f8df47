"""Mixtures of adapters beside a sublayer, for the places see `beside` (arXiv 2402.00828).

soft     tokens ==mix==> slots --> experts ==mix==> tokens      every token, softly
dense    token --> all experts --> sum by the router's gates    every token, every expert
top-k    token --> its k best experts --> sum by their gates    most experts left out
"""

from __future__ import annotations

from dataclasses import dataclass

from softmoa.ast import AST
from softmoa.methods.beside import Placement, bottleneck, plug_beside
from softmoa.methods.options import Options
from softmoa.moa import Balance, Experts, MoA, SoftRouter, TokenExperts, TokenRouter


@dataclass(frozen=True)
class SoftMoAOptions(Options):
    """reduction: width of the model over the width of an expert's bottleneck.

    normalize: unit-norm tokens and phi in the routing logits (Soft MoE, section 2.3).
    """

    experts: int = 7
    slots: int = 1
    reduction: float = 128
    placement: Placement = "mhsa"
    normalize: bool = False


@dataclass(frozen=True)
class DenseMoAOptions(Options):
    """reduction: width of the model over the width of an expert's bottleneck."""

    experts: int = 7
    reduction: float = 128
    placement: Placement = "mhsa"


@dataclass(frozen=True)
class TopKMoAOptions(Options):
    """k: experts a token is given to.

    balance: "none"; "loss", Switch's auxiliary loss times `coefficient`; or "bias", DeepSeek's
    bias on the choice, moved by `rate` a step. See `moa.TokenRouter`.
    """

    experts: int = 7
    k: int = 1
    reduction: float = 128
    placement: Placement = "mhsa"
    balance: Balance = "none"
    coefficient: float = 0.01
    rate: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k > self.experts:
            raise ValueError(f"k must be at most experts, {self.experts}, not {self.k}")


def plug_soft_moa(model: AST, options: SoftMoAOptions) -> None:
    width, n, r = model.config.width, options.experts, bottleneck(model, options.reduction)
    plug_beside(
        model,
        options.placement,
        lambda: MoA(SoftRouter(width, n, options.slots, options.normalize), Experts(width, n, r)),
    )


def plug_dense_moa(model: AST, options: DenseMoAOptions) -> None:
    width, n, r = model.config.width, options.experts, bottleneck(model, options.reduction)
    plug_beside(
        model, options.placement, lambda: MoA(TokenRouter(width, n), TokenExperts(width, n, r))
    )


def plug_topk_moa(model: AST, options: TopKMoAOptions) -> None:
    width, n, r = model.config.width, options.experts, bottleneck(model, options.reduction)

    def mixture() -> MoA:
        router = TokenRouter(
            width, n, options.k, options.balance, options.coefficient, options.rate
        )
        return MoA(router, TokenExperts(width, n, r))

    plug_beside(model, options.placement, mixture)
