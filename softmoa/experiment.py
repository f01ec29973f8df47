"""Several fine-tuning runs over one frozen backbone, on the same data, seeds and budget.

`compare` is a generator like `training.fit`: it says what happens, run by run, and can be closed at
any moment. Runs take turns, so that all curves advance together, or follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from softmoa import tasks, training
from softmoa.ast import AST, plugins
from softmoa.bundle import BundleInfo
from softmoa.methods import METHODS, attach, share, trained_parameters, trained_state
from softmoa.moa import auxiliary_loss
from softmoa.probe import fit_linear, pooled_features
from softmoa.tasks import LabelledFile, Task
from softmoa.training import Event, Example, TrainingOptions
from softmoa.weights import Loaded

# Of the papers' rates, the same for every method: those are for dozens of epochs from a random
# head, and tear a warm head apart within one.
SHORT_RUN = 0.1


@dataclass(frozen=True)
class Choice:
    """A method with its options and learning rate, as one entry of a comparison."""

    method: str
    options: Any
    learning_rate: float

    @classmethod
    def of(cls, method: str, rate: float = SHORT_RUN, **options: Any) -> Choice:
        """A method with default options but for those given, at `rate` times its paper's rate."""
        row = METHODS[method]
        return cls(method, row.options(**options), rate * row.learning_rate)


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    training: budget, batch and recipe of every run; rate and seed are set by choice and seed.
    shots: training clips per class, drawn by the seed; None for all.
    clip_seconds: what is used of every clip.
    warm_head: start every head from the linear solution on the frozen features.
    interleave: runs take turns; else one after another.
    """

    choices: tuple[Choice, ...]
    training: TrainingOptions = TrainingOptions()
    seeds: tuple[int, ...] = (0,)
    shots: int | None = None
    warm_head: bool = True
    interleave: bool = True
    clip_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not self.choices or not self.seeds:
            raise ValueError("a comparison needs at least one method and one seed")
        if len(set(self.run_names)) < len(self.run_names):
            raise ValueError("a method or a seed is named twice")

    @property
    def run_names(self) -> list[str]:
        return [run_name(c.method, seed) for seed in self.seeds for c in self.choices]


def run_name(method: str, seed: int) -> str:
    return f"{METHODS[method].title}, seed {seed}"


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
class RunFinished:
    """One run is over: its row of results, its test predictions and its trained tensors.

    predicted: class of every test clip, in the order of the task. trained_parameters counts as
    the papers do, without head and final norm.
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
    info: BundleInfo
    state: dict[str, Tensor]


@dataclass(frozen=True)
class RunFailed:
    """One run could not go on, with one sentence why; the others do."""

    run: str
    method: str
    seed: int
    message: str


ComparisonEvent = Preparing | RunEvent | RunFinished | RunFailed


def compare(base: Loaded, task: Task, comparison: Comparison) -> Iterator[ComparisonEvent]:
    """Run every choice with every seed on `task`, sharing the frozen weights of `base`.

    Within a seed all runs see the same training clips in the same order. The test clips are looked
    at once, when a run is over. Raises TaskError if a clip cannot be read.
    """
    bench = _Bench(base, task)
    subsets = {
        seed: tasks.few_shot(task, comparison.shots, seed) if comparison.shots else task
        for seed in comparison.seeds
    }
    wanted = {f.path: f for t in subsets.values() for f in (*t.train, *t.valid, *t.test)}
    yield from bench.read(list(wanted.values()), comparison.clip_seconds)
    probes = any(choice.method == "linear" for choice in comparison.choices)
    if probes:
        yield from bench.run_backbone(list(wanted.values()))
    elif comparison.warm_head:
        training_files = {f.path: f for t in subsets.values() for f in t.train}
        yield from bench.run_backbone(list(training_files.values()))
    waiting = [
        _Run(bench, subsets[seed], choice, seed, comparison)
        for seed in comparison.seeds
        for choice in comparison.choices
    ]
    while waiting:
        # The run that is least far gone has its turn; one after another, the first one has.
        run = min(waiting, key=lambda run: run.progress) if comparison.interleave else waiting[0]
        try:
            yield run.advance()
        except StopIteration:
            waiting.remove(run)
        except (torch.cuda.OutOfMemoryError, MemoryError, ValueError) as error:
            waiting.remove(run)
            yield RunFailed(run.name, run.choice.method, run.seed, _sentence(error))


