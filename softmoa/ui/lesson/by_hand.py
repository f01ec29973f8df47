"""A mixture small enough to follow with a pencil: four tokens, three experts, logits set by hand.

The mathematics is that of `softmoa.model.moa`, not a copy of it. A token is a one-hot name with its
two values behind it, and a slot vector holds the wanted logits where the names are and zeros
behind; so the product of both, which a router takes as the logit, is the number that was set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from softmoa.model.moa import Gates, Slots, SoftRouter, TokenRouter
from softmoa.model.seeding import seeded

TOKENS = ("bark, low", "bark, high", "rain", "silence")
VALUES = ((9.0, 2.0), (8.0, 6.0), (4.0, 8.0), (0.0, 0.0))  # loudness and height of each token
FACTORS = (2.0, -1.0, 0.5)  # what each toy expert multiplies its input by

Kind = Literal["dense", "top-1", "soft"]


@dataclass(frozen=True)
class ByHand:
    """One pass of soft routing with every number between. m tokens of 2 values, n experts, p = 1.

    dispatch, combine: (m, n). mixed, answers: (n, 2). outputs: (m, 2).
    """

    dispatch: Tensor
    combine: Tensor
    mixed: Tensor
    answers: Tensor
    outputs: Tensor


def soft_by_hand(logits: Tensor) -> ByHand:
    """Soft routing of the four tokens: logits (m, n) as they are set."""
    m, n = logits.shape
    routing = route(logits, "soft")
    assert isinstance(routing, Slots)
    mixed = routing.dispatch(_tokens())[..., m:]  # (1, n, 1, 2)
    answers = mixed * torch.tensor(FACTORS[:n])[:, None, None]
    return ByHand(
        dispatch=routing.dispatch_weights[0, :, :, 0],
        combine=routing.combine_weights[0, :, :, 0],
        mixed=mixed[0, :, 0],
        answers=answers[0, :, 0],
        outputs=routing.combine(answers)[0],
    )


def route(logits: Tensor, kind: Kind) -> Slots | Gates:
    """The routing that the model's own routers decide on for logits (m, n)."""
    x = _tokens()
    m, n = logits.shape
    with seeded(0):  # overwritten below, but drawn from the generator that others may be using
        if kind == "soft":
            router = SoftRouter(x.shape[-1], n)
        else:
            router = TokenRouter(x.shape[-1], n, k=1 if kind == "top-1" else None)
    with torch.no_grad():
        router.phi.zero_()
        router.phi[:m] = logits.view(router.phi[:m].shape)
        return router(x)


def drawn_logits(seed: int, sharpness: float) -> Tensor:
    """Gaussian logits (m, n) times `sharpness`; the same seed gives the same."""
    draw = torch.Generator().manual_seed(seed)
    return sharpness * torch.randn(len(TOKENS), len(FACTORS), generator=draw)


def _tokens() -> Tensor:
    """(1, m, m + 2): names, one-hot, and values."""
    return torch.cat([torch.eye(len(TOKENS)), torch.tensor(VALUES)], dim=1)[None]
