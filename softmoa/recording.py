"""Look inside a forward pass: what every mixture routed where, and what its experts answered."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from softmoa.moa import Folded, MoA, Routing

Place = tuple[int, str]  # of a mixture: layer, from 0, and site
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
    return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][1] != "mhsa")))


@dataclass(frozen=True)
class LayerRecord:
    """One mixture in one forward pass, detached and on the CPU.

    layer: index of the block, from 0. site: "mhsa" or "ffn".
    expert_out: the experts' answers before they are combined: (b, n, p, d) behind `Slots`, and
    `Folded` behind `Gates`, where each expert has an answer to every token.
    """

    layer: int
    site: str
    routing: Routing
    expert_out: Tensor | Folded


@contextmanager
def record_routing(model: nn.Module) -> Iterator[list[LayerRecord]]:
    """Fill a list with one LayerRecord per mixture and forward pass, in order, within the `with`.

    Logits are the same with and without. Hooks are global state of the model: they fire for every
    thread that uses it, so records of other threads are left out here. Do not `yield` to a user
    interface inside the `with`: a generator may be resumed on another thread.
    """
    thread = threading.get_ident()
    records: list[LayerRecord] = []
    handles = []

    def hook(place: Place, moa: MoA) -> None:
        decided: list[Routing] = []

        def on_router(module, inputs, routing: Routing) -> None:
            if threading.get_ident() == thread:
                decided.append(routing.detach())

        def on_experts(module, inputs, y: Tensor | Folded) -> None:
            if threading.get_ident() == thread:
                expert_out = y.detach()
                if isinstance(expert_out, Tensor):
                    expert_out = expert_out.float().cpu()
                records.append(LayerRecord(*place, decided.pop(), expert_out))

        handles.append(moa.router.register_forward_hook(on_router))
        handles.append(moa.experts.register_forward_hook(on_experts))

    try:
        for place, moa in mixtures(model).items():
            hook(place, moa)
        yield records
    finally:
        for handle in handles:
            handle.remove()
