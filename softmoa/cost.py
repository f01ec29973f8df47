"""What a comparison will cost, before it is run: a few real steps on noise of the clips' length.

estimate(base, task, comparison).seconds       all runs together
estimate(base, task, comparison).costs         parameters, seconds, memory of each method
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from softmoa import audio, tasks, training
from softmoa.experiment import HeadOnly, fine_tuned, only_head_trains
from softmoa.methods import trained_state
from softmoa.methods.budget import parameters_of
from softmoa.plan import Choice, Comparison
from softmoa.precision import wants_bf16
from softmoa.probe import pooled_features
from softmoa.tasks import Task
from softmoa.training import TrainingOptions
from softmoa.weights import Loaded

T = TypeVar("T")

PROBED = 4  # clips in a measured batch, and clips whose length is looked at


@dataclass(frozen=True)
class Cost:
    """Of one run of a method: seconds of training, checking and testing; memory of a step."""

    method: str
    trained_parameters: int
    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class Estimate:
    """preparing: seconds to read the sounds and run the frozen backbone over them, once.
    seconds: of everything, all methods and seeds."""

    costs: tuple[Cost, ...]
    preparing: float
    seconds: float


@dataclass(frozen=True)
class Pace:
    """Of one clip: seconds to train on it, seconds to check it, megabytes a step holds for it.
    fixed_mb: gradients, optimiser state and bfloat16 copies. on_features: whether it trains on the
    features of the frozen backbone, which are computed once."""

    train: float
    check: float
    clip_mb: float
    fixed_mb: float
    on_features: bool


def estimate(base: Loaded, task: Task, comparison: Comparison) -> Estimate:
    """Cost of a comparison on this machine as it is now; takes a second or so per new method.

    Raises TaskError if the task's clips cannot be read or are too few.
    """
    options, seeds = comparison.training, len(comparison.seeds)
    clips, valid, test = len(task.train), len(task.valid), len(task.test)
    if comparison.shots:
        clips = len(tasks.few_shot(task, comparison.shots, comparison.seeds[0]).train)
    reading, frames = _reading(task, comparison.clip_seconds)
    forward = _forward(base, frames)
    paces = [_pace(base, choice, frames, len(task.labels)) for choice in comparison.choices]
    read = clips + valid + test
    through = clips if comparison.warm_head else 0
    if any(pace.on_features for pace in paces):
        through = read
    preparing = read * reading + through * forward
    costs = []
    for choice, pace in zip(comparison.choices, paces, strict=True):
        seconds = _seconds(pace, options, clips, valid) + test * pace.check
        batch = min(options.batch, clips)
        costs.append(
            Cost(
                choice.method,
                parameters_of(base.model.config, choice.method, choice.options),
                seconds,
                pace.fixed_mb + batch * pace.clip_mb,
            )
        )
    return Estimate(
        tuple(costs), preparing, preparing + seeds * sum(cost.seconds for cost in costs)
    )


def _seconds(pace: Pace, options: TrainingOptions, clips: int, valid: int) -> float:
    """Of training and checking, as `training.fit` does it."""
    steps, epochs = options.planned(clips)
    whole = (
        steps / math.ceil(clips / options.batch) * clips * pace.train
        + (epochs + 1) * valid * pace.check
    )
    if options.seconds is None:
        return whole
    return min(whole, options.seconds + valid * pace.check)


_known: dict[tuple, Any] = {}
_measuring = Lock()  # two measurements at once would slow each other down


def _remembered(key: tuple, measure: Callable[[], T]) -> T:
    with _measuring:
        if key not in _known:
            if len(_known) > 500:
                _known.clear()
            _known[key] = measure()
        return _known[key]


def _reading(task: Task, clip_seconds: float) -> tuple[float, int]:
    """Seconds to decode a clip, and the usual number of frames."""
    step = max(1, len(task.train) // PROBED)
    files = task.train[::step][:PROBED]

    def measure() -> tuple[float, int]:
        began = time.perf_counter()
        frames = [len(mel) for mel, _ in tasks.log_mels(files, clip_seconds)]
        return (time.perf_counter() - began) / len(frames), round(median(frames))

    return _remembered(("reading", files, clip_seconds), measure)


def _copies_mb(model: nn.Module) -> float:
    """Megabytes of the projections in bfloat16, which a step holds whatever its batch."""
    if not wants_bf16(model.train(), "auto"):
        return 0.0
    projections = (m for m in model.modules() if isinstance(m, nn.Linear))
    return 2e-6 * sum(projection.weight.numel() for projection in projections)


def _noise(frames: int) -> Tensor:
    return torch.randn(frames, audio.N_MELS, generator=torch.Generator().manual_seed(0))


def _forward(base: Loaded, frames: int) -> float:
    """Seconds for a clip through the frozen backbone."""

    def measure() -> float:
        mels = [_noise(frames)] * PROBED
        pooled_features(base.model, mels[:1])
        began = time.perf_counter()
        pooled_features(base.model, mels)
        return (time.perf_counter() - began) / PROBED

    return _remembered(("forward", base.sha256, frames), measure)


def _pace(base: Loaded, choice: Choice, frames: int, classes: int) -> Pace:
    def measure() -> Pace:
        model = fine_tuned(base, choice, classes)
        on_features = only_head_trains(model)
        trainee = HeadOnly(model.head) if on_features else model
        clip = torch.zeros(1, base.model.config.width) if on_features else _noise(frames)
        examples = [(clip, k % classes) for k in range(PROBED)]
        options = TrainingOptions(epochs=2, batch=PROBED, mask_frames=0, mask_mels=0)
        train, check, clock, memory = math.inf, math.inf, 0.0, 0.0
        for event in training.fit(trainee, examples, examples, options):
            # The quicker of two: the first time is a warm-up.
            if isinstance(event, training.Step):
                train = min(train, (event.seconds - clock) / PROBED)
            elif isinstance(event, training.Evaluating):
                check = min(check, (event.seconds - clock) / PROBED)
            elif isinstance(event, training.Finished):
                memory = event.step_memory_mb
            clock = getattr(event, "seconds", clock)
        fixed = 12e-6 * sum(w.numel() for w in trained_state(model).values())
        fixed += _copies_mb(trainee)
        return Pace(train, check, (memory - fixed) / PROBED, fixed, on_features)

    alike = replace(choice, learning_rate=1e-6)  # costs the same at any rate
    return _remembered(("pace", base.sha256, alike, frames, classes), measure)
