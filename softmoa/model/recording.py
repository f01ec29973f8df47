"""Look inside a forward pass, or change it: what every mixture routed where, and what its experts
answered.

    with hooked(model) as trace:
        logits = model(mel)
    trace.records[0].routing.combine_weights
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from softmoa.model.moa import MoA, Routing, TokenAnswers, real_tokens

Place = tuple[int, str]  # of a mixture: layer, from 0, and site
Changes = Mapping[Place, Callable[[Routing], Routing]]
"""What to do with the routing of each place: any function routing -> routing."""

_SITES = {"beside_attn": "mhsa", "beside_mlp": "ffn"}
_PLACE = re.compile(r"(?:^|\.)blocks\.(\d+)\.(beside_attn|beside_mlp)(?:\.|$)")


def mixtures(model: nn.Module) -> dict[Place, MoA]:
    """Every mixture in a slot of a model or within what fills it, in the order of the forward
    pass; `model` may be wrapped, as by `torch.compile`. Raises ValueError if one slot holds two or
    a mixture lies in none."""
    found: dict[Place, MoA] = {}
    for path, module in model.named_modules():
        if isinstance(module, MoA):
            if not (named := _PLACE.search(path)):
                raise ValueError(f"the mixture at '{path}' is in no block of an encoder")
            place = int(named[1]), _SITES[named[2]]
            if place in found:
                raise ValueError(f"there is more than one mixture at {place}")
            found[place] = module
    return found


@dataclass(frozen=True)
class LayerRecord:
    """One mixture in one forward pass, detached and on the CPU.

    layer: index of the block, from 0. site: "mhsa" or "ffn".
    expert_out: the experts' answers before they are combined: (b, n, p, d) behind `Slots`, and
    `TokenAnswers` behind `Gates`, where each expert has an answer to every token.
    """

    layer: int
    site: str
    routing: Routing
    expert_out: Tensor | TokenAnswers

    @property
    def place(self) -> Place:
        return self.layer, self.site


@dataclass(frozen=True)
class Trace:
    """What `hooked` saw, per mixture and forward pass in order.

    outputs: what the mixtures returned, (b, m, d) each, in the graph and where they were computed;
    for gradients.
    """

    records: list[LayerRecord] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@contextmanager
def hooked(
    model: nn.Module, record: bool = True, change: Changes | None = None, outputs: bool = False
) -> Iterator[Trace]:
    """Record the mixtures of `model`, and change their routing, within the `with`.

    change: what becomes of the routing at some places; the layer, the records and the pictures all
    see the changed value. outputs: keep the mixtures' outputs too. Without changes the logits are
    the same as without hooks.

    Hooks are global state of the model: they fire for every thread that uses it, so other threads
    are left alone here. Do not `yield` to a user interface inside the `with`: a generator may be
    resumed on another thread. Raises ValueError for a change at a place without a mixture.
    """
    thread, trace, change = threading.get_ident(), Trace(), change or {}
    found = mixtures(model)
    decided: dict[Place, Routing] = {}
    if unknown := change.keys() - found.keys():
        raise ValueError(f"there is no mixture at {', '.join(map(str, sorted(unknown)))}")

    def on_router(place: Place, routing: Routing) -> Routing:
        decided[place] = change[place](routing) if place in change else routing
        return decided[place]

    def on_experts(place: Place, y: Tensor | TokenAnswers) -> None:
        trace.records.append(LayerRecord(*place, detached(decided.pop(place)), detached(y)))

    def on_mixture(place: Place, y: Tensor) -> None:
        trace.outputs.append(y if y.requires_grad else y.requires_grad_())

    with ExitStack() as hooks:

        def watch(module: nn.Module, place: Place, look: Callable[[Place, Any], Any]) -> None:
            def hook(module, inputs, output):
                return look(place, output) if threading.get_ident() == thread else None

            hooks.enter_context(module.register_forward_hook(hook))

        for place, moa in found.items():
            if record or place in change:
                watch(moa.router, place, on_router)
            if record:
                watch(moa.experts, place, on_experts)
            if outputs:
                watch(moa, place, on_mixture)
        yield trace


def detached(value: Any) -> Any:
    """Routing, or experts' answers, on the CPU in fp32, outside the graph; weights among them are
    copied, since they may train on."""
    if is_dataclass(value):
        parts = {field.name: detached(getattr(value, field.name)) for field in fields(value)}
        return type(value)(**parts)
    if isinstance(value, Tensor):
        plain = value.detach().clone() if isinstance(value, nn.Parameter) else value.detach()
        return (plain.float() if plain.is_floating_point() else plain).cpu()
    return value


def expert_share(record: LayerRecord) -> Tensor:
    """Combine mass of each expert, (b, n), as fractions of all mass: mean over tokens of
    sum_k C[i, j, k], or of the gates of a token router.

    What Soft MoE calls expert importance (arXiv 2308.00951, section 3.5). NaN where every expert is
    switched off.
    """
    mass = token_mean(record, record.routing.expert_weights)
    return mass / mass.sum(dim=-1, keepdim=True)


def token_mean(record: LayerRecord, values: Tensor) -> Tensor:
    """Mean of (b, m, n) over the real tokens -> (b, n)."""
    real = real_tokens(record.routing)
    return (values * real).sum(dim=1) / real.sum(dim=1)
