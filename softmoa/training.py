"""Training as a generator of plain events: a model and examples in, what happened out.

Nothing is printed and nothing is kept: the command line, the app, the studies and the tests drive
the same generator, and closing it stops the run at the next step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.transforms import FrequencyMasking, TimeMasking

from softmoa.audio import pad_batch

Example = tuple[Tensor, int]  # log-mel (frames, mels) and class


@dataclass(frozen=True)
class TrainingOptions:
    """AdamW and cosine annealing to zero; the paper's recipe with no decay on vectors and phi.

    mask_mels, mask_frames: widest bands SpecAugment hides, 0 for none.
    """

    epochs: int = 8
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    mask_mels: int = 24
    mask_frames: int = 80
    seed: int = 0


@dataclass(frozen=True)
class Started:
    trained_parameters: int
    steps: int


@dataclass(frozen=True)
class Step:
    step: int
    seconds: float
    loss: float


@dataclass(frozen=True)
class Evaluated:
    """Loss and accuracy on the validation examples after `step` steps (0: before training)."""

    step: int
    seconds: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Finished:
    """The model holds the weights of `best_step`: of the highest validation accuracy, or of the
    last step where there are no validation examples."""

    step: int
    seconds: float
    best_step: int


Event = Started | Step | Evaluated | Finished


def fit(
    model: nn.Module,
    train: Sequence[Example],
    valid: Sequence[Example] = (),
    options: TrainingOptions | None = None,
) -> Iterator[Event]:
    """Train what requires a gradient in `model`, on the device it lies on.

    Evaluates before training and after each epoch, keeps a copy of the best weights by validation
    accuracy (ties: the lower loss) and puts them back at the end or when the generator is closed.
    The same seed gives the same losses on the CPU.
    """
    options = options or TrainingOptions()
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(
        parameter_groups(model, options.weight_decay), options.learning_rate, options.betas
    )
    steps = options.epochs * math.ceil(len(train) / options.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    generator = torch.Generator().manual_seed(options.seed)
    device = weights[0].device

    step, began = 0, time.perf_counter()
    best, best_step = (-1.0, -math.inf), 0
    best_weights: list[Tensor] = []
    yield Started(sum(w.numel() for w in weights), steps)
    try:
        for epoch in range(options.epochs + 1):
            if epoch:
                model.train()
                order = torch.randperm(len(train), generator=generator).tolist()
                for i in range(0, len(order), options.batch):
                    mel, frames, label = collate([train[k] for k in order[i : i + options.batch]])
                    mel = spec_augment(mel, options, generator)
                    loss = F.cross_entropy(model(mel.to(device), frames), label.to(device))
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    step += 1
                    yield Step(step, time.perf_counter() - began, loss.item())
            if valid:
                loss, accuracy = evaluate(model, valid, options.batch)
                if (accuracy, -loss) > best:
                    best, best_step = (accuracy, -loss), step
                    best_weights = [w.detach().clone() for w in weights]
                yield Evaluated(step, time.perf_counter() - began, loss, accuracy)
    finally:
        for weight, kept in zip(weights, best_weights, strict=False):
            weight.data.copy_(kept)
        model.eval()
    yield Finished(step, time.perf_counter() - began, best_step if best_weights else step)


def evaluate(model: nn.Module, examples: Sequence[Example], batch: int = 16) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    logits, labels = predict(model, examples, batch)
    loss = F.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(dim=1) == labels).double().mean().item()


def predict(
    model: nn.Module, examples: Sequence[Example], batch: int = 16
) -> tuple[Tensor, Tensor]:
    """Logits (clips, classes) and labels (clips,) on the CPU, in the order of the examples."""
    model.eval()
    device = next(model.parameters()).device
    logits, labels = [], []
    with torch.no_grad():
        for i in range(0, len(examples), batch):
            mel, frames, label = collate(examples[i : i + batch])
            logits.append(model(mel.to(device), frames).float().cpu())
            labels.append(label)
    return torch.cat(logits), torch.cat(labels)


def collate(examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """-> mel (b, frames, mels), frames (b,), labels (b,)."""
    mel, frames = pad_batch([mel for mel, _ in examples])
    return mel, frames, torch.tensor([label for _, label in examples])


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Decay matrices of linear maps only: not phi, scales, biases, norms or tokens."""
    decayed, free = [], []
    for key, weight in model.named_parameters():
        if weight.requires_grad:
            name = key.rpartition(".")[2]
            (decayed if name in ("weight", "down", "up") and weight.ndim > 1 else free).append(
                weight
            )
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def spec_augment(mel: Tensor, options: TrainingOptions, generator: torch.Generator) -> Tensor:
    """Hide one band of mels and one of frames per clip, with the mean (Park et al. 2019)."""
    if not (options.mask_mels or options.mask_frames):
        return mel
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchaudio draws from the global generator
        torch.manual_seed(seed)
        x = mel.transpose(1, 2)[:, None]  # (b, 1, mels, frames)
        x = FrequencyMasking(options.mask_mels, iid_masks=True)(x)
        x = TimeMasking(min(options.mask_frames, mel.shape[1] // 2), iid_masks=True)(x)
    return x[:, 0].transpose(1, 2)
