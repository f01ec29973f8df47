"""What a comparison says while it goes on: the values that `compare` yields.

They are all that a page, a table or a file of it is made from. `run_directory` writes them down and
reads them again, from strangers too, so every field has a bound, which pydantic keeps there, and
what cannot be is refused here, with ValueError.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor

from softmoa.data.values import Count, Measure, Seed, Share
from softmoa.methods import METHODS
from softmoa.methods.bundle import BundleInfo
from softmoa.training.fit import Checkpoint, Event, TrainingOptions
from softmoa.training.recipes import Start


def _accuracy(value: float) -> float:
    if not (math.isnan(value) or -1e-6 <= value <= 1 + 1e-6):
        raise ValueError("an accuracy is a share")
    return value


Name = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=4000)]
_unknown = BeforeValidator(lambda value: math.nan if value is None else value)  # as JSON has it
Accuracy = Annotated[float, _unknown, AfterValidator(_accuracy)]
MOST_RUNS = 200  # of one comparison
Clips = Field(max_length=20_000)  # of a list with one value for each test clip
Value = bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | float | Name | None
Values = Annotated[tuple[Value, ...], Field(max_length=64)]


@dataclass(frozen=True)
class OfRun:
    """What all values that belong to one run begin with. method: a name, or
    `name:option=value:...` where several entries are of one method."""

    run: Name
    method: Name
    seed: Seed


@dataclass(frozen=True)
class PlannedRun(OfRun):
    """One run that is to come. trained_parameters: as the papers count, without the head. fold:
    that it tests."""

    trained_parameters: Count
    learning_rate: Measure
    options: Annotated[dict[Name, Value | Values], Field(max_length=64)]
    fold: Name = ""


@dataclass(frozen=True)
class Planned:
    """The first event: all that one must know to read the others.

    start: of every head. truth, clips: class and name (folder/file) of every test clip. groups:
    number of its group, such as its speaker; empty in recordings that do not tell.
    backbone_parameters: of the encoder without a head. device: that computed; empty in old
    recordings. folds: of every test clip; empty where there is one split.
    """

    task: Name
    title: Text
    labels: Annotated[tuple[Name, ...], Field(max_length=1000)]
    truth: Annotated[tuple[Count, ...], Clips]
    clips: Annotated[tuple[Annotated[str, Field(max_length=400)], ...], Clips]
    backbone: Name
    backbone_parameters: Count
    shots: Count | None
    start: Start
    training: TrainingOptions
    runs: Annotated[tuple[PlannedRun, ...], Field(max_length=MOST_RUNS)]
    groups: Annotated[tuple[Count, ...], Clips] = ()
    device: Name = ""
    folds: Annotated[tuple[Name, ...], Clips] = ()

    def __post_init__(self) -> None:
        if PureWindowsPath(self.task).name != self.task:  # bundles are named by it
            raise ValueError("the task is a path")
        if any(set("/\\\0<&") & {*run.fold, *run.method} for run in self.runs):  # and by these
            raise ValueError("a method or fold is a path, or HTML")
        if unknown := {run.method.partition(":")[0] for run in self.runs} - set(METHODS):
            raise ValueError(f"no such method: {unknown}")
        if not set(self.truth) <= set(range(len(self.labels))):
            raise ValueError("a test clip of no class")
        if self.groups and len(self.groups) != len(self.truth):
            raise ValueError("not one group for every test clip")
        if not set(self.groups) <= set(range(len(self.groups))):
            raise ValueError("a group out of count")
        if self.folds and len(self.folds) != len(self.truth):
            raise ValueError("not one fold for every test clip")
        if not {run.fold for run in self.runs if run.fold} <= set(self.folds):
            raise ValueError("a run of no fold")

    def clips_in(self, fold: str) -> list[int]:
        """Places in `truth` of the clips of a fold; of all where there is one split."""
        everything = range(len(self.truth))
        return [k for k in everything if self.folds[k] == fold] if fold else list(everything)


@dataclass(frozen=True)
class Preparing:
    """Clips are being decoded and run once through the frozen backbone."""

    what: Text
    done: Count
    total: Count


@dataclass(frozen=True)
class ProbeScored:
    """What the linear probe of a seed's training clips answers to the other clips of the task.

    predicted, confidence: as of `RunFinished`, of the clips of this split.
    """

    seed: Seed
    split: Literal["valid", "test"]
    accuracy: Accuracy
    predicted: Annotated[tuple[Count, ...], Clips]
    confidence: Annotated[tuple[Share, ...], Clips]
    fold: Name = ""


@dataclass(frozen=True)
class RunEvent(OfRun):
    """Something happened in one run."""

    event: Event


@dataclass(frozen=True)
class RouterBalance(OfRun):
    """How one run's mixtures share the work after `step` steps, on a batch of validation clips.

    share: combine mass of each expert, (mixtures, experts); a row sums to 1.
    """

    step: Count
    share: Annotated[
        tuple[Annotated[tuple[Share, ...], Field(max_length=256)], ...], Field(max_length=128)
    ]


@dataclass(frozen=True)
class TrainedBundle:
    """The trained tensors of one run, on the CPU; comes before its `RunFinished`."""

    run: str
    info: BundleInfo
    state: dict[str, Tensor]


@dataclass(frozen=True)
class RunKept:
    """With what a run can go on, should it be interrupted; for `run_directory.record` alone."""

    run: str
    checkpoint: Checkpoint


@dataclass(frozen=True)
class RunFinished(OfRun):
    """One run is over: its row of results and its test predictions.

    predicted: class of every clip it is tested on, in the order of the plan. confidence:
    probability of the true class. trained_parameters counts as the papers do, without head and
    final norm.
    val_accuracy, test_accuracy: of the last weights; NaN without validation clips. probe_accuracy:
    of the probe of the same training clips on the test clips; NaN in old recordings.
    """

    trained_parameters: Count
    train_clips: Count
    epochs: Count
    seconds: Measure
    clips_per_second: Measure
    peak_memory_mb: Measure
    val_accuracy: Accuracy
    test_accuracy: Share
    predicted: Annotated[tuple[Count, ...], Clips]
    confidence: Annotated[tuple[Share, ...], Clips]
    probe_accuracy: Accuracy = math.nan
    device: Name = ""
    fold: Name = ""


@dataclass(frozen=True)
class RunFailed(OfRun):
    """One run could not go on, with one sentence why; the others do."""

    message: Text


ComparisonEvent = (
    Planned
    | Preparing
    | ProbeScored
    | RunEvent
    | RouterBalance
    | TrainedBundle
    | RunKept
    | RunFinished
    | RunFailed
)


@dataclass(frozen=True)
class Earlier:
    """What an interrupted comparison left behind. events: of the runs in `over`, and of those in
    `under_way` until their checkpoints."""

    plan: Planned | None = None
    events: tuple[ComparisonEvent, ...] = ()
    over: frozenset[str] = frozenset()
    under_way: dict[str, Checkpoint] = field(default_factory=dict)
