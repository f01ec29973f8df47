"""A mixture small enough to follow with a pencil: four tokens, three experts, logits set by hand.

The mathematics is that of `moa`, not a copy of it. A token is a one-hot name with its two values
behind it, and a slot vector holds the wanted logits where the names are and zeros behind; so the
product of both, which a router takes as the logit, is the number that was set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from softmoa.moa import Gates, Slots, SoftRouter, TokenRouter
from softmoa.seeding import seeded

TOKENS = ("bark, low", "bark, high", "rain", "silence")
VALUES = ((9.0, 2.0), (8.0, 6.0), (4.0, 8.0), (0.0, 0.0))  # loudness and height of each token
FACTORS = (2.0, -1.0, 0.5)  # what each toy expert multiplies its input by

Kind = Literal["dense", "top-1", "soft"]


@dataclass(frozen=True)
class ByHand:
    """One pass of soft routing with every number between. m tokens of 2 values, n experts, p = 1.

    logits, dispatch, combine: (m, n). mixed, answers: (n, 2). outputs: (m, 2).
    """

    logits: Tensor
    dispatch: Tensor
    combine: Tensor
    mixed: Tensor
    answers: Tensor
    outputs: Tensor


def soft_by_hand(logits: Tensor) -> ByHand:
    """Soft routing of the four tokens: logits (m, n) as they are set."""
    m, n = logits.shape
    x = _tokens()
    routing = route(logits, "soft")
    assert isinstance(routing, Slots)
    mixed = routing.dispatch(x)[..., m:]  # (1, n, 1, 2)
    answers = mixed * torch.tensor(FACTORS[:n])[:, None, None]
    return ByHand(
        logits,
        routing.dispatch_weights[0, :, :, 0],
        routing.combine_weights[0, :, :, 0],
        mixed[0, :, 0],
        answers[0, :, 0],
        routing.combine(answers)[0],
    )


def route(logits: Tensor, kind: Kind) -> Slots | Gates:
    """The routing that the routers of `moa` decide on for logits (m, n)."""
    m, n = logits.shape
    x = _tokens()
    width = x.shape[-1]
    with seeded(0):  # overwritten below, but drawn from the generator that others may be using
        router = SoftRouter(width, n) if kind == "soft" else TokenRouter(width, n, TOP[kind])
    with torch.no_grad():
        router.phi.zero_()
        router.phi[:m] = logits.view(router.phi[:m].shape)
        return router(x)


TOP: dict[Kind, int | None] = {"dense": None, "top-1": 1}


def drawn_logits(seed: int, sharpness: float, experts: int = len(FACTORS)) -> Tensor:
    """Gaussian logits (m, experts) times `sharpness`; the same seed gives the same."""
    generator = torch.Generator().manual_seed(seed)
    return sharpness * torch.randn(len(TOKENS), experts, generator=generator)


def readings(kind: Kind, experts: int = len(FACTORS)) -> int:
    """How many inputs all experts together work on: pairs of token and expert, or slots."""
    return {"dense": len(TOKENS) * experts, "top-1": len(TOKENS), "soft": experts}[kind]


def _tokens() -> Tensor:
    """(1, m, m + 2): names, one-hot, and values."""
    return torch.cat([torch.eye(len(TOKENS)), torch.tensor(VALUES)], dim=1)[None]
