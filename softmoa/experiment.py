"""Several fine-tuning runs over one frozen backbone, on the same data, seeds and budget.

`compare` is a generator like `training.fit`: it says what happens, run by run, and can be closed at
any moment. Runs take turns, so that all curves advance together, or follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from softmoa import tasks, training
from softmoa.ast import AST, plugins
from softmoa.bundle import BundleInfo
from softmoa.contribution import expert_share
from softmoa.events import (
    ComparisonEvent,
    Planned,
    PlannedRun,
    Preparing,
    RouterBalance,
    RunEvent,
    RunFailed,
    RunFinished,
)
from softmoa.methods import attach, share, trained_parameters, trained_state
from softmoa.methods.budget import parameters_of
from softmoa.plan import Choice, Comparison, run_name
from softmoa.probe import fit_linear, pooled_features
from softmoa.recording import mixtures, record_routing
from softmoa.seeding import seeded
from softmoa.tasks import LabelledFile, Task
from softmoa.training import Example
from softmoa.weights import Loaded

BALANCE_CLIPS = 16  # validation clips whose routing is looked at after every evaluation


def compare(
    base: Loaded,
    task: Task,
    comparison: Comparison,
    prepare: Callable[[AST], None] | None = None,
) -> Iterator[ComparisonEvent]:
    """Run every choice with every seed on `task`, sharing the frozen weights of `base`.

    Within a seed all runs see the same training clips in the same order. The test clips are looked
    at once, when a run is over. prepare: given the model of every run before it trains, for studies
    that change it or look inside between events. Raises TaskError if a clip cannot be read.
    """
    bench = _Bench(base, task, comparison.clip_seconds)
    subsets = {
        seed: tasks.few_shot(task, comparison.shots, seed) if comparison.shots else task
        for seed in comparison.seeds
    }
    yield _planned(base, task, comparison)
    training_files = list({f.path: f for t in subsets.values() for f in t.train}.values())
    yield from bench.read([*training_files, *task.valid])
    if comparison.warm_head:
        yield from bench.run_backbone(training_files)
    waiting = [
        _Run(bench, subsets[seed], choice, seed, comparison, prepare)
        for seed in comparison.seeds
        for choice in comparison.choices
    ]
    unread = True
    try:
        while waiting:
            # The run that is least far gone has its turn; one after another, the first one has.
            least = min(waiting, key=lambda run: run.progress)
            run = least if comparison.interleave else waiting[0]
            try:
                event = run.advance()
            except StopIteration:
                waiting.remove(run)
                continue
            except (MemoryError, RuntimeError, ValueError) as error:
                if isinstance(error, RuntimeError) and not out_of_memory(error):
                    raise
                waiting.remove(run)
                event = RunFailed(run.name, run.choice.method, run.seed, _sentence(error))
            yield event
            if unread and isinstance(event, RunEvent) and isinstance(event.event, training.Step):
                # Late enough for the first curve to start soon, early enough to lose no training.
                yield from bench.read(task.test)
                unread = False
    finally:
        for run in waiting:
            run.close()


def _planned(base: Loaded, task: Task, comparison: Comparison) -> Planned:
    config = base.model.config
    sizes = {c.method: parameters_of(config, c.method, c.options) for c in comparison.choices}
    groups = list(dict.fromkeys(file.group for file in task.test))
    return Planned(
        task.name,
        task.title,
        tuple(task.labels),
        tuple(file.label for file in task.test),
        tuple(tasks.clip_name(file) for file in task.test),
        base.name,
        sum(w.numel() for key, w in base.model.named_parameters() if not key.startswith("head.")),
        comparison.shots,
        comparison.warm_head,
        asdict(comparison.training),
        tuple(
            PlannedRun(
                run_name(c.method, seed),
                c.method,
                seed,
                sizes[c.method],
                c.learning_rate,
                asdict(c.options),
            )
            for seed in comparison.seeds
            for c in comparison.choices
        ),
        tuple(groups.index(file.group) for file in task.test),
    )


def bundle_name(task: str, method: str) -> str:
    return f"{task}-{method}"


class _Bench:
    """What all runs share: the backbone, the log-mels and the frozen features of the clips."""

    def __init__(self, base: Loaded, task: Task, clip_seconds: float):
        self.base, self.task, self.clip_seconds = base, task, clip_seconds
        self.frozen = share(base.model)
        with seeded(0):  # whose draws are overwritten by zeros
            # Pools as the runs do, not as the old head did.
            self.frozen.reset_head(len(task.labels))
        self.mels: dict[Any, Tensor] = {}
        self.features: dict[Any, Tensor] = {}

    def read(self, files: Sequence[LabelledFile], part: int = 32) -> Iterator[Preparing]:
        files = [file for file in files if file.path not in self.mels]
        for i in range(0, len(files), part):
            now = files[i : i + part]
            for file, (mel, _) in zip(now, tasks.log_mels(now, self.clip_seconds), strict=True):
                self.mels[file.path] = mel
            yield Preparing("reading sounds", min(i + part, len(files)), len(files))

    def run_backbone(self, files: Sequence[LabelledFile], part: int = 16) -> Iterator[Preparing]:
        files = [file for file in files if file.path not in self.features]
        for i in range(0, len(files), part):
            now = files[i : i + part]
            features = pooled_features(self.frozen, [self.mels[f.path] for f in now], part)
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


def fine_tuned(base: Loaded, choice: Choice, classes: int, seed: int = 0) -> AST:
    """A copy of the backbone that shares its frozen weights, with a fresh method on it."""
    model = share(base.model)
    attach(model, choice.method, choice.options, classes, seed)
    return model


def only_head_trains(model: AST) -> bool:
    """Whether nothing is plugged in and the head alone trains, as in a linear probe."""
    return not list(plugins(model)) and all(key.startswith("head.") for key in trained_state(model))


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
        self,
        bench: _Bench,
        task: Task,
        choice: Choice,
        seed: int,
        comparison: Comparison,
        prepare: Callable[[AST], None] | None = None,
    ):
        self.bench, self.task, self.choice, self.seed = bench, task, choice, seed
        self.comparison, self.prepare = comparison, prepare
        self.name = run_name(choice.method, seed)
        self.progress = 0.0
        self._events = self._go()

    def advance(self) -> ComparisonEvent:
        return next(self._events)

    def close(self) -> None:
        """Stop training; also breaks the cycle that would keep the model for a while."""
        self._events.close()

    def _model(self) -> AST:
        bench = self.bench
        model = fine_tuned(bench.base, self.choice, len(bench.task.labels), self.seed)
        if self.comparison.warm_head:
            model.set_head(*bench.linear_solution(self.task.train))
        if self.prepare:
            self.prepare(model)
        return model

    def _go(self) -> Generator[ComparisonEvent]:
        bench, task = self.bench, self.task
        options = replace(
            self.comparison.training, learning_rate=self.choice.learning_rate, seed=self.seed
        )
        model = trainee = self._model()
        examples = bench.examples
        routed = bool(mixtures(model))
        # With only the head to train, the features never change.
        frozen = only_head_trains(model)
        if frozen:
            yield from bench.run_backbone([*task.train, *task.valid])
            trainee, examples = HeadOnly(model.head), bench.feature_examples
            options = training.without_augmentation(options)
        finished = evaluated = None
        steps = 1
        train, valid = examples(task.train), examples(task.valid)
        for event in training.fit(trainee, train, valid, options):
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
            if routed and valid and isinstance(event, training.Evaluated):
                yield self._balance(model, valid[:BALANCE_CLIPS], event.step)
        assert finished is not None
        if frozen:
            yield from bench.run_backbone(task.test)
        test = examples(task.test)
        predicted: list[int] = []
        confidence: list[float] = []
        for i in range(0, len(test), options.batch):
            logits, labels = training.predict(trainee, test[i : i + options.batch], options.batch)
            predicted += logits.argmax(dim=1).tolist()
            confidence += logits.softmax(dim=1).gather(1, labels[:, None])[:, 0].tolist()
            yield RunEvent(
                self.name,
                self.choice.method,
                self.seed,
                training.Evaluating(finished.step, finished.seconds, len(predicted), len(test)),
            )
        yield self._finished(model, finished, evaluated, tuple(predicted), tuple(confidence))

    def _balance(self, model: AST, examples: list[Example], step: int) -> RouterBalance:
        with record_routing(model) as records:
            training.predict(model, examples, len(examples))
        share = tuple(tuple(expert_share(record).mean(dim=0).tolist()) for record in records)
        return RouterBalance(self.name, self.choice.method, self.seed, step, share)

    def _finished(
        self,
        model: AST,
        finished: training.Finished,
        evaluated: training.Evaluated | None,
        predicted: tuple[int, ...],
        confidence: tuple[float, ...],
    ) -> RunFinished:
        right = sum(p == file.label for p, file in zip(predicted, self.task.test, strict=True))
        test_accuracy = right / max(len(predicted), 1)
        bench = self.bench
        metrics = {"test_accuracy": test_accuracy, "val_accuracy": finished.best_accuracy}
        info = BundleInfo(
            name=bundle_name(bench.task.name, self.choice.method),
            task=bench.task.name,
            method=self.choice.method,
            options=asdict(self.choice.options),
            labels=tuple(bench.task.labels),
            base=bench.base.name,
            base_sha256=bench.base.sha256,
            seed=self.seed,
            metrics=metrics,
            test_clips=tasks.digest(bench.task.test),
            clip_seconds=bench.clip_seconds,
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
            confidence,
            info,
            {key: value.cpu().clone() for key, value in trained_state(model).items()},
        )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether it is for want of memory: torch has a class for that on a GPU only."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "allocate memory" in str(error)


def _sentence(error: BaseException) -> str:
    if isinstance(error, ValueError):
        return f"The run stopped: {str(error).rstrip('.')}."
    return "The run needs more memory than there is; try a smaller batch or fewer parameters."
