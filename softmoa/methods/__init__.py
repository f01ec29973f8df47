"""Fine-tuning methods: what each plugs into the encoder's slots, and what it trains.

One file holds one family with its rows of METHODS. `attach` is the only way in.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

# Families enter their methods when they are imported, and METHODS keeps this order.
from softmoa.methods import base_weights, scaling, lora, tokens, adapters, mixtures  # noqa: F401  # isort: skip
from softmoa.methods.registry import METHODS, Method, Options, final_norm, register
from softmoa.model.ast import AST
from softmoa.model.seeding import seeded

__all__ = (
    "METHODS", "Method", "Options", "attach", "final_norm", "register", "share",
    "trained_parameters", "trained_state",
)  # fmt: skip


def attach(model: AST, name: str, options: Any, classes: int, seed: int = 0) -> None:
    """Freeze `model`, plug the method in, give it a fresh zero head and mark what trains.

    Raises ValueError if there is no such method, if its options are of another type, or if the
    model already carries a method. The same seed plugs in the same weights.

    Frozen weights may be shared with other models (see `share`): a base weight that trains is
    copied first, so that no method can reach another's.
    """
    if name not in METHODS:
        raise ValueError(f"There is no method '{name}'; there are {', '.join(METHODS)}.")
    method = METHODS[name]
    if not isinstance(options, method.options):
        raise ValueError(f"'{name}' takes {method.options.__name__}, not {type(options).__name__}")
    if model.method:
        raise ValueError(f"The model already carries the method '{model.method}'")
    model.method = name
    model.requires_grad_(False)
    with seeded(seed):
        method.plug(model, options)
        model.reset_head(classes)
    model.to(model.cls.device, model.cls.dtype)
    for owner, weight in list(method.trains(model, options)):
        setattr(owner, weight, nn.Parameter(getattr(owner, weight).detach().clone()))


def share(model: AST) -> AST:
    """A copy of a bare encoder to plug a method into; all weights are shared with the original."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def trained_state(model: AST) -> dict[str, Tensor]:
    """The tensors a method trains, by our own names: what a bundle keeps."""
    return {key: w.detach() for key, w in model.named_parameters() if w.requires_grad}


def trained_parameters(model: AST) -> int:
    """Number of trained parameters as the papers count: without the head and the final norm.

    BitFit at the base size is 102,144 by this count, and 102,912 with the final norm's bias.
    """
    left_out = {*model.head.parameters(), *model.ln.parameters()}
    trained = {weight for weight in model.parameters() if weight.requires_grad}
    return sum(weight.numel() for weight in trained - left_out)
