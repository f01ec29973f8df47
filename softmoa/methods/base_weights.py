"""Methods that add nothing to the encoder and choose which of its own weights train.

linear    mel --> [ frozen encoder ] --> head            the head alone
full      mel --> [ all weights    ] --> head            everything
bitfit    mel --> [ biases         ] --> head            Zaken et al. 2021, arXiv 2106.10199
ln        mel --> [ norms          ] --> head            Basu et al. 2023, arXiv 2304.02319
last      mel --> [ .. last blocks ] --> head            the classic: the top of the network
"""

from __future__ import annotations

from functools import partial

from pydantic.dataclasses import dataclass

from softmoa.methods.registry import (
    PETL_AST,
    Count,
    Method,
    NoOptions,
    Options,
    Weights,
    every_norm,
    every_weight,
    register,
)
from softmoa.model.ast import AST


@dataclass(frozen=True)
class LastBlocksOptions(Options):
    """blocks: how many of the last ones train; of a shallower encoder, all of them."""

    blocks: Count = 1


def plug_nothing(model: AST, options: Options) -> None:
    """The encoder stays as it is."""


def nothing(model: AST, options: Options) -> Weights:
    """No weight of the encoder trains. Departs from the paper, which also trains the final norm; a
    linear head makes it redundant."""
    return ()


def biases(model: AST, options: Options) -> Weights:
    """Of projections, norms and the patch embedding."""
    return ((owner, name) for owner, name in every_weight(model) if name == "bias")


def last_blocks(model: AST, options: LastBlocksOptions) -> Weights:
    """Of the last blocks and the final norm behind them."""
    for block in list(model.blocks)[-options.blocks :]:
        yield from every_weight(block)
    yield from every_weight(model.ln)


row = partial(Method, family="Base weights", options=NoOptions, plug=plug_nothing)
register(
    row(
        name="linear",
        title="Linear probe",
        about="Trains only a linear layer on the frozen encoder's features.",
        paper=PETL_AST,
        trains=nothing,
        learning_rate=1e-3,
        short_rate=1e-4,
    ),
    row(
        name="full",
        title="Full fine-tuning",
        about="Trains every weight of a copy of the encoder.",
        paper=PETL_AST,
        trains=every_weight,
        learning_rate=5e-5,
        short_rate=5e-5,
    ),
    row(
        name="bitfit",
        title="BitFit",
        about="Trains only the biases of the encoder.",
        paper="arXiv 2106.10199",
        trains=biases,
        learning_rate=5e-3,
        short_rate=5e-3,
    ),
    row(
        name="ln-tuning",
        title="LN-tuning",
        about="Trains only the norms of the encoder.",
        paper="arXiv 2304.02319",
        trains=every_norm,
        learning_rate=5e-3,
        short_rate=5e-4,
    ),
    row(
        name="last-blocks",
        title="Last blocks",
        about="Trains the last layers of the encoder whole.",
        paper="common practice",
        options=LastBlocksOptions,
        trains=last_blocks,
        learning_rate=1e-3,
        short_rate=1e-3,
    ),
)
