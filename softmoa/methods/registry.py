"""The table of fine-tuning methods. Every family's file enters its own rows with `register`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic.dataclasses
from pydantic import Field
from torch import nn

from softmoa.data.values import STRICT
from softmoa.model.ast import AST, Linear

Family = Literal["Base weights", "Scaling", "Low rank", "Tokens", "Adapters", "Mixtures"]
PETL_AST = "arXiv 2312.03694"  # the paper whose single methods these are, for the AST

# The bounds keep a stranger's header from overflowing what is computed from it.
Count = Annotated[int, Field(ge=1, lt=2**63)]
Number = Annotated[float, Field(ge=1e-6, le=1e6)]
Weights = Iterable[tuple[nn.Module, str]]  # parameters by the module that owns them and their name


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Options:
    """Base of the options of every method; the defaults are its paper's.

    Fields are checked against their types; `softmoa.data.values.sentence` words the error.
    """


@pydantic.dataclasses.dataclass(frozen=True)
class NoOptions(Options):
    """Of a method with nothing to choose."""


def every_weight(model: nn.Module, options: Any = None) -> Iterator[tuple[nn.Module, str]]:
    """All parameters of a module and those within it."""
    for module in model.modules():
        for name, _ in module.named_parameters(recurse=False):
            yield module, name


def every_norm(model: AST, options: Any) -> Weights:
    """Scale and shift of every norm train."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            yield from every_weight(module)


def final_norm(model: AST, options: Any) -> Weights:
    """The final norm trains, as in the papers, with whatever is plugged in."""
    return every_weight(model.ln)


def projections(model: AST, names: Iterable[str]) -> Iterator[Linear]:
    """The projections of these names, such as "attn.q", block by block."""
    for block in model.blocks:
        for name in names:
            projection = block.get_submodule(name)
            assert isinstance(projection, Linear)
            yield projection


@dataclass(frozen=True)
class Method:
    """One fine-tuning method.

    about: one plain sentence for those who choose. paper: where its options come from.
    options: the class of its options, with the paper's defaults.
    plug(model, options): fill the slots with freshly initialised modules.
    trains(model, options): the weights of the encoder itself that train too.
    learning_rate: the paper's, for AdamW and runs of many epochs.
    short_rate: for AdamW and runs of a few epochs from a warm head, which the papers' rates tear
        apart; chosen by `python -m analysis.studies.tune_rates` among the same factors for all, or
        as analysis/results/recipe.md says.
    sizes: the options that decide how many weights it trains, the first before the second.
    """

    name: str
    title: str
    family: Family
    about: str
    paper: str
    options: type
    plug: Callable[[AST, Any], None]
    trains: Callable[[AST, Any], Weights]
    learning_rate: float
    short_rate: float
    sizes: tuple[str, ...] = ()


METHODS: dict[str, Method] = {}


def register(*methods: Method) -> None:
    """Enter methods; from then on they can be attached, trained, compared and kept in bundles."""
    METHODS.update({method.name: method for method in methods})
