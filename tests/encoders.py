"""A tiny encoder with random weights, for tests that need one and not its answers."""

import torch

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
