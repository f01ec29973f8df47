"""The regularised linear solution on frozen features: the probe, and every method's warm head.

Short fine-tuning runs start from it (LP-FT, Kumar et al. 2022, arXiv 2202.10054): a head fitted
first keeps the first steps of a method from tearing the features apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from softmoa.ast import AST
from softmoa.audio import pad_batch

L2 = 0.01  # weight of the penalty beside the mean loss; chosen on ESC-10 folds 1 to 4


def pooled_features(model: AST, mels: Sequence[Tensor], batch: int = 16) -> Tensor:
    """[(frames_i, mels)] -> (clips, d): the pooled final tokens, what the head reads."""
    device = model.cls.device
    with torch.inference_mode():
        parts = []
        for i in range(0, len(mels), batch):
            mel, frames = pad_batch(mels[i : i + batch])
            parts.append(model.pool(*model.features(mel.to(device), frames)).cpu())
    return torch.cat(parts).clone()


def fit_linear(x: Tensor, y: Tensor, classes: int, l2: float = L2) -> tuple[Tensor, Tensor]:
    """Softmax regression of y (clips,) on x (clips, d): weight (classes, d) and bias (classes,).

    Minimises mean cross-entropy + l2 / 2 |W|^2 with W on standardised features, by L-BFGS in
    double precision; the standardisation is folded into what is returned.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = x.double()
        mean, std = x.mean(dim=0), x.std(dim=0).clamp_min(1e-6)
        z = (x - mean) / std
        weight = torch.zeros(classes, x.shape[1], dtype=torch.double, requires_grad=True)
        bias = torch.zeros(classes, dtype=torch.double, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=200, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(z @ weight.T + bias, y) + l2 / 2 * weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    folded = weight.detach() / std
    return folded.float(), (bias.detach() - folded @ mean).float()
