"""Training as a generator of plain events: a model and examples in, what happened out.

Nothing is printed and nothing is kept: the command line, the app, the studies and the tests drive
the same generator, and closing it stops the run at the next step. An event comes at least with
every batch, so whoever drives it can stop, draw or let another run have its turn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softmoa.audio import pad_batch
from softmoa.moa import auxiliary_loss
from softmoa.precision import Precision, autocast, wants_bf16

Example = tuple[Tensor, int]  # log-mel (frames, mels) and class


@dataclass(frozen=True)
class TrainingOptions:
    """AdamW with a cosine to zero; the paper's betas, and no decay on phi, biases and norms.

    The run ends after `epochs`, or earlier after `steps`, or `seconds` with evaluations, where
    given, but not before the first step.
    warmup: share of the run in which the rate rises. mask_mels, mask_frames: widest bands
    SpecAugment hides, 0 for none. precision: see `softmoa.precision`.
    """

    epochs: int = 8
    steps: int | None = None
    seconds: float | None = None
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    mask_mels: int = 24
    mask_frames: int = 80
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("steps", "seconds", "learning_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")

    def planned(self, clips: int) -> tuple[int, int]:
        """Steps, and epochs at least begun, of a run on so many clips; seconds may end it first."""
        per_epoch = math.ceil(clips / self.batch)
        steps = min(self.epochs * per_epoch, self.steps or math.inf)
        return int(steps), math.ceil(steps / per_epoch)


PAPER = TrainingOptions(epochs=50, batch=32, learning_rate=5e-3, warmup=0.0)


@dataclass(frozen=True)
class Started:
    """trained_parameters: all that train, with the head. steps: planned, at most."""

    trained_parameters: int
    steps: int


@dataclass(frozen=True)
class Step:
    """After one batch. seconds: spent in this run's own steps and evaluations so far. loss:
    cross-entropy of the batch, without extra_loss."""

    step: int
    seconds: float
    loss: float
    clips: int


@dataclass(frozen=True)
class Evaluating:
    """A part of the validation examples is done."""

    step: int
    seconds: float
    done: int
    total: int


@dataclass(frozen=True)
class Evaluated:
    """Loss and accuracy on the validation examples after `step` steps (0: before training)."""

    step: int
    epoch: int
    seconds: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Finished:
    """The model holds the weights of `best_step`: of the highest validation accuracy, or of the
    last step, with NaN for the accuracy, where there are no validation examples.

    step_memory_mb: what training holds beside the model: activations kept for the backward pass,
    gradients and optimiser state."""

    step: int
    seconds: float
    best_step: int
    best_accuracy: float
    clips_per_second: float
    step_memory_mb: float


Event = Started | Step | Evaluating | Evaluated | Finished


def fit(
    model: nn.Module,
    train: Sequence[Example],
    valid: Sequence[Example] = (),
    options: TrainingOptions | None = None,
    extra_loss: Callable[[nn.Module], Tensor | float] = auxiliary_loss,
) -> Iterator[Event]:
    """Train what requires a gradient in `model`, on the device it lies on.

    Evaluates before training and after each epoch, in the precision of training, keeps a copy of
    the best weights by validation accuracy (ties: the lower loss) and puts them back at the end or
    when the generator is closed. `extra_loss(model)` is added to the cross-entropy after each
    forward pass; by default it is what routers charge for balance. The same seed gives the same
    losses on the CPU, unless the run is limited by seconds. Raises ValueError if there is nothing
    to train or a loss is not finite.
    """
    options = options or TrainingOptions()
    weights = [w for w in model.parameters() if w.requires_grad]
    if not weights or not train:
        raise ValueError("there is nothing to train" if train else "there are no examples")
    device = weights[0].device
    groups = parameter_groups(model, options.weight_decay)
    optimizer = torch.optim.AdamW(groups, options.learning_rate, options.betas)
    steps, _ = options.planned(len(train))
    generator = torch.Generator().manual_seed(options.seed)
    precision: Precision = "bf16" if wants_bf16(model.train(), options.precision) else "fp32"
    clock, trained = Clock(), Clock()

    step = epoch = clips = 0
    memory = 0.0
    best, best_step, best_weights = (-1.0, -math.inf), 0, []

    def done() -> float:
        """Share of the run that is over, by steps or by seconds."""
        by_time = clock.seconds / options.seconds if options.seconds else 0.0
        return max(step / steps, by_time) if step else 0.0

    def evaluate_all() -> Iterator[Event]:
        nonlocal best, best_step, best_weights
        logits, labels = [], []
        for i in range(0, len(valid), options.batch):
            with clock:
                part = predict(model, valid[i : i + options.batch], options.batch, precision)
            logits.append(part[0])
            labels.append(part[1])
            yield Evaluating(step, clock.seconds, min(i + options.batch, len(valid)), len(valid))
        loss, accuracy = scores(torch.cat(logits), torch.cat(labels))
        if (accuracy, -loss) > best:
            best, best_step = (accuracy, -loss), step
            best_weights = [w.detach().clone() for w in weights]
        yield Evaluated(step, epoch, clock.seconds, loss, accuracy)

    try:
        yield Started(sum(w.numel() for w in weights), steps)
        if valid:
            yield from evaluate_all()
        while done() < 1:
            epoch += 1
            order = torch.randperm(len(train), generator=generator).tolist()
            for i in range(0, len(order), options.batch):
                if done() >= 1:
                    break
                with clock, trained, _one_step_memory(model, wanted=not step) as held:
                    model.train()
                    for group in optimizer.param_groups:
                        group["lr"] = options.learning_rate * rate(done(), options.warmup)
                    mel, frames, label = collate([train[k] for k in order[i : i + options.batch]])
                    mel = spec_augment(mel, options, generator)
                    with autocast(model, precision):
                        logits = model(mel.to(device), frames)
                        cross = F.cross_entropy(logits.float(), label.to(device))
                        loss = cross + extra_loss(model)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    value, total = cross.item(), loss.item()
                memory = memory or held[0]
                if not math.isfinite(total):
                    raise ValueError(f"the loss became {total} at step {step + 1}")
                step += 1
                clips += len(label)
                yield Step(step, clock.seconds, value, len(label))
            if valid:
                yield from evaluate_all()
    finally:
        for weight, kept in zip(weights, best_weights, strict=False):
            weight.data.copy_(kept)
        model.eval()
        auxiliary_loss(model)  # a charge that nobody collected would keep its graph
        del optimizer
    yield Finished(
        step,
        clock.seconds,
        best_step if best_weights else step,
        best[0] if valid else math.nan,
        clips / trained.seconds,
        memory,
    )


class Clock:
    """Seconds spent inside its `with` blocks: a run is not charged for others' turns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


