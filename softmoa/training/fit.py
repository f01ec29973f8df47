"""Training as a generator of plain events: a model and examples in, what happened out.

Nothing is printed and nothing is kept: the command line, the app, the studies and the tests drive
the same generator, and closing it stops the run at the next step. An event comes at least with
every batch, so whoever drives it can stop, draw or let another run have its turn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, cast

import pydantic.dataclasses
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from softmoa.data.audio import pad_batch
from softmoa.data.mels import Examples
from softmoa.data.values import Count, Measure, Share
from softmoa.model.ast import AST
from softmoa.model.device import sent
from softmoa.model.moa import auxiliary_loss
from softmoa.model.precision import Precision, autocast, wants_bf16

SHORTEST_MASKED = 200  # frames; of two seconds and less a mask may hide all there is to hear
ASKED = 10  # steps between two looks at the losses on a GPU
KEEP_EVERY = 30.0  # seconds of training between two checkpoints
Example = tuple[Tensor, int]  # log-mel (frames, mels) and class
Positive = Annotated[int, Field(ge=1, le=10**12)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@pydantic.dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """AdamW with a cosine to zero; the paper's betas, and no decay on phi, biases and norms.

    The run ends after `epochs`, or earlier after `steps`, or `seconds` with evaluations, where
    given, but not before the first step.
    warmup: share of the run in which the rate rises. clip: norm to which gradients are cut; None
    for none. mask_mels, mask_frames: widest bands SpecAugment hides, 0 for none, see
    `spec_augment`. precision: see `softmoa.model.precision`. checkpointed: keep the input of every
    block alone for the backward pass and compute the rest again: less memory, a third more time.
    compiled: let `torch.compile` make one program of the model, which pays for long runs on a GPU;
    the seconds hold its warm-up.
    """

    epochs: Positive = 8
    steps: Positive | None = None
    seconds: Annotated[Measure, Field(gt=0)] | None = None
    batch: Positive = 16
    learning_rate: Rate = 1e-3
    warmup: Measure = 0.1
    clip: Annotated[Measure, Field(gt=0)] | None = 1.0
    weight_decay: Measure = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    mask_mels: Count = 24
    mask_frames: Count = 80
    precision: Precision = "auto"
    seed: Count = 0
    checkpointed: bool = False
    compiled: bool = False

    def share_done(self, step: int, steps: int, seconds: float) -> float:
        """Share of a run of `steps` steps that is over, by steps or by seconds; 1 ends it."""
        by_time = seconds / self.seconds if self.seconds else 0.0
        return max(step / steps, by_time) if step else 0.0

    def planned(self, clips: int) -> tuple[int, int]:
        """Steps, and epochs at least begun, of a run on so many clips; seconds may end it first."""
        per_epoch = math.ceil(clips / self.batch)
        steps = min(self.epochs * per_epoch, self.steps or math.inf)
        return int(steps), math.ceil(steps / per_epoch)


PAPER = TrainingOptions(epochs=50, batch=32, learning_rate=5e-3, warmup=0.0, clip=None)


@dataclass(frozen=True)
class Started:
    """trained_parameters: all that train, with the head. steps: planned, at most."""

    trained_parameters: Count
    steps: Positive


@dataclass(frozen=True)
class Step:
    """After one batch. seconds: spent in this run's own steps and evaluations so far. loss:
    cross-entropy of the batch, without what routers charge; on a GPU of a batch up to `ASKED`
    steps ago, so that the GPU is not waited for at each."""

    step: Count
    seconds: Measure
    loss: Measure
    clips: Count


@dataclass(frozen=True)
class Evaluating:
    """A part of the validation examples is done."""

    step: Count
    seconds: Measure
    done: Count
    total: Count


@dataclass(frozen=True)
class Evaluated:
    """Loss and accuracy on the validation examples after `step` steps (0: before training)."""

    step: Count
    epoch: Count
    seconds: Measure
    loss: Measure
    accuracy: Share


@dataclass(frozen=True)
class Finished:
    """The model holds the weights of the last step.

    step_memory_mb: what training holds beside the model: activations kept for the backward pass,
    gradients and optimiser state."""

    step: Count
    seconds: Measure
    clips_per_second: Measure
    step_memory_mb: Measure


Event = Started | Step | Evaluating | Evaluated | Finished


@dataclass(frozen=True)
class Checkpoint:
    """All with which a run goes on after an epoch. clips: trained on so far, in `trained` seconds.
    state: weights that train, moments of the optimiser, and the generator of orders and masks."""

    step: int
    epoch: int
    clips: int
    seconds: float
    trained: float
    state: dict[str, Tensor]


def fit(
    model: nn.Module,
    train: Sequence[Example],
    valid: Sequence[Example] = (),
    options: TrainingOptions | None = None,
    checkpoint: Checkpoint | None = None,
) -> Generator[Event | Checkpoint, None, None]:
    """Train what requires a gradient in `model`, on the device it lies on.

    Evaluates before training and after each epoch, in the precision of training. No evaluation
    decides anything: the model ends with the weights of the last step. What routers charge for
    balance is added to the cross-entropy. A run of more than KEEP_EVERY seconds also yields
    checkpoints; given one, it goes on as if it had never stopped. The same seed gives the same
    losses on the CPU, unless the run is limited by seconds. Raises ValueError if there is nothing
    to train or a loss is not finite.
    """
    options = options or TrainingOptions()
    weights = [w for w in model.parameters() if w.requires_grad]
    if not weights or not train:
        raise ValueError("there is nothing to train" if train else "there are no examples")
    device = weights[0].device
    groups = parameter_groups(model, options.weight_decay)
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(groups, options.learning_rate, options.betas, fused=fused)
    steps, _ = options.planned(len(train))
    generator = torch.Generator().manual_seed(options.seed)
    precision: Precision = "bf16" if wants_bf16(model.train(), options.precision) else "fp32"

    encoder = model if isinstance(model, AST) else None
    if encoder:
        # A router that moves its bias in a training pass must not be asked twice.
        moved = any(getattr(m, "choice_bias", None) is not None for m in model.modules())
        encoder.checkpointed = options.checkpointed and not moved
    forward = cast(nn.Module, torch.compile(model)) if options.compiled else model
    every = 1 if device.type == "cpu" else ASKED
    losses: list[Tensor] = []  # (2,) each: what is minimised, and the cross-entropy
    value = math.nan

    step = epoch = clips = 0
    clock, trained = Clock(), Clock()
    memory, measured = StepMemory(model), False
    if checkpoint:
        step, epoch, clips = checkpoint.step, checkpoint.epoch, checkpoint.clips
        clock.seconds, trained.seconds = checkpoint.seconds, checkpoint.trained
        _restore(model, optimizer, generator, checkpoint.state)
    kept, evaluated = clock.seconds, checkpoint is not None
    try:
        yield Started(sum(w.numel() for w in weights), steps)
        while True:
            logits, labels = [], []
            for i in range(0, 0 if evaluated else len(valid), options.batch):
                with clock:
                    part = predict(model, valid[i : i + options.batch], options.batch, precision)
                logits.append(part[0])
                labels.append(part[1])
                yield Evaluating(step, clock.seconds, i + len(part[1]), len(valid))
            if logits:
                loss, accuracy = scores(torch.cat(logits), torch.cat(labels))
                yield Evaluated(step, epoch, clock.seconds, loss, accuracy)
            if options.share_done(step, steps, clock.seconds) >= 1:
                break
            if clock.seconds - kept > KEEP_EVERY:
                kept = clock.seconds
                state = _state(model, optimizer, generator)
                yield Checkpoint(step, epoch, clips, clock.seconds, trained.seconds, state)

            epoch, evaluated = epoch + 1, False
            order = torch.randperm(len(train), generator=generator).tolist()
            for i in range(0, len(order), options.batch):
                done = options.share_done(step, steps, clock.seconds)
                if done >= 1:
                    break
                with clock, trained, nullcontext() if measured else memory:
                    model.train()
                    for group in optimizer.param_groups:
                        group["lr"] = options.learning_rate * rate(done, options.warmup)
                    batch = pick(train, order[i : i + options.batch])
                    with autocast(model, precision):
                        loss, cross_entropy = losses_of(forward, batch, options, generator)
                    optimizer.zero_grad()
                    loss.backward()
                    auxiliary_loss(model)  # charged again where a block was computed again
                    if options.clip:
                        torch.nn.utils.clip_grad_norm_(weights, options.clip)
                    optimizer.step()
                    losses.append(torch.stack([loss, cross_entropy]).detach())
                    step, measured = step + 1, True
                    if len(losses) == every or step == steps or math.isnan(value):
                        known = torch.stack(losses).cpu()
                        bad = (~known[:, 0].isfinite()).nonzero()
                        value = known[-1, 1].item()
                        losses.clear()
                        if len(bad):
                            at, was = step - len(known) + 1 + int(bad[0]), known[bad[0], 0].item()
                            raise ValueError(f"the loss became {was} at step {at}")
                clips += len(batch)
                yield Step(step, clock.seconds, value, len(batch))
    finally:
        model.eval()
        if encoder:
            encoder.checkpointed = False
        auxiliary_loss(model)  # a charge that nobody collected would keep its graph
        del optimizer
    yield Finished(step, clock.seconds, clips / trained.seconds, memory.megabytes)


def losses_of(
    model: nn.Module,
    batch: Sequence[Example],
    options: TrainingOptions,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """What a step minimises, and the cross-entropy in it; both () and where the model is."""
    device = next(model.parameters()).device
    mel, frames, labels = collate(batch)
    mel = spec_augment(sent(mel, device), frames, options, generator)
    logits = model(mel, frames).float()
    cross_entropy = F.cross_entropy(logits, sent(labels, device))
    return cross_entropy + auxiliary_loss(model), cross_entropy


def _state(
    model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {
        f"weight.{k}": w for k, w in model.named_parameters() if w.requires_grad
    }
    for i, moments in optimizer.state_dict()["state"].items():
        found |= {f"moment.{i}.{name}": value for name, value in moments.items()}
    found["generator"] = generator.get_state()
    return {key: value.detach().cpu().clone() for key, value in found.items()}


def _restore(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    state: dict[str, Tensor],
) -> None:
    saved = optimizer.state_dict()
    for key, value in state.items():
        kind, _, name = key.partition(".")
        if kind == "weight":
            model.get_parameter(name).data.copy_(value)
        elif kind == "moment":
            i, _, name = name.partition(".")
            saved["state"].setdefault(int(i), {})[name] = value
    optimizer.load_state_dict(saved)
    generator.set_state(state["generator"])


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


class StepMemory(torch.autograd.graph.saved_tensors_hooks):
    """Counts, around a step, what training holds beside the model and its `inputs`."""

    def __init__(self, model: nn.Module, *inputs: Tensor):
        # Weights are saved for the backward pass too, but belong to the model.
        there = (*model.parameters(), *model.buffers(), *inputs)
        known = {tensor.untyped_storage().data_ptr() for tensor in there}
        trained = [w for w in model.parameters() if w.requires_grad]
        self._state = 3 * sum(w.nbytes for w in trained)  # gradient and two moments
        self._saved: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                self._saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        super().__init__(keep, lambda tensor: tensor)

    @property
    def activations(self) -> int:
        """Bytes kept for the backward pass."""
        return sum(self._saved.values())

    @property
    def megabytes(self) -> float:
        return (self.activations + self._state) / 1e6


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
            logits.append(model(sent(mel, device), frames).float().cpu())
            labels.append(label)
    return torch.cat(logits), torch.cat(labels)


def pick(examples: Sequence[Example], indices: Sequence[int]) -> Sequence[Example]:
    """Some of the examples, those of a shelf at once."""
    if isinstance(examples, Examples):
        return examples.pick(indices)
    return [examples[i] for i in indices]


def collate(examples: Sequence[Example]) -> tuple[Tensor, list[int], Tensor]:
    """-> mel (b, frames, mels) where the log-mels are, frames of each, labels (b,) on the CPU."""
    mels, labels = zip(*examples, strict=True)
    return pad_batch(mels)[0], [len(mel) for mel in mels], torch.tensor(labels)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Decay matrices of linear maps only: not phi, scales, biases, norms or tokens."""
    decayed, free = [], []
    for key, weight in model.named_parameters():
        if weight.requires_grad:
            matrix = weight.ndim > 1 and key.rpartition(".")[2] in ("weight", "down", "up")
            (decayed if matrix else free).append(weight)
    groups = (decayed, weight_decay), (free, 0.0)
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def spec_augment(
    mel: Tensor, frames: Sequence[int], options: TrainingOptions, generator: torch.Generator
) -> Tensor:
    """Hide one band of mels and one of frames per clip, with the mean (Park et al. 2019).

    mel: (b, frames, mels), on any device. frames: of each clip. Widths are drawn evenly from 0 to
    the options' masks, of frames at most a fifth of the clip, then places where they fit in it. A
    clip under SHORTEST_MASKED frames stays whole. Torchaudio's own masks draw from the global
    generator, which other threads draw from too.
    """
    clips, _, mels = mel.shape
    length = torch.tensor(frames)
    masked = length >= SHORTEST_MASKED
    for axis, size, widest in (
        (1, length, (length // 5).clamp_max(options.mask_frames)),
        (2, torch.full_like(length, mels), torch.full_like(length, options.mask_mels)),
    ):
        width = (torch.rand(clips, generator=generator) * widest * masked).long()
        start = (torch.rand(clips, generator=generator) * (size - width)).long()
        place = torch.arange(mel.shape[axis])
        hidden = (place >= start[:, None]) & (place < (start + width)[:, None])  # (b, size)
        mel = mel.masked_fill(sent(hidden, mel.device).unsqueeze(3 - axis), 0)
    return mel
