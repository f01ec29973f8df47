"""Mixtures of adapters: routers, the routing they decide, experts, and the layer of the three.

    MoA(x) = routing.combine(experts(routing.dispatch(x)))   with   routing = router(x)

Routing is a value: the layer computes with the same object that the pictures are drawn from.

             router       routing   every expert reads               every token takes
    soft     SoftRouter   Slots     its slots, mixed from all tokens  from all slots
    dense    TokenRouter  Gates     every token                       from all experts
    top-k    TokenRouter  Gates     every token                       from its k experts

Axes: b clips, m tokens, d width, n experts, p slots per expert, r width of an expert's bottleneck.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Slots:
    """Soft routing: slots are mixed from all tokens, tokens are mixed from all slots.

    dispatch_weights: (b, m, n, p), over the real tokens of a clip each slot's weights sum to 1.
    combine_weights: (b, m, n, p), over all n p slots each token's weights sum to 1.
    mask: (b, m), True for real tokens, or None if all are.
    Source: Puigcerver et al. 2023 (Soft MoE, arXiv 2308.00951), eq. 1 and 2.
    """

    dispatch_weights: Tensor
    combine_weights: Tensor
    mask: Tensor | None = None

    @property
    def expert_weights(self) -> Tensor:
        """How much each token takes from each expert, (b, m, n)."""
        return self.combine_weights.sum(dim=-1)

    def dispatch(self, x: Tensor) -> Tensor:
        """Tokens (b, m, d) -> slot inputs (b, n, p, d), each a weighted mean of all tokens."""
        return torch.einsum("bmd,bmnp->bnpd", x, self.dispatch_weights.to(x.dtype))

    def combine(self, y: Tensor) -> Tensor:
        """Slot outputs (b, n, p, d) -> token outputs (b, m, d)."""
        return torch.einsum("bnpd,bmnp->bmd", y, self.combine_weights.to(y.dtype))

    def per_expert(self, y: Tensor) -> Tensor:
        """Slot outputs -> what each expert adds to each token, (b, m, n, d); over the experts this
        sums to `combine`, which never holds a vector per token and expert."""
        return torch.einsum("bnpd,bmnp->bmnd", y, self.combine_weights.to(y.dtype))

    def per_slot(self) -> tuple[Tensor, Tensor]:
        """Dispatch and combine weights, each (b, m, n, p), for pictures and tables."""
        return self.dispatch_weights, self.combine_weights


@dataclass(frozen=True)
class TokenAnswers:
    """Every expert's answer to every token, kept as the n r numbers of its bottleneck instead of
    n d: expert j answers hidden[..., j, :] @ up[j] + up_bias[j].

    hidden: (b, m, n, r). up: (n, r, d). up_bias: (n, d).
    """

    hidden: Tensor
    up: Tensor
    up_bias: Tensor


@dataclass(frozen=True)
class Gates:
    """Token routing: each token by itself weighs the experts' answers to it.

    combine_weights: (b, m, n), zero for the experts that a token was not given to (top-k).
    probabilities: (b, m, n), softmax of the logits over the experts, before any choice.
    mask: (b, m), True for real tokens, or None if all are.
    k: experts a token is given to; None: all of them.
    """

    combine_weights: Tensor
    probabilities: Tensor
    mask: Tensor | None = None
    k: int | None = None

    @property
    def expert_weights(self) -> Tensor:
        return self.combine_weights

    def dispatch(self, x: Tensor) -> Tensor:
        """(b, m, d), as it is: the experts are so small that all of them read every token."""
        return x

    def combine(self, y: TokenAnswers) -> Tensor:
        """The gates act inside the bottlenecks; then one projection serves all experts."""
        gates = self.combine_weights.to(y.hidden.dtype)
        gated = gates[..., None] * y.hidden
        return torch.einsum("bmnr,nrd->bmd", gated, y.up) + gates @ y.up_bias

    def per_expert(self, y: TokenAnswers) -> Tensor:
        answers = torch.einsum("bmnr,nrd->bmnd", y.hidden, y.up) + y.up_bias
        return self.combine_weights.to(answers.dtype)[..., None] * answers

    def per_slot(self) -> tuple[Tensor, Tensor]:
        """The gates twice, with p = 1: one weight says who reads a token and who answers it."""
        return self.combine_weights[..., None], self.combine_weights[..., None]


Routing = Slots | Gates  # what a router decided for a batch of clips


def real_tokens(routing: Routing) -> Tensor:
    """1 for real tokens and 0 for padding, (b, m, 1)."""
    one = routing.expert_weights[..., :1]
    return torch.ones_like(one) if routing.mask is None else routing.mask[..., None].to(one.dtype)


def _normal(*shape: int, std: float) -> Tensor:
    """Gaussian values; none on the meta device, where drawing them imports torch for seconds."""
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_(std=std)


class SoftRouter(nn.Module):
    """x -> Slots. The logits of both softmaxes are the products of tokens and slot vectors phi.

    normalize: take the logits from unit-norm tokens and unit-norm phi columns (over d) times a
    trained scale, as Soft MoE section 2.3 advises for wide models; slot inputs stay raw.
    Departs from the public reference code, which normalises phi over the experts and also feeds
    the shrunken tokens to them.
    """

    def __init__(self, width: int, experts: int, slots: int = 1, normalize: bool = False):
        super().__init__()
        self.phi = nn.Parameter(_normal(width, experts, slots, std=width**-0.5))
        # sqrt(d) gives unit-norm logits the spread that raw ones have; 1 would route uniformly.
        self.scale = nn.Parameter(torch.tensor(math.sqrt(width))) if normalize else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Slots:
        """x: (b, m, d); mask: (b, m), True for real tokens."""
        phi = self.phi
        if self.scale is not None:
            x, phi = F.normalize(x, dim=-1), self.scale * F.normalize(phi, dim=0)
        logits = torch.einsum("bmd,dnp->bmnp", x, phi).float()  # softmaxes in fp32
        real = logits if mask is None else logits.masked_fill(~mask[..., None, None], -torch.inf)
        dispatch = real.softmax(dim=1)  # over the tokens of a clip
        combine = logits.flatten(2).softmax(dim=2).view_as(logits)  # over all n p slots
        return Slots(dispatch, combine, mask)


Balancing = Literal["none", "loss", "bias"]


class TokenRouter(nn.Module):
    """x -> Gates: softmax over the experts of x phi + bias, kept for the k largest of a token.

    k: None keeps all (Dense-MoA). The gates of the k are not scaled back to a sum of 1, as in
    Switch (Fedus et al. 2021, arXiv 2101.03961): with k = 1 the router would learn nothing.
    balance: what is done in training so that a top-k router does not starve its experts;
    "loss" charges `coefficient` times `balance_loss`, to be collected by `auxiliary_loss`;
    "bias" (DeepSeek, arXiv 2408.15664) adds a bias to the probabilities for the choice alone and
    moves it by `rate` a step, down for experts above the mean load and up for those below.
    """

    def __init__(
        self,
        width: int,
        experts: int,
        k: int | None = None,
        balance: Balancing = "none",
        coefficient: float = 0.01,
        rate: float = 0.001,
    ):
        super().__init__()
        self.k = k
        self.balance = balance
        self.coefficient = coefficient
        self.rate = rate
        self.phi = nn.Parameter(_normal(width, experts, std=0.02))
        self.bias = nn.Parameter(torch.zeros(experts))
        # A parameter, though no gradient reaches it, so that it is kept with what was trained.
        self.choice_bias = nn.Parameter(torch.zeros(experts)) if balance == "bias" else None
        self.charge: Tensor | None = None  # of the last training pass, until it is collected

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Gates:
        """x: (b, m, d); mask: (b, m), True for real tokens."""
        logits = torch.einsum("bmd,dn->bmn", x, self.phi) + self.bias
        probabilities = logits.float().softmax(dim=-1)  # (b, m, n)
        gates = probabilities
        if self.k is not None:
            score = probabilities.detach()
            if self.choice_bias is not None:
                score = score + self.choice_bias.detach()
            best = score.topk(self.k, dim=-1).indices
            gates = torch.zeros_like(gates).scatter(-1, best, gates.gather(-1, best))
        routing = Gates(gates, probabilities, mask, self.k)
        if self.training and torch.is_grad_enabled():
            if self.balance == "loss":
                self.charge = self.coefficient * balance_loss(routing)
            if self.choice_bias is not None:
                load = expert_load(routing)
                self.choice_bias.data += self.rate * (load.mean() - load).sign()
        return routing


def expert_load(routing: Gates) -> Tensor:
    """Share of the batch's assignments of real tokens that goes to each expert, (n,)."""
    given = (real_tokens(routing) * (routing.combine_weights > 0)).sum(dim=(0, 1))
    return given / given.sum()


