"""Fine-tuning methods: what each plugs into the encoder's slots, and what it trains.

A method is a row in METHODS; one file holds one family. `attach` is the only way in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from softmoa.ast import AST, plugins
from softmoa.methods import base_weights, mixtures


@dataclass(frozen=True)
class Method:
    """One fine-tuning method.

    options: the frozen dataclass of its options, with the recommended defaults.
    plug(model, options): fill the slots with freshly initialised modules.
    trains(options): substrings of the names of base weights that train too, as `.ln_attn.`.
    """

    name: str
    title: str
    paper: str
    options: type
    plug: Callable[[AST, Any], None]
    trains: Callable[[Any], tuple[str, ...]]


METHODS = {
    method.name: method
    for method in (
        Method(
            "linear",
            "Linear probe",
            "",
            base_weights.LinearOptions,
            base_weights.plug_nothing,
            lambda options: (),
        ),
        Method(
            "soft-moa",
            "Soft-MoA",
            "arXiv 2402.00828",
            mixtures.SoftMoAOptions,
            mixtures.plug_soft_moa,
            mixtures.norms_beside,
        ),
    )
}


def attach(model: AST, name: str, options: Any, classes: int, seed: int = 0) -> None:
    """Freeze `model`, plug the method in, give it a fresh zero head and mark what trains.

    Raises ValueError if there is no such method, if its options are of another type, or if a slot
    of the model is already filled.

    Frozen weights may be shared with other models (see `share`): a base weight that trains is
    copied first, so that no method can reach another's.
    """
    if name not in METHODS:
        raise ValueError(f"There is no method '{name}'; there are {', '.join(METHODS)}.")
    method = METHODS[name]
    if not isinstance(options, method.options):
        raise ValueError(f"'{name}' takes {method.options.__name__}, not {type(options).__name__}")
    if filled := [path for path, _ in plugins(model)]:
        raise ValueError(f"The model already carries a method, at {filled[0]}")
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method.plug(model, options)
        model.reset_head(classes)
    model.to(model.cls.device)
    for part in method.trains(options):
        for key, weight in list(model.named_parameters()):
            if part in f".{key}":
                owner, _, name = key.rpartition(".")
                own = nn.Parameter(weight.detach().clone())
                setattr(model.get_submodule(owner), name, own)


def share(model: AST) -> AST:
    """A copy of a bare encoder to plug a method into; all weights are shared with the original."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def trained_state(model: AST) -> dict[str, Tensor]:
    """The tensors a method trains, by our own names: what a bundle keeps."""
    return {key: w.detach() for key, w in model.named_parameters() if w.requires_grad}


def trained_parameters(model: AST, head: bool = False) -> int:
    """Number of trained parameters as the papers count: without the head and the final norm."""
    return sum(
        weight.numel()
        for key, weight in trained_state(model).items()
        if head or not key.startswith(("head.", "ln."))
    )
