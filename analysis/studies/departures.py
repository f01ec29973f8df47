"""What the public reference code does otherwise, and what else may help the experts, to be switched
on in our encoder one at a time.

Nothing is copied from there: each departure is written from its description. It changes the
encoder that carries the method, or if it is in OF_BASE the bare one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from softmoa.methods.adapters import ConvAdapter
from softmoa.model.ast import AST, Block
from softmoa.model.moa import Experts, MoA, Slots, SoftRouter

SHARPER = 4.0
DROPPED = 0.1
FASTER = 10.0


class Again(nn.Module):
    """Beside the FFN: what the mixture beside the attention of the same block has just added."""

    def __init__(self, mixture: MoA):
        super().__init__()
        self._added: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, y: Tensor) -> None:
            self._added.append(y)

        mixture.register_forward_hook(keep)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._added.pop()


class ShrunkenSlots(Slots):
    """Slots mixed from the unit-norm tokens that only the logits should have been made of."""

    def dispatch(self, x: Tensor) -> Tensor:
        return super().dispatch(F.normalize(x, dim=-1))


class OtherAxisRouter(SoftRouter):
    """phi of unit norm over the experts in place of the model's width, and shrunken slots."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Slots:
        assert self.scale is not None
        phi = self.scale * F.normalize(self.phi, dim=1)
        logits = (F.normalize(x, dim=-1) @ phi.flatten(1)).float()
        real = logits if mask is None else logits.masked_fill(~mask[..., None], -torch.inf)
        return ShrunkenSlots(
            real.softmax(dim=1).unflatten(-1, phi.shape[1:]),
            logits.softmax(dim=-1).unflatten(-1, phi.shape[1:]),
            mask,
        )


class DeadConvAdapter(ConvAdapter):
    """The convolution is there and trained in name, but nothing goes through it."""

    def _convolve(self, rows: Tensor) -> Tensor:
        return rows


class Times(nn.Module):
    """A weight that is so many times what is stored of it: AdamW's steps are as many times longer,
    as they do not know the weight's size."""

    def __init__(self, times: float):
        super().__init__()
        self.times = times

    def forward(self, stored: Tensor) -> Tensor:
        return self.times * stored

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.times


def _blocks(model: AST) -> list[Block]:
    return [block for block in model.blocks if isinstance(block, Block)]


def _mixtures(model: AST) -> list[MoA]:
    return [module for module in model.modules() if isinstance(module, MoA)]


def add_twice(model: AST) -> None:
    """The mixture is added again after the FFN."""
    for block in _blocks(model):
        assert isinstance(block.beside_attn, MoA)
        block.beside_mlp = Again(block.beside_attn)


def drop_positions(model: AST) -> None:
    """Position embeddings are all zero."""
    for name in ("pos_special", "pos_grid"):
        zeros = torch.zeros_like(getattr(model, name))
        setattr(model, name, nn.Parameter(zeros, requires_grad=False))


def normalise_other_axis(model: AST) -> None:
    """φ is normalised over the experts, and slots are mixed from shrunken tokens."""
    for mixture in _mixtures(model):
        old = mixture.router
        assert isinstance(old, SoftRouter)
        router = OtherAxisRouter(*old.phi.shape, normalize=True).to(old.phi.device)
        router.phi = old.phi
        router.scale = nn.Parameter(torch.ones_like(old.phi[0, 0, 0]))
        mixture.router = router


def zero_both_projections(model: AST) -> None:
    for mixture in _mixtures(model):
        assert isinstance(mixture.experts, Experts)
        nn.init.zeros_(mixture.experts.down)


def draw_both_projections(model: AST) -> None:
    """Both start as small random numbers."""
    generator = torch.Generator().manual_seed(0)
    for mixture in _mixtures(model):
        assert isinstance(mixture.experts, Experts)
        for weight in (mixture.experts.down, mixture.experts.up):
            values = torch.randn(weight.shape, generator=generator).clamp(-2, 2)
            weight.data.copy_(0.02 * values)


def kill_convolution(model: AST) -> None:
    """The convolution of the adapter is left out."""
    for block in _blocks(model):
        old = block.beside_attn
        assert isinstance(old, ConvAdapter)
        r, kernel = old.conv.in_channels, old.conv.kernel_size[0]
        dead = DeadConvAdapter(model.config.width, r, kernel, old.bands)
        dead.load_state_dict(old.state_dict())
        block.beside_attn = dead.to(old.up.weight.device)


def sharpen_routing(model: AST) -> None:
    """φ starts SHARPER times as long."""
    for mixture in _mixtures(model):
        assert isinstance(mixture.router, SoftRouter)
        mixture.router.phi.data *= SHARPER


def drop_experts(model: AST) -> None:
    """Each expert is left out of a share DROPPED of the clips in training."""

    def drop(module: nn.Module, inputs: object, y: Tensor) -> Tensor:
        """y: (b, n, p, d); the experts that are left speak up for the others."""
        if not module.training:
            return y
        kept = torch.rand(y.shape[:2], device=y.device) >= DROPPED
        return y * kept[..., None, None] / (1 - DROPPED)

    for mixture in _mixtures(model):
        mixture.experts.register_forward_hook(drop)


def pace_router(times: float, model: AST) -> None:
    """φ learns at so many times the rate of the experts."""
    for mixture in _mixtures(model):
        register_parametrization(mixture.router, "phi", Times(times))


DEPARTURES: dict[str, Callable[[AST], None]] = {
    "twice": add_twice,
    "no positions": drop_positions,
    "other axis": normalise_other_axis,
    "both zero": zero_both_projections,
    "both drawn": draw_both_projections,
    "dead convolution": kill_convolution,
    "sharp": sharpen_routing,
    "dropped": drop_experts,
    "fast router": partial(pace_router, FASTER),
    "slow router": partial(pace_router, 1 / FASTER),
}
OF_BASE = ("no positions",)
OF_TRAINING = ("dropped", "fast router", "slow router")  # trained weights answer as ours would
