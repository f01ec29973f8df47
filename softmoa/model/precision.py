"""bfloat16 where it pays.

precision   matrix products
fp32        in fp32; on CUDA too, where TF32 is left off
bf16        in bfloat16; norms, the softmaxes of routing and the sums over blocks stay in fp32
auto        bf16 for a large model, and to train one of some size, on hardware that multiplies
            it at twice the speed
"""

from __future__ import annotations

import copy
from typing import Literal, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)
Precision = Literal["auto", "fp32", "bf16"]
LARGE = 50_000_000  # weights; a smaller model answers fast enough to stay exact
TRAINED = 5_000_000  # weights from which training in bfloat16 is faster: 1.4 times for `ast-small`


def wants_bf16(model: nn.Module, precision: Precision) -> bool:
    if precision == "auto":
        return _size(model) >= (TRAINED if model.training else LARGE) and _has_bf16(model)
    return precision == "bf16"


def is_large(model: nn.Module) -> bool:
    """Whether a model takes seconds rather than moments without an accelerator."""
    return _size(model) >= LARGE


def _size(model: nn.Module) -> int:
    return sum(w.numel() for w in model.parameters())


def autocast(model: nn.Module, precision: Precision) -> torch.autocast:
    """A `with` block for the passes of `model`, on the device it lies on."""
    device = next(model.parameters()).device
    return torch.autocast(device.type, torch.bfloat16, enabled=wants_bf16(model, precision))


def stored_in_bf16(model: Model) -> Model:
    """A copy whose projections are kept in bfloat16, for `autocast`, which else casts them anew
    at every pass. What these learn afterwards does not reach the copy."""
    memo = {id(w): w for w in model.parameters()}  # share what is not cast
    twin = copy.deepcopy(model, memo)
    for module in twin.modules():
        module._forward_hooks.clear()  # of a thread that looks inside the model just now
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            for name, weight in list(module.named_parameters(recurse=False)):
                frozen = nn.Parameter(weight.detach().bfloat16(), requires_grad=False)
                setattr(module, name, frozen)
    return twin


def _has_bf16(model: nn.Module) -> bool:
    kind = next(model.parameters()).device.type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "mps":
        return False
    able = torch.cpu.get_capabilities()  # empty where torch does not know the processor
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
