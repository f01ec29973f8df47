"""Mixtures of adapters: routers, the routing they decide, experts, and the layer of the three.

    MoA(x) = routing.combine(experts(routing.dispatch(x)))   with   routing = router(x)

Routing is a value: the layer computes with the same object that the pictures are drawn from.

Axes: b clips, m tokens, d width, n experts, p slots per expert, r width of an expert's bottleneck.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Slots:
    """What a soft router decided for a batch of clips.

    dispatch_weights: (b, m, n, p), over the real tokens of a clip each slot's weights sum to 1.
    combine_weights: (b, m, n, p), over all n p slots each token's weights sum to 1.
    mask: (b, m), True for real tokens, or None if all are real.
    Source: Puigcerver et al. 2023 (Soft MoE, arXiv 2308.00951), eq. 1 and 2.
    """

    dispatch_weights: Tensor
    combine_weights: Tensor
    mask: Tensor | None = None

    def dispatch(self, x: Tensor) -> Tensor:
        """Tokens (b, m, d) -> slot inputs (b, n, p, d), each a weighted mean of all tokens."""
        weights = self.dispatch_weights.to(x.dtype)
        slots = weights.flatten(2).transpose(1, 2) @ x  # (b, n p, d)
        return slots.unflatten(1, weights.shape[2:])

    def combine(self, y: Tensor) -> Tensor:
        """Slot outputs (b, n, p, d) -> token outputs (b, m, d)."""
        return self.combine_weights.to(y.dtype).flatten(2) @ y.flatten(1, 2)

    def detach(self) -> Slots:
        """The same values on the CPU, outside the graph."""
        return replace(
            self,
            dispatch_weights=self.dispatch_weights.detach().float().cpu(),
            combine_weights=self.combine_weights.detach().float().cpu(),
            mask=None if self.mask is None else self.mask.cpu(),
        )


class SoftRouter(nn.Module):
    """x -> Slots. The logits of both softmaxes are the products of tokens and slot vectors phi.

    normalize: take the logits from unit-norm tokens and unit-norm phi columns (over d) times a
    trained scale, as Soft MoE section 2.3 advises for wide models; slot inputs stay raw.
    Departs from the public reference code, which normalises phi over the experts and also feeds
    the shrunken tokens to them.
    """

    def __init__(self, width: int, experts: int, slots: int = 1, normalize: bool = False):
        super().__init__()
        self.phi = nn.Parameter(torch.empty(width, experts, slots))
        nn.init.normal_(self.phi, std=width**-0.5)
        # sqrt(d) gives unit-norm logits the spread that raw ones have; 1 would route uniformly.
        self.scale = nn.Parameter(torch.tensor(math.sqrt(width))) if normalize else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Slots:
        """x: (b, m, d); mask: (b, m), True for real tokens."""
        phi = self.phi
        if self.scale is not None:
            x, phi = F.normalize(x, dim=-1), self.scale * F.normalize(phi, dim=0)
        logits = (x @ phi.flatten(1)).float()  # (b, m, n p), softmaxes in fp32
        real = logits if mask is None else logits.masked_fill(~mask[..., None], -torch.inf)
        return Slots(
            real.softmax(dim=1).unflatten(-1, phi.shape[1:]),
            logits.softmax(dim=-1).unflatten(-1, phi.shape[1:]),
            mask,
        )


class Experts(nn.Module):
    """n bottleneck adapters as batched weights: up_j(gelu(down_j(x))), with biases.

    The up-projections start at zero, so that a fresh mixture adds nothing; the down-projections
    start as those of nn.Linear, different for each expert.
    Source: Cappellazzo et al. 2023 (arXiv 2312.03694), eq. 3.
    """

    def __init__(self, width: int, experts: int, bottleneck: int):
        super().__init__()
        self.down = nn.Parameter(torch.empty(experts, width, bottleneck))
        self.down_bias = nn.Parameter(torch.zeros(experts, bottleneck))
        self.up = nn.Parameter(torch.zeros(experts, bottleneck, width))
        self.up_bias = nn.Parameter(torch.zeros(experts, width))
        nn.init.uniform_(self.down, -(width**-0.5), width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Slot inputs (b, n, p, d) -> slot outputs (b, n, p, d)."""
        b, n, p, d = x.shape
        x = x.transpose(0, 1).reshape(n, b * p, d)
        hidden = F.gelu(torch.baddbmm(self.down_bias[:, None].to(x.dtype), x, self.down))
        y = torch.baddbmm(self.up_bias[:, None].to(x.dtype), hidden, self.up)
        return y.view(n, b, p, d).transpose(0, 1)


class MoA(nn.Module):
    """A mixture of adapters, to stand beside a sublayer and read its normed input."""

    def __init__(self, router: nn.Module, experts: nn.Module):
        super().__init__()
        self.router = router
        self.experts = experts

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, m, d) -> (b, m, d)."""
        routing = self.router(x, mask)
        return routing.combine(self.experts(routing.dispatch(x)))
