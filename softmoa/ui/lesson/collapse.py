"""A mixture that collapses within a second: top-1 routing and soft routing learn the same task.

A clip has 12 tokens: noise around plus or minus the pattern of its class, and one offset that all
tokens share, as the patches of a real spectrogram do. The offset makes the same few experts win
almost every token at the start; under top-1 only winners are trained, so they go on winning
(Shazeer et al. 2017, arXiv 1701.06538, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from softmoa.model.moa import Experts, MoA, SoftRouter, TokenExperts, TokenRouter
from softmoa.model.recording import expert_share, hooked
from softmoa.model.seeding import seeded
from softmoa.training.fit import Example, Step, TrainingOptions, fit

EXPERTS = 6
STEPS = 200
_WIDTH, _CLASSES, _TOKENS, _CLIPS, _BOTTLENECK = 16, 8, 12, 256, 4
_OFFSET, _NOISE = 1.5, 0.6

Kind = Literal["top-1", "top-1, balanced", "soft"]


@dataclass(frozen=True)
class Point:
    """After one step of one run.

    loss: of the task, without the balancing loss, so that the kinds can be compared. share: (n,),
    combine mass of each expert in the step's batch.
    """

    step: int
    loss: float
    share: Tensor


class _Block(nn.Module):
    """Named as the encoder names its slots, so that the recording finds the mixture."""

    def __init__(self, moa: MoA):
        super().__init__()
        self.beside_mlp = moa

    def forward(self, x: Tensor) -> Tensor:
        return x + self.beside_mlp(x)


class _Tiny(nn.Module):
    def __init__(self, moa: MoA):
        super().__init__()
        self.blocks = nn.Sequential(_Block(moa))
        self.head = nn.Linear(_WIDTH, _CLASSES)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean(dim=1))


def train(kind: Kind, seed: int, steps: int = STEPS) -> Iterator[Point]:
    """A training run, a point per step. The same seed gives the same clips and the same points."""
    with seeded(seed):
        model = _Tiny(_mixture(kind))
    options = TrainingOptions(
        epochs=steps, steps=steps, learning_rate=0.01, weight_decay=0, mask_mels=0, mask_frames=0,
        seed=seed,
    )  # fmt: skip
    events = fit(model, clips(seed), (), options)
    while True:
        with hooked(model) as trace:
            event = next(events, None)
        if event is None:
            return
        if isinstance(event, Step):
            yield Point(event.step, event.loss, expert_share(trace.records[0]).mean(dim=0))


def clips(seed: int) -> list[Example]:
    """The toy clips: tokens (12, 16) and their class."""
    draw = torch.Generator().manual_seed(seed)
    patterns = torch.randn(_CLASSES, _WIDTH, generator=draw)
    offset = _OFFSET * torch.randn(_WIDTH, generator=draw)
    labels = torch.randint(_CLASSES, (_CLIPS,), generator=draw)
    signs = 2 * torch.randint(0, 2, (_CLIPS, _TOKENS, 1), generator=draw) - 1
    noise = _NOISE * torch.randn(_CLIPS, _TOKENS, _WIDTH, generator=draw)
    tokens = patterns[labels][:, None] * signs + noise + offset
    return list(zip(tokens, labels.tolist(), strict=True))


def _mixture(kind: Kind) -> MoA:
    if kind == "soft":
        return MoA(SoftRouter(_WIDTH, EXPERTS), Experts(_WIDTH, EXPERTS, _BOTTLENECK))
    # Switch's coefficient is 0.01; in 200 steps that is too little.
    balance = "loss" if kind == "top-1, balanced" else "none"
    router = TokenRouter(_WIDTH, EXPERTS, k=1, balance=balance, coefficient=0.1)
    return MoA(router, TokenExperts(_WIDTH, EXPERTS, _BOTTLENECK))
