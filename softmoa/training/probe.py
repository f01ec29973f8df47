"""The linear probe: regularised softmax regression on the features of the frozen backbone.

It is what every comparison is measured against, and where short runs start (LP-FT, Kumar et al.
2022, arXiv 2202.10054): a head fitted first keeps the first steps of a method from tearing the
features apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from softmoa.data.audio import pad_batch
from softmoa.model.ast import AST
from softmoa.model.device import sent

L2 = 0.01  # weight of the penalty beside the mean loss; chosen on ESC-10 folds 1 to 4


def pooled_features(model: AST, mels: Sequence[Tensor], batch: int = 16) -> Tensor:
    """[(frames_i, mels)] -> (clips, d): the pooled final tokens, what the head reads."""
    with torch.inference_mode():
        parts = []
        for i in range(0, len(mels), batch):
            mel, _ = pad_batch(mels[i : i + batch])
            frames = [len(clip) for clip in mels[i : i + batch]]
            parts.append(model.pool(*model.features(sent(mel, model.device), frames)).cpu())
    return torch.cat(parts).clone()


def fit_linear(x: Tensor, y: Tensor, classes: int, l2: float = L2) -> tuple[Tensor, Tensor]:
    """Softmax regression of y (clips,) on x (clips, d): weight (classes, d) and bias (classes,).

    Minimises mean cross-entropy + l2 / 2 |W|^2 with W on standardised features; the standardisation
    is folded into what is returned. Raises ValueError if a class has no clip.
    """
    from sklearn.linear_model import LogisticRegression  # a second to import
    from sklearn.preprocessing import StandardScaler

    if len(y.unique()) < classes:
        raise ValueError("there is a class without a training clip")
    scaler = StandardScaler()
    z = scaler.fit_transform(x.double().numpy())
    # Of two classes scikit-learn fits one row w, which stands for the rows -w / 2 and w / 2: its
    # penalty is twice that of theirs.
    two = classes == 2
    model = LogisticRegression(C=(1 + two) / (l2 * len(x)), max_iter=1000).fit(z, y.numpy())
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if two:
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    weight = weight / torch.from_numpy(scaler.scale_)
    return weight.float(), (bias - weight @ torch.from_numpy(scaler.mean_)).float()
