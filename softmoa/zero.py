"""ZeroGPU: a Space whose GPU is lent to one call at a time. Elsewhere nothing here does anything.

There a call that needs the GPU runs in a forked process: what goes in and comes out is pickled, so
models travel by name, and results as plain values and CPU tensors. The page itself keeps its models
on the CPU: a small one answers there before a GPU would be found for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

PRESENT = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")
DEVICE = "cuda" if PRESENT else "cpu"
LONGEST = 120  # seconds of one call: what a visitor without an account has in a day

if PRESENT:
    import spaces  # pyright: ignore[reportMissingImports]

Module = TypeVar("Module", bound=nn.Module)
Function = TypeVar("Function", bound=Callable[..., Any])


def placed(module: Module) -> Module:
    """The module where a call of `on_gpu` computes, moved there if need be."""
    return module.to(DEVICE) if PRESENT else module


def on_gpu(seconds: Callable[..., float]) -> Callable[[Function], Function]:
    """Lend the GPU to each call of a function or generator.

    seconds: called with the same arguments, how long the call will take; it is cut off then. A
    shorter one is served sooner.
    """

    def decorate(function: Function) -> Function:
        if not PRESENT:
            return function

        def duration(*args: Any, **kwargs: Any) -> int:
            return max(1, min(LONGEST, round(seconds(*args, **kwargs))))

        return spaces.GPU(duration=duration)(function)

    return decorate
