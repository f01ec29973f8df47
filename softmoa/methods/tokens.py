"""Methods that add trained tokens: prompts on the sequence, prefixes in the attention.

    shallow prompts   [cls dist patches | P   ] --> block 1 --> block 2 --> ...
    deep prompts      [cls dist patches | P_1 ] --> block 1 --> [.. | P_2 ] --> block 2 --> ...
    prefix            attention of tokens over  [K_prefix, K], [V_prefix, V]  in every block

Prompts (Visual Prompt Tuning, Jia et al. 2022, arXiv 2203.12119) stand behind the patches, so that
every other token keeps its place. Attention has no order, hence this computes the same as VPT's
place behind the class token. They are dropped behind the last block and never pooled.

These methods change what the model computes from the first step on: no token is neutral.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from softmoa.methods.registry import Count, Method, Options, final_norm, register
from softmoa.model.ast import AST, Block


@dataclass(frozen=True)
class ShallowPromptOptions(Options):
    """length: prompts in front of the first block, which travel on through all others."""

    length: Count = 300


@dataclass(frozen=True)
class DeepPromptOptions(Options):
    """length: prompts of every block, in the place of those of the block before."""

    length: Count = 25


@dataclass(frozen=True)
class PrefixOptions(Options):
    """length: extra keys of every block, and as many values. The paper's prefix-24 counts both."""

    length: Count = 12


class Prompts(nn.Module):
    """tokens: (layers, length, d), for the first block or for each of them."""

    def __init__(self, layers: int, length: int, width: int, patch: int):
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(layers, length, width))
        bound = math.sqrt(6 / (patch**2 + width))  # as VPT: Xavier's, of a patch embedding
        nn.init.uniform_(self.tokens, -bound, bound)

    def forward(self, x: Tensor, mask: Tensor | None, layer: int) -> tuple[Tensor, Tensor | None]:
        if layer >= len(self.tokens):
            return x, mask
        length = self.tokens.shape[1]
        if layer:
            x = x[:, :-length]
        elif mask is not None:
            mask = F.pad(mask, (0, length), value=True)
        return torch.cat([x, self.tokens[layer].to(x.dtype).expand(len(x), -1, -1)], dim=1), mask


class Prefix(nn.Module):
    """Keys and values (length, d) of an attention (Li and Liang 2021, arXiv 2101.00190).

    Departs from that paper, which trains them through an MLP; the sister paper does not.
    """

    def __init__(self, length: int, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.keys = nn.Parameter(torch.empty(length, width))
        self.values = nn.Parameter(torch.empty(length, width))
        for part in (self.keys, self.values):
            nn.init.uniform_(part, -(width**-0.5), width**-0.5)

    def forward(self, b: int) -> tuple[Tensor, Tensor]:
        """Keys and values, each (b, h, length, d / h)."""
        keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(0, 1).expand(b, -1, -1, -1)
            for part in (self.keys, self.values)
        )
        return keys, values


def plug_shallow_prompts(model: AST, options: ShallowPromptOptions) -> None:
    model.prompts = Prompts(1, options.length, model.config.width, model.config.patch)


def plug_deep_prompts(model: AST, options: DeepPromptOptions) -> None:
    config = model.config
    model.prompts = Prompts(config.depth, options.length, config.width, config.patch)


def plug_prefix(model: AST, options: PrefixOptions) -> None:
    for block in model.blocks:
        assert isinstance(block, Block)
        block.attn.prefix = Prefix(options.length, model.config.width, model.config.heads)


row = partial(
    Method,
    family="Tokens",
    trains=final_norm,
    learning_rate=1e-2,
    short_rate=3e-3,
    sizes=("length",),
)
register(
    row(
        name="shallow-prompt",
        title="Prompt tuning, shallow",
        about="Adds trained tokens to the sequence before the first layer.",
        paper="arXiv 2203.12119",
        options=ShallowPromptOptions,
        plug=plug_shallow_prompts,
        short_rate=1e-2,
    ),
    row(
        name="deep-prompt",
        title="Prompt tuning, deep",
        about="Adds fresh trained tokens to the sequence before every layer.",
        paper="arXiv 2203.12119",
        options=DeepPromptOptions,
        plug=plug_deep_prompts,
    ),
    row(
        name="prefix",
        title="Prefix tuning",
        about="Adds trained keys and values to the attention of every layer.",
        paper="arXiv 2101.00190",
        options=PrefixOptions,
        plug=plug_prefix,
    ),
)
