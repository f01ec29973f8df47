"""The student of the teachers: the encoder, a linear head for each target, and its loss."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.pretraining.scenes import Batch, Batches, Scenes
from analysis.pretraining.speech_teacher import SPEECH
from analysis.pretraining.teacher import EMBEDDING, HOP_FRAMES, PATCH_FRAMES, TAGS
from analysis.pretraining.word_teacher import WORD_EMBEDDING
from softmoa.model.ast import AST, SPECIAL_TOKENS
from softmoa.model.device import sent

TAG_WEIGHT = 0.1  # of the summed binary cross-entropy beside the mean squared error
SPEECH_WEIGHT = 1.0  # of Whisper's mean squared error beside YAMNet's two
WORDS = 1024  # that the student has a place for


class Student(nn.Module):
    """The encoder and linear heads that read mean tokens: YAMNet's embedding and tags, Whisper's
    speech, words by name and by what EfficientWord-Net hears in them."""

    def __init__(self, encoder: AST):
        super().__init__()
        self.encoder = encoder
        self.to_embedding = nn.Linear(encoder.config.width, EMBEDDING)
        self.to_tags = nn.Linear(encoder.config.width, TAGS)
        self.to_speech = nn.Linear(encoder.config.width, SPEECH)
        self.to_words = nn.Linear(encoder.config.width, WORDS)
        self.to_word_sound = nn.Linear(encoder.config.width, WORD_EMBEDDING)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """mel (b, frames, 128) -> means of the tokens of each column (b, columns, d), and of all
        (b, d)."""
        tokens, _ = self.encoder.features(mel)
        columns = tokens[:, SPECIAL_TOKENS:].unflatten(1, (self.encoder.config.bands, -1))
        return columns.mean(dim=1), self.encoder.pool(tokens)

    def patches(self, columns: Tensor, parts: int = 1) -> Tensor:
        """Columns (b, columns, d) of `parts` scenes end to end -> means of those under each patch
        of the teacher (b, patches, d)."""
        config = self.encoder.config
        each = columns.unflatten(1, (parts, -1))  # (b, parts, columns of one, d)
        span, hop = PATCH_FRAMES // config.patch, HOP_FRAMES // config.patch
        return each.unfold(2, span, hop).mean(dim=-1).flatten(1, 2)


def loss_of(
    student: Student, batch: Batch, tag_weight: float = TAG_WEIGHT, embedding_weight: float = 1.0
) -> Tensor:
    """Patch by patch and column by column, with the same weight for the clip as a whole."""
    columns, pooled = student(batch.mel)
    tags, embedding, speech = batch.targets.tags, batch.targets.embedding, batch.targets.speech
    total = torch.zeros((), device=pooled.device)
    if tags.shape[1]:
        local = student.patches(columns, batch.parts)
        for tokens, said, felt in (
            (local, tags, embedding),
            (pooled, tags.mean(dim=1), embedding.mean(dim=1)),
        ):
            error = F.mse_loss(student.to_embedding(tokens).float(), felt)
            entropy = F.binary_cross_entropy_with_logits(student.to_tags(tokens).float(), said)
            total = total + embedding_weight * error + tag_weight * TAGS * entropy
    if speech is not None:
        for tokens, heard in ((columns, speech), (pooled, speech.mean(dim=1))):
            error = F.mse_loss(student.to_speech(tokens).float(), heard)
            total = total + SPEECH_WEIGHT * error
    return total


def ridge(features: Tensor, targets: Tensor, strength: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Weight (outputs, d) and bias of a ridge regression; the bias is not penalised."""
    centre, mean = features.mean(dim=0), targets.mean(dim=0)
    x, y = (features - centre).double(), (targets - mean).double()
    gram = x.T @ x
    gram.diagonal().add_(strength * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, x.T @ y).T.float()
    return weight, mean - weight @ centre


@torch.inference_mode()
def fit_heads(student: Student, batches: Batches, count: int = 600) -> None:
    """Solve the heads on the frozen encoder; tags by their logits, clipped to what matters."""
    scenes = batches.scenes
    indices = np.random.default_rng(batches.seed).permutation(len(scenes))[:count]
    rows: dict[nn.Linear, tuple[list[Tensor], list[Tensor]]] = {}

    def add(head: nn.Linear, tokens: Tensor, target: Tensor) -> None:
        inputs, targets = rows.setdefault(head, ([], []))
        inputs.append(tokens.flatten(0, 1))
        targets.append(target.flatten(0, 1))

    for part in np.array_split(indices, -(-len(indices) // 20)):
        mel, raw = scenes.take(part)
        columns = student(sent(mel, student.encoder.device))[0].cpu()
        targets = batches.standardise(raw)
        if targets.speech is not None:
            add(student.to_speech, columns, targets.speech)
        else:
            local = student.patches(columns)
            add(student.to_embedding, local, targets.embedding)
            add(student.to_tags, local, targets.tags.logit(eps=1e-4))
    for head, (inputs, outputs) in rows.items():
        weight, bias = ridge(torch.cat(inputs), torch.cat(outputs))
        head.weight.copy_(weight)
        head.bias.copy_(bias)


@torch.inference_mode()
def explained(encoder: AST, held_out: Scenes, batches: Batches) -> float:
    """Share of the variance of the teacher's clip embedding that a ridge regression on the frozen
    pooled features explains: fitted on the first three quarters of the scenes, told on the rest."""
    features, targets = [], []
    for part in np.array_split(np.arange(len(held_out)), len(held_out) // 20):
        mel, raw = held_out.take(part)
        features.append(encoder.pool(*encoder.features(sent(mel, encoder.device))).cpu())
        targets.append(batches.standardise(raw).embedding.mean(dim=1))
    x, y = torch.cat(features), torch.cat(targets)
    cut = len(x) * 3 // 4
    weight, bias = ridge(x[:cut], y[:cut])
    error = (y[cut:] - x[cut:] @ weight.T - bias).square().mean()
    return 1 - float(error / (y[cut:] - y[:cut].mean(dim=0)).square().mean())