class _Bench:
    """What all runs share: the backbone, the log-mels and the frozen features of the clips."""

    def __init__(self, base: Loaded, task: Task):
        self.base, self.task = base, task
        self.mels: dict[Any, Tensor] = {}
        self.features: dict[Any, Tensor] = {}

    def read(
        self, files: Sequence[LabelledFile], clip_seconds: float, part: int = 32
    ) -> Iterator[Preparing]:
        for i in range(0, len(files), part):
            now = files[i : i + part]
            for file, (mel, _) in zip(now, tasks.log_mels(now, clip_seconds), strict=True):
                self.mels[file.path] = mel
            yield Preparing("reading sounds", min(i + part, len(files)), len(files))

    def run_backbone(self, files: Sequence[LabelledFile], part: int = 16) -> Iterator[Preparing]:
        for i in range(0, len(files), part):
            now = files[i : i + part]
            features = pooled_features(self.base.model, [self.mels[f.path] for f in now], part)
            self.features |= dict(zip((f.path for f in now), features, strict=True))
            yield Preparing("running the frozen backbone", min(i + part, len(files)), len(files))

    def examples(self, files: Sequence[LabelledFile]) -> list[Example]:
        return [(self.mels[file.path], file.label) for file in files]

    def feature_examples(self, files: Sequence[LabelledFile]) -> list[Example]:
        """Frozen features in the place of log-mels, each as a single frame."""
        return [(self.features[file.path][None], file.label) for file in files]

    def linear_solution(self, files: Sequence[LabelledFile]) -> tuple[Tensor, Tensor]:
        x = torch.stack([self.features[file.path] for file in files])
        return fit_linear(x, torch.tensor([f.label for f in files]), len(self.task.labels))


class HeadOnly(nn.Module):
    """The head of a model on features that were computed before: how a linear probe trains."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """x: (b, 1, d)."""
        return self.head(x[:, 0])


class _Run:
    """One method with one seed, advanced an event at a time."""

    def __init__(
        self, bench: _Bench, task: Task, choice: Choice, seed: int, comparison: Comparison
    ):
        self.bench, self.task, self.choice, self.seed = bench, task, choice, seed
        self.comparison = comparison
        self.name = run_name(choice.method, seed)
        self.progress = 0.0
        self._events = self._go()

    def advance(self) -> ComparisonEvent:
        return next(self._events)

    def _model(self) -> AST:
        bench, choice = self.bench, self.choice
        model = share(bench.base.model)
        attach(model, choice.method, choice.options, len(bench.task.labels), self.seed)
        if self.comparison.warm_head:
            model.set_head(*bench.linear_solution(self.task.train))
        return model

    def _go(self) -> Iterator[ComparisonEvent]:
        bench, task = self.bench, self.task
        options = replace(
            self.comparison.training, learning_rate=self.choice.learning_rate, seed=self.seed
        )
        model = trainee = self._model()
        examples = bench.examples
        # With nothing plugged in and only the head to train, the features never change.
        if not list(plugins(model)) and all(
            key.startswith("head.") for key in trained_state(model)
        ):
            trainee, examples = HeadOnly(model.head), bench.feature_examples
            options = training.without_augmentation(options)
        finished = evaluated = None
        steps = 1
        train, valid = examples(task.train), examples(task.valid)
        for event in training.fit(trainee, train, valid, options, auxiliary_loss):
            if isinstance(event, training.Started):
                steps = event.steps
            elif isinstance(event, training.Step):
                by_time = event.seconds / options.seconds if options.seconds else 0.0
                self.progress = max(event.step / steps, by_time)
            elif isinstance(event, training.Evaluated):
                evaluated = event
            elif isinstance(event, training.Finished):
                finished = event
            yield RunEvent(self.name, self.choice.method, self.seed, event)
        assert finished is not None
        test = examples(task.test)
        predicted: list[int] = []
        for i in range(0, len(test), options.batch):
            logits, _ = training.predict(trainee, test[i : i + options.batch], options.batch)
            predicted += logits.argmax(dim=1).tolist()
            yield RunEvent(
                self.name,
                self.choice.method,
                self.seed,
                training.Evaluating(finished.step, finished.seconds, len(predicted), len(test)),
            )
        right = sum(p == file.label for p, file in zip(predicted, task.test, strict=True))
        yield self._finished(
            model, finished, evaluated, tuple(predicted), right / max(len(test), 1)
        )

    def _finished(
        self,
        model: AST,
        finished: training.Finished,
        evaluated: training.Evaluated | None,
        predicted: tuple[int, ...],
        test_accuracy: float,
    ) -> RunFinished:
        bench = self.bench
        metrics = {"test_accuracy": test_accuracy, "val_accuracy": finished.best_accuracy}
        info = BundleInfo(
            name=f"{bench.task.name}-{self.choice.method}",
            task=bench.task.name,
            method=self.choice.method,
            options=asdict(self.choice.options),
            labels=tuple(bench.task.labels),
            base=bench.base.name,
            base_sha256=bench.base.sha256,
            seed=self.seed,
            metrics=metrics,
        )
        return RunFinished(
            self.name,
            self.choice.method,
            self.seed,
            trained_parameters(model),
            len(self.task.train),
            evaluated.epoch if evaluated else 0,
            finished.seconds,
            finished.clips_per_second,
            finished.step_memory_mb,
            finished.best_accuracy,
            test_accuracy,
            predicted,
            info,
            {key: value.cpu().clone() for key, value in trained_state(model).items()},
        )


def _sentence(error: BaseException) -> str:
    if isinstance(error, ValueError):
        return f"The run stopped: {error}."
    return "The run needs more memory than there is; try a smaller batch or fewer parameters."