def balance_loss(routing: Gates) -> Tensor:
    """Switch's auxiliary loss n sum_j f_j p_j (arXiv 2101.03961, eq. 4, P_i there).

    f_j: share of the batch's tokens given to expert j; p_j: its mean probability. It is 1 where
    both are even and n where one expert gets everything.
    """
    mass = (real_tokens(routing) * routing.probabilities).sum(dim=(0, 1))
    return len(mass) * (expert_load(routing) * mass / mass.sum()).sum()


def auxiliary_loss(model: nn.Module) -> Tensor:
    """What routers with balance="loss" charge for the last training pass; zero if there are none.

    Call it once between the forward and the backward pass: `loss + auxiliary_loss(model)`.
    The routers forget what was collected.
    """
    total = torch.zeros(())
    for module in model.modules():
        if isinstance(module, TokenRouter) and module.charge is not None:
            total, module.charge = total + module.charge, None
    return total


class Experts(nn.Module):
    """n bottleneck adapters as batched weights: up_j(gelu(down_j(x))), with biases.

    Each expert reads inputs of its own. The up-projections start at zero, so that a fresh mixture
    adds nothing; the down-projections start as those of nn.Linear, different for each expert.
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
        hidden = F.gelu(torch.einsum("bnpd,ndr->bnpr", x, self.down) + self.down_bias[:, None])
        return torch.einsum("bnpr,nrd->bnpd", hidden, self.up) + self.up_bias[:, None]


class TokenExperts(Experts):
    """The same adapters, all of them reading every token."""

    def forward(self, x: Tensor) -> TokenAnswers:
        """Tokens (b, m, d) -> every expert's answer to every token."""
        hidden = F.gelu(torch.einsum("bmd,ndr->bmnr", x, self.down) + self.down_bias)
        return TokenAnswers(hidden, self.up, self.up_bias)


class MoA(nn.Module):
    """A mixture of adapters, to stand beside a sublayer and read its normed input."""

    def __init__(self, router: SoftRouter | TokenRouter, experts: nn.Module):
        super().__init__()
        self.router = router
        self.experts = experts

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, m, d) -> (b, m, d)."""
        routing = self.router(x, mask)
        return routing.combine(self.experts(routing.dispatch(x)))
