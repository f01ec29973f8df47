"""A tiny encoder with random weights, and untrained bundles, for tests that need some."""

from pathlib import Path

import torch

from softmoa.methods import METHODS, attach, bundle, share, trained_state
from softmoa.methods.bundle import BundleInfo
from softmoa.model import weights
from softmoa.model.ast import AST, ASTConfig

TINY = ASTConfig(32, 2, 4, 64, max_frames=64, classes=0, pool="mean")


def tiny(std: float = 0.1, matrices: bool = False, config: ASTConfig = TINY) -> AST:
    """matrices: only those are drawn, and vectors stay as a new encoder has them."""
    torch.manual_seed(0)
    model = AST(config).eval()
    for weight in model.parameters():
        if weight.ndim > 1 or not matrices:
            torch.nn.init.normal_(weight, std=std)
    return model


def loaded(model: AST, sha256: str = "00ff") -> weights.Loaded:
    return weights.Loaded("tiny", model, (), sha256)


FAMILY = {
    "x-soft": ("soft-moa", {"experts": 4, "slots": 2}),
    "x-dense": ("dense-moa", {"experts": 4}),
    "x-top1": ("topk-moa", {"experts": 4, "k": 1}),
    "x-top2": ("topk-moa", {"experts": 4, "k": 2, "balance": "loss"}),
    "x-linear": ("linear", {}),
    "y-soft": ("soft-moa", {"experts": 4}),
}


def write_family(folder: Path) -> dict[str, BundleInfo]:
    """Untrained bundles of the tasks x and y on the embedded backbone, of three classes."""
    base, infos = weights.load_backbone("ast-small"), {}
    for name, (method, values) in FAMILY.items():
        model = share(base.model)
        attach(model, method, METHODS[method].options(**values), 3)
        infos[name] = BundleInfo(
            name, name[0], method, values, tuple("abc"), base=base.name, base_sha256=base.sha256
        )
        bundle.save(folder / f"{name}.safetensors", trained_state(model), infos[name])
    return infos
