"""What a comparison will cost, before it is run: a few real steps on noise of the clips' length.

estimate(base, task, comparison).seconds       all runs together
estimate(base, task, comparison).costs         parameters, seconds, memory of each method
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from threading import Lock

import torch
from torch import Tensor, nn

from softmoa.data import tasks
from softmoa.data.audio import FrontEnd
from softmoa.data.tasks import LabelledFile, Task
from softmoa.methods import trained_state
from softmoa.methods.budget import parameters_of
from softmoa.model.precision import is_large, wants_bf16
from softmoa.model.weights import Loaded
from softmoa.training.compare import fine_tuned, trainee_of
from softmoa.training.fit import Evaluating, Finished, Step, TrainingOptions, fit
from softmoa.training.plan import Choice, Comparison
from softmoa.training.probe import pooled_features

PROBED = 4  # clips whose length is looked at


def probed(base: Loaded) -> int:
    """Clips in a measured batch: as many as tell, and no more than a few seconds' worth."""
    if base.model.device.type != "cpu":
        return 32
    return 1 if is_large(base.model) else PROBED


@dataclass(frozen=True)
class Cost:
    """Of one run of a method: seconds of training, checking and testing; memory of a step."""

    method: str  # an entry of the comparison
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
    fixed_mb: gradients, optimiser state and bfloat16 copies."""

    train: float
    check: float
    clip_mb: float
    fixed_mb: float


def estimate(base: Loaded, task: Task, comparison: Comparison) -> Estimate:
    """Cost of a comparison on this machine as it is now; takes a second or so per new method.

    Raises TaskError if the task's clips cannot be read or are too few.
    """
    options = comparison.training
    valid, test = len(task.valid), len(task.test)
    few = tasks.few_shot(task, comparison.shots, 0) if comparison.shots else task
    clips = len(few.train)
    some = task.train[:: max(1, len(task.train) // PROBED)][:PROBED]
    reading, frames = _reading(some, comparison.clip_seconds, base.model.config.front_end)
    costs, times = [], len(comparison.seeds) * len(comparison.folds)
    for entry, choice in comparison.entries.items():
        # Costs the same at any rate.
        alike = replace(choice, learning_rate=1e-6)
        pace = _pace(base, alike, frames, len(task.labels), options.checkpointed)
        size = parameters_of(base.model.config, choice.method, choice.options)
        seconds = run_seconds(pace, options, clips, valid, test)
        memory = pace.fixed_mb + min(options.batch, clips) * pace.clip_mb
        costs.append(Cost(entry, size, seconds, memory))
    preparing = (clips + valid + test) * (reading + _forward(base, frames))
    whole = preparing + times * sum(cost.seconds for cost in costs)
    return Estimate(tuple(costs), preparing, whole)


def run_seconds(pace: Pace, options: TrainingOptions, clips: int, valid: int, test: int) -> float:
    """Of training on so many clips and checking, as `fit` does it, and of the test."""
    steps, epochs = options.planned(clips)
    passes = steps / math.ceil(clips / options.batch)
    training = passes * clips * pace.train + (epochs + 1) * valid * pace.check
    most = options.seconds + valid * pace.check if options.seconds else math.inf
    return min(training, most) + test * pace.check


def duration(seconds: float) -> str:
    """As one says it: 0.4 s, 45 s, 2 min 5 s, 40 min, 5.5 h, 4 days."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 90:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes / 60:.1f} h" if minutes < 72 * 60 else f"{minutes / 1440:,.0f} days"


_measuring = Lock()  # two measurements at once would slow each other down


@lru_cache(maxsize=100)
def _reading(
    files: tuple[LabelledFile, ...], clip_seconds: float, front_end: FrontEnd
) -> tuple[float, int]:
    """Seconds to decode a clip, and the usual number of frames."""
    began = time.perf_counter()
    frames = [len(mel) for mel, _ in tasks.log_mels(files, clip_seconds, front_end)]
    return (time.perf_counter() - began) / len(frames), round(median(frames))


@lru_cache(maxsize=100)
def _forward(base: Loaded, frames: int) -> float:
    """Seconds for a clip through the frozen backbone."""
    count = probed(base)
    mels = [_noise(frames, base)] * count
    with _measuring:
        pooled_features(base.model, mels[:1])
        began = time.perf_counter()
        pooled_features(base.model, mels)
        return (time.perf_counter() - began) / count


@lru_cache(maxsize=500)
def _pace(base: Loaded, choice: Choice, frames: int, classes: int, checkpointed: bool) -> Pace:
    model, count = fine_tuned(base, choice, classes), probed(base)
    trainee = trainee_of(model)
    of_features = torch.zeros(1, base.model.config.width)
    clip = _noise(frames, base) if trainee is model else of_features
    examples = [(clip, k % classes) for k in range(count)]
    options = TrainingOptions(
        epochs=2, batch=count, mask_frames=0, mask_mels=0, checkpointed=checkpointed
    )
    train, check, clock, memory = math.inf, math.inf, 0.0, 0.0
    with _measuring:
        for event in fit(trainee, examples, examples, options):
            # The quicker of two: the first time is a warm-up.
            if isinstance(event, Step):
                train = min(train, (event.seconds - clock) / count)
            elif isinstance(event, Evaluating):
                check = min(check, (event.seconds - clock) / count)
            elif isinstance(event, Finished):
                memory = event.step_memory_mb
            clock = getattr(event, "seconds", clock)
    fixed = 12e-6 * sum(w.numel() for w in trained_state(model).values())
    if wants_bf16(trainee.train(), "auto"):  # a step holds bfloat16 copies of the projections
        linear = (m for m in trainee.modules() if isinstance(m, nn.Linear))
        fixed += 2e-6 * sum(projection.weight.numel() for projection in linear)
    return Pace(train, check, (memory - fixed) / count, fixed)


def _noise(frames: int, base: Loaded) -> Tensor:
    return torch.randn(frames, base.model.config.mels, generator=torch.Generator().manual_seed(0))
