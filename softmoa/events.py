"""What a comparison says while it goes on: the values that `experiment.compare` yields.

They are all that a page, a table or a file of it is made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from softmoa.bundle import BundleInfo
from softmoa.training import Event


@dataclass(frozen=True)
class PlannedRun:
    """One run that is to come. trained_parameters: as the papers count."""

    run: str
    method: str
    seed: int
    trained_parameters: int
    learning_rate: float
    options: dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """The first event: all that one must know to read the others.

    truth, clips: class and name (folder/file) of every test clip. groups: number of its group, such
    as its speaker; empty in recordings that do not tell. backbone_parameters: of the encoder
    without a head.
    """

    task: str
    title: str
    labels: tuple[str, ...]
    truth: tuple[int, ...]
    clips: tuple[str, ...]
    backbone: str
    backbone_parameters: int
    shots: int | None
    warm_head: bool
    training: dict[str, Any]
    runs: tuple[PlannedRun, ...]
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Preparing:
    """Clips are being decoded, or run once through the frozen backbone."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class RunEvent:
    """Something happened in one run."""

    run: str
    method: str
    seed: int
    event: Event


@dataclass(frozen=True)
class RouterBalance:
    """How one run's mixtures share the work after `step` steps, on a batch of validation clips.

    share: combine mass of each expert, (mixtures, experts); a row sums to 1.
    """

    run: str
    method: str
    seed: int
    step: int
    share: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class RunFinished:
    """One run is over: its row of results, its test predictions and its trained tensors.

    predicted: class of every test clip, in the order of the task. confidence: probability of the
    true class. trained_parameters counts as the papers do, without head and final norm.
    """

    run: str
    method: str
    seed: int
    trained_parameters: int
    train_clips: int
    epochs: int
    seconds: float
    clips_per_second: float
    peak_memory_mb: float
    val_accuracy: float
    test_accuracy: float
    predicted: tuple[int, ...]
    confidence: tuple[float, ...]
    info: BundleInfo
    state: dict[str, Tensor]


@dataclass(frozen=True)
class RunFailed:
    """One run could not go on, with one sentence why; the others do."""

    run: str
    method: str
    seed: int
    message: str


ComparisonEvent = Planned | Preparing | RunEvent | RouterBalance | RunFinished | RunFailed
