"""What changes when experts are switched off or routing is made blind.

    with hooked(model, change={(3, "mhsa"): Intervention(off=(2,))}):
        logits = model(mel)

An intervention rewrites the routing a router decided; nothing else of the model is touched, so the
layer, the recording and the pictures all see the same changed value.

Axes as in `moa`: b clips, m tokens, n experts, p slots, d width. A place is (layer, site), as
LayerRecord names them: (3, "mhsa").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from softmoa.lens.contribution import expert_outputs
from softmoa.model.ast import AST
from softmoa.model.device import sent, within_memory
from softmoa.model.moa import Gates, Slots, real_tokens
from softmoa.model.recording import hooked, mixtures

Mode = Literal["zero", "renormalise"]
Weights = Literal["learned", "uniform", "shuffled"]
Decided = TypeVar("Decided", bound=Slots | Gates)


@dataclass(frozen=True)
class Intervention:
    """A change to the routing of one mixture; the default changes nothing.

    off: experts whose answers are not combined. mode: what becomes of their combine weights, see
    `without`.
    dispatch, combine: "uniform" gives every real token, or every slot, the same weight: together
    each token receives the experts' mean answer to the mean token (Soft MoE, table 2). "shuffled"
    gives each token the weights of another one of its clip, drawn with `seed`; both shuffled give
    it those of the same other one. A token-routed mixture dispatches no means of tokens, so only
    its combine weights, its gates, can be changed.
    """

    off: tuple[int, ...] = ()
    mode: Mode = "zero"
    dispatch: Weights = "learned"
    combine: Weights = "learned"
    seed: int = 0

    def __post_init__(self) -> None:
        kinds = {"mode": Mode, "dispatch": Weights, "combine": Weights}
        for name, kind in kinds.items():
            if getattr(self, name) not in get_args(kind):
                one_of = ", ".join(get_args(kind))
                raise ValueError(f"{name} must be one of {one_of}, not {getattr(self, name)}")

    def __call__(self, routing: Decided) -> Decided:
        """The routing as it would be."""
        if self.dispatch != "learned":
            if not isinstance(routing, Slots):
                raise ValueError("only a soft mixture has dispatch weights that can be changed")
            routing = replace(routing, dispatch_weights=self._dispatch(routing))
        if self.combine == "uniform":
            slots = routing.combine_weights[0, 0].numel()
            equal = torch.full_like(routing.combine_weights, 1 / slots)
            routing = replace(routing, combine_weights=equal)
        elif self.combine == "shuffled":
            shuffled = _shuffled(routing.combine_weights, routing.mask, self.seed)
            routing = replace(routing, combine_weights=shuffled)
        if not self.off:
            return routing
        experts = routing.combine_weights.shape[2]
        if unknown := set(self.off) - set(range(experts)):
            raise ValueError(f"there is no expert {unknown.pop()} among {experts}")
        off = torch.zeros(experts, dtype=torch.bool)
        off[list(self.off)] = True
        return without(routing, off, self.mode)

    def _dispatch(self, routing: Slots) -> Tensor:
        if self.dispatch == "shuffled":
            return _shuffled(routing.dispatch_weights, routing.mask, self.seed)
        real = real_tokens(routing)[..., None]  # (b, m, 1, 1)
        return (real / real.sum(dim=1, keepdim=True)).expand_as(routing.dispatch_weights)


def without(routing: Decided, off: Tensor, mode: Mode = "zero") -> Decided:
    """The routing with experts left out of the combination.

    off: (n,) bool, or (b, n) for a choice of its own in every row of the batch.
    mode: "zero" drops what the experts add; with all of them off the mixture adds nothing.
    "renormalise" also hands their combine weights to the others, in proportion, so that a token's
    weights keep their sum; a token that gave the others nothing, as under top-1, receives nothing.
    """
    weights = routing.combine_weights  # (b, m, n) or (b, m, n, p)
    off = off.to(weights.device).view(-1, 1, weights.shape[2], *[1] * (weights.ndim - 3))
    kept = weights.masked_fill(off, 0)
    if mode == "renormalise":
        axes = tuple(range(2, weights.ndim))
        before, after = weights.sum(axes, keepdim=True), kept.sum(axes, keepdim=True)
        kept = kept * torch.where(after > 0, before / after, 0)
    return replace(routing, combine_weights=kept)


def _shuffled(weights: Tensor, mask: Tensor | None, seed: int) -> Tensor:
    """Weights (b, m, ...) with the real tokens of every clip in another order."""
    b, m = weights.shape[:2]
    source = torch.arange(m).repeat(b, 1)
    for clip, own in enumerate(source):
        real = torch.arange(m) if mask is None else mask[clip].nonzero()[:, 0].cpu()
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
        own[real] = real[order]
    return weights[torch.arange(b)[:, None], source]


class CausalContribution(NamedTuple):
    """What removing each expert of each mixture does to the logits.

    logits: (classes,), of the intact model. delta: (mixtures, n, classes), in the order of the
    forward pass: logits without the expert minus the intact ones, below zero where the expert
    speaks for the class.
    """

    logits: Tensor
    delta: Tensor


@within_memory
def causal_contribution(
    model: AST, mel: Tensor, mode: Mode = "zero", batch: int = 16
) -> CausalContribution:
    """Remove one expert at a time, every one of every layer, and run the rest of the model.

    mel: (frames, mels) of one clip. mode: see `without`. batch: rows that go through a block at
    once, for memory and speed; it does not change the result.

    One pass through the blocks: row 0 stays intact, and each mixture splits one row per expert off
    it, so nothing below a removed expert is computed twice. Trust it most of the three views, but
    removing experts one at a time misses what two can only do, or stand in for, together.
    The model must have mixtures. Raises DeviceError where memory does not suffice.
    """
    found = mixtures(model)
    assert model.prompts is None  # no method has both
    (experts,) = {moa.router.phi.shape[1] for moa in found.values()}
    with torch.inference_mode():
        x, mask = model.embed(sent(mel[None], model.device))
        for layer, block in enumerate(model.blocks):
            places = [place for place in found if place[0] == layer]
            off = torch.zeros(len(places), len(x) + len(places) * experts, experts).bool()
            for row_off in off:
                row_off[len(x) : len(x) + experts].fill_diagonal_(True)
                x = torch.cat([x, x[:1].expand(experts, -1, -1)])
            parts = []
            for rows in torch.arange(len(x)).split(batch):
                changes = (partial(without, off=row_off[rows], mode=mode) for row_off in off)
                with hooked(model, record=False, change=dict(zip(places, changes, strict=True))):
                    parts.append(block(x[rows], mask))
            x = torch.cat(parts)
        logits = model.head(model.pool(model.ln(x), mask)).float().cpu()
    delta = (logits[1:] - logits[0]).unflatten(0, (len(found), experts))
    return CausalContribution(logits[0], delta)


@within_memory
def signed_contribution(model: AST, mel: Tensor, target: int) -> Tensor:
    """What each expert adds to each token, projected onto the gradient of a class's logit:
    (mixtures, m, n), in the order of the forward pass.

    mel: (frames, mels) of one clip. target: the class.

    For token i and expert j: <d logit / d y_i, sum_k C[i, j, k] Y[j, k]>, where y is the output of
    the mixture. Over experts and tokens it sums to <gradient, y> exactly. As an account of the
    logit it is first-order: it takes all that follows the mixture (attention, MLPs, norms) as
    linear around the intact pass, so minus this approximates the causal delta of mode "zero" while
    the contributions are small against the tokens they are added to.
    Source: gradient x input, Shrikumar et al. 2016 (arXiv 1605.01713), on the mixture's output.
    The model must have mixtures. Raises DeviceError where memory does not suffice.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        hooked(model, outputs=True) as trace,
    ):
        logits = model(sent(mel[None], model.device))[0]
        gradients = torch.autograd.grad(logits[target], trace.outputs)
    return torch.stack(
        [
            torch.einsum("md,mnd->mn", gradient[0].float().cpu(), expert_outputs(record)[0])
            for gradient, record in zip(gradients, trace.records, strict=True)
        ]
    )
