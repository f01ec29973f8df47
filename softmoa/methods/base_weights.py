"""Methods that add nothing to the encoder and choose which of its own weights train.

linear    mel --> [ frozen encoder ] --> head            the head alone
full      mel --> [ all weights    ] --> head            everything
bitfit    mel --> [ biases         ] --> head            Zaken et al. 2021, arXiv 2106.10199
"""

from __future__ import annotations

from dataclasses import dataclass

from softmoa.ast import AST
from softmoa.methods.options import Options

EVERYTHING = (".",)
BIASES = (".bias",)  # of projections, norms and the patch embedding


@dataclass(frozen=True)
class LinearOptions(Options):
    """The linear probe trains its head alone; there is nothing to choose.

    Departs from the paper, which also trains the final norm; a linear head makes it redundant.
    """


@dataclass(frozen=True)
class FullOptions(Options):
    """Full fine-tuning trains every weight; there is nothing to choose."""


@dataclass(frozen=True)
class BitFitOptions(Options):
    """BitFit trains every bias and the head; there is nothing to choose."""


def plug_nothing(model: AST, options: Options) -> None:
    del model, options
