"""Methods that add nothing to the encoder and choose which of its own weights train."""

from __future__ import annotations

from dataclasses import dataclass

from softmoa.ast import AST


@dataclass(frozen=True)
class LinearOptions:
    """The linear probe trains its head alone; there is nothing to choose."""


def plug_nothing(model: AST, options: LinearOptions) -> None:
    del model, options