def rate(done: float, warmup: float) -> float:
    """Factor of the learning rate when a share `done` of the run is over: rise, then cosine."""
    if done < warmup:
        return (done + 0.01) / (warmup + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


@contextmanager
def _one_step_memory(model: nn.Module, wanted: bool) -> Iterator[list[float]]:
    """Megabytes that a step holds beside the model, counted as autograd saves them."""
    held = [0.0]
    if not wanted:
        yield held
        return
    # Weights are saved too, transposed for instance, but belong to the model.
    known = {w.untyped_storage().data_ptr() for w in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield held
    trained = [w for w in model.parameters() if w.requires_grad]
    state = 3 * sum(w.numel() * w.element_size() for w in trained)  # gradient and two moments
    held[0] = (sum(saved.values()) + state) / 1e6


def evaluate(model: nn.Module, examples: Sequence[Example], batch: int = 16) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    return scores(*predict(model, examples, batch))


def scores(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of logits (clips, classes) for labels (clips,)."""
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    return F.cross_entropy(logits, labels).item(), accuracy


def predict(
    model: nn.Module,
    examples: Sequence[Example],
    batch: int = 16,
    precision: Precision = "fp32",
) -> tuple[Tensor, Tensor]:
    """Logits (clips, classes) and labels (clips,) on the CPU, in the order of the examples.

    Raises ValueError if there are none.
    """
    if not examples:
        raise ValueError("there are no examples")
    model.eval()
    device = next(model.parameters()).device
    logits, labels = [], []
    with torch.no_grad(), autocast(model, precision):
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
            matrix = weight.ndim > 1 and key.rpartition(".")[2] in ("weight", "down", "up")
            (decayed if matrix else free).append(weight)
    groups = (decayed, weight_decay), (free, 0.0)
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def spec_augment(mel: Tensor, options: TrainingOptions, generator: torch.Generator) -> Tensor:
    """Hide one band of mels and one of frames per clip, with the mean (Park et al. 2019).

    mel: (b, frames, mels). Widths are drawn evenly from 0 to the options' masks, of frames at most
    a fifth of the batch's longest clip, then places where they fit in that. Torchaudio's own masks
    draw from the global generator, which other threads draw from too.
    """
    clips, frames, mels = mel.shape
    for axis, size, widest in (
        (1, frames, min(options.mask_frames, frames // 5)),
        (2, mels, options.mask_mels),
    ):
        width = torch.rand(clips, 1, generator=generator) * widest
        start = (torch.rand(clips, 1, generator=generator) * (size - width)).long()
        place = torch.arange(size)
        hidden = (place >= start) & (place < start + width.long())  # (b, size)
        mel = mel.masked_fill(hidden.unsqueeze(3 - axis), 0)
    return mel


def without_augmentation(options: TrainingOptions) -> TrainingOptions:
    """The same run on features that SpecAugment makes no sense for."""
    return replace(options, mask_mels=0, mask_frames=0)
