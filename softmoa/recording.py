"""Look inside a forward pass: what every mixture routed where, and what its experts answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from softmoa.moa import Folded, MoA, Routing


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

    def hook(path: str, moa: MoA) -> None:
        _, layer, slot = path.split(".")
        site = {"beside_attn": "mhsa", "beside_mlp": "ffn"}[slot]
        decided: list[Routing] = []

        def on_router(module, inputs, routing: Routing) -> None:
            if threading.get_ident() == thread:
                decided.append(routing.detach())

        def on_experts(module, inputs, y: Tensor | Folded) -> None:
            if threading.get_ident() == thread:
                expert_out = y.detach()
                if isinstance(expert_out, Tensor):
                    expert_out = expert_out.float().cpu()
                records.append(LayerRecord(int(layer), site, decided.pop(), expert_out))

        handles.append(moa.router.register_forward_hook(on_router))
        handles.append(moa.experts.register_forward_hook(on_experts))

    try:
        for path, module in model.named_modules():
            if isinstance(module, MoA):
                hook(path, module)
        yield records
    finally:
        for handle in handles:
            handle.remove()
