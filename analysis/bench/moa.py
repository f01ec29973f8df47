"""Mixture layers against their naive forms, and how costs grow against the closed formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from analysis.bench.measure import Result, Setting, alternate, equal, in_turns
from analysis.bench.naive import NaiveMoA
from softmoa.model.ast import ASTConfig, Block
from softmoa.model.moa import Experts, MoA, SoftRouter, TokenExperts, TokenRouter
from softmoa.training.fit import StepMemory

WIDTH, BOTTLENECK = 768, 6  # base size, reduction 128
BATCH, TOKENS = 4, 470  # 4 s clips


def mixture(
    experts: int,
    dense: bool = False,
    slots: int = 1,
    width: int = WIDTH,
    bottleneck: int = BOTTLENECK,
) -> MoA:
    """A layer of random weights."""
    torch.manual_seed(0)
    if dense:
        layer = MoA(TokenRouter(width, experts), TokenExperts(width, experts, bottleneck))
    else:
        layer = MoA(SoftRouter(width, experts, slots), Experts(width, experts, bottleneck))
    nn.init.normal_(layer.experts.get_parameter("up"), std=0.1)
    return layer


def moa(setting: Setting) -> list[Result]:
    """Forward and backward of one layer at the base size."""
    on_gpu = setting.device.type == "cuda"
    x = torch.randn(BATCH, TOKENS, WIDTH, device=setting.device, requires_grad=True)
    dy = torch.randn(BATCH, TOKENS, WIDTH, device=setting.device)
    setting = Setting(setting.device, 4 * setting.rounds)
    rows = []
    targets = {7: 0.4, 16: 0.2, 64: 0.06} if on_gpu else {7: 0.7, 16: 1.0, 64: 1.0}
    for experts, target in targets.items():
        layer = mixture(experts).to(setting.device)
        rows.append(_layer(setting, f"Soft-MoA, n = {experts}", layer, x, dy, target))
    layer = mixture(7, dense=True).to(setting.device)
    rows.append(_layer(setting, "Dense-MoA, n = 7", layer, x, dy, 0.2))
    ours, peer = (saved_mb(module, x) for module in (layer, NaiveMoA(layer)))
    what = "Dense-MoA, n = 7, kept for the backward pass"
    rows.append(Result(what, ours, "MB", "stack of all answers", peer, ours / peer, target=0.2))
    return rows


def _layer(setting: Setting, what: str, layer: MoA, x: Tensor, dy: Tensor, target: float) -> Result:
    naive = NaiveMoA(layer)

    def gradient(module: nn.Module) -> Tensor:
        x.grad = None
        module.zero_grad()
        module(x).backward(dy)
        assert x.grad is not None
        return x.grad

    checked = f"output {equal(layer(x), naive(x), 1e-4)}; gradient "
    checked += equal(gradient(layer), gradient(naive), 1e-4)
    dense = isinstance(layer.router, TokenRouter)
    return in_turns(
        setting,
        f"{what}, forward and backward, b = {len(x)}, m = {x.shape[1]}",
        "stack of all answers" if dense else "loop over experts",
        lambda: gradient(layer),
        lambda: gradient(naive),
        target,
        checked,
    )


def saved_mb(module: nn.Module, x: Tensor) -> float:
    """Megabytes that autograd keeps of a forward pass, beside the input and the weights."""
    memory = StepMemory(module, x)
    with memory:
        y = module(x)  # lives on, so that no storage is counted twice
    del y
    return memory.activations / 1e6


def growth(setting: Setting) -> list[Result]:
    """Time against floating-point operations, as a fixed cost and a rate fitted to the points.

    In n: 6 m d n + 4 n d r of a Soft-MoA layer. In tokens and in batch: b (24 m d^2 + 4 m^2 d) of
    a transformer block.
    """
    x = torch.randn(BATCH, TOKENS, WIDTH, device=setting.device)
    counts = [1, 2, 4, 8, 16, 32, 64, 128]
    layers = [mixture(n).to(setting.device) for n in counts]
    in_n = [6 * TOKENS * WIDTH * n + 4 * n * WIDTH * BOTTLENECK for n in counts]
    block = Block(ASTConfig()).to(setting.device).eval()

    def cost(b: int, m: int) -> int:
        return b * (24 * m * WIDTH**2 + 4 * m**2 * WIDTH)

    config = ASTConfig()
    seconds = [1, 2, 5, 10, 20, 30, 60]
    lengths = [2 + config.bands * config.columns(100 * s - 2) for s in seconds]
    batches = [1, 2, 4, 8, 16]
    clip = TOKENS // 4

    def tokens(b: int, m: int) -> Tensor:
        return torch.randn(b, m, WIDTH, device=setting.device)

    curves: dict[str, tuple[list[int], list[Callable[[], object]]]] = {
        f"Soft-MoA layer, n = {counts}": (in_n, [partial(layer, x) for layer in layers]),
        f"block, clips of {seconds} s": (
            [cost(1, m) for m in lengths],
            [partial(block, tokens(1, m)) for m in lengths],
        ),
        f"block, batches of {batches}, m = {clip}": (
            [cost(b, clip) for b in batches],
            [partial(block, tokens(b, clip)) for b in batches],
        ),
    }
    rows = []
    with torch.inference_mode():
        for what, (work, actions) in curves.items():
            times = [min(t) for t in alternate(setting, *actions)]  # noise only ever adds
            shown = ", ".join(f"{t:.3g}" for t in times)
            off = shape_error(work, times)
            rows.append(
                Result(f"{what}: {shown} ms; farthest from the formula", off, "", target=0.2)
            )
    return rows


def shape_error(work: list[int], times: list[float]) -> float:
    """Largest relative distance of the times from a + b work, a and b of least squares of it."""
    t = np.array(times)
    design = np.stack([np.ones(len(t)), np.array(work, float)], axis=1) / t[:, None]
    found, *_ = np.linalg.lstsq(design, np.ones(len(t)), rcond=None)
    return float(np.abs(design @ found - 1).max())
