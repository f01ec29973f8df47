"""Several fine-tuning runs over one frozen backbone, on the same data, seeds and budget.

`compare` is a generator like `fit`: it says what happens, run by run, and can be closed at any
moment. Runs take turns, so that all curves advance together, or follow each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from softmoa.data import tasks
from softmoa.data.mels import Examples, Shelf
from softmoa.data.tasks import LabelledFile, Task
from softmoa.methods import attach, bundle, share, trained_parameters, trained_state
from softmoa.methods.budget import parameters_of
from softmoa.methods.bundle import BundleInfo
from softmoa.model import device
from softmoa.model.ast import AST, plugins
from softmoa.model.recording import expert_share, hooked, mixtures
from softmoa.model.seeding import seeded
from softmoa.model.weights import Loaded
from softmoa.training.events import (
    ComparisonEvent,
    Earlier,
    Planned,
    PlannedRun,
    Preparing,
    ProbeScored,
    RouterBalance,
    RunEvent,
    RunFailed,
    RunFinished,
    RunKept,
    TrainedBundle,
)
from softmoa.training.fit import (
    Checkpoint,
    Evaluated,
    Evaluating,
    Example,
    Finished,
    Step,
    fit,
    predict,
    scores,
)
from softmoa.training.plan import Choice, Comparison, Run, slug
from softmoa.training.probe import fit_linear, pooled_features

BALANCE_CLIPS = 16  # validation clips whose routing is looked at after every evaluation
Prepare = Callable[[AST], None]


def compare(
    base: Loaded,
    task: Task | Sequence[Task],
    comparison: Comparison,
    prepare: Prepare | None = None,
    inputs: Inputs | None = None,
    earlier: Earlier | None = None,
) -> Generator[ComparisonEvent, None, None]:
    """Run every choice with every seed on `task`, sharing the frozen weights of `base`.

    task: or one for each of the comparison's folds, which follow each other. Within a seed all runs
    see the same training clips in the same order. The test clips are looked at once, when a run is
    over. prepare: given the model of every run before it trains, for studies that change it or look
    inside between events. inputs: of an earlier comparison on the same backbone, task and seconds.
    earlier: the same comparison until it was interrupted, whose runs are not run again. Raises
    TaskError if a clip cannot be read.
    """
    folds = [task] if isinstance(task, Task) else list(task)
    subsets = [
        {
            seed: tasks.few_shot(of, comparison.shots, seed) if comparison.shots else of
            for seed in comparison.seeds
        }
        for of in folds
    ]
    yield _planned(base, folds, comparison)
    inputs = inputs or Inputs(base, folds[0], comparison.clip_seconds)
    for fold, of, few in zip(comparison.folds, folds, subsets, strict=True):
        yield from _compare_fold(inputs, fold, of, few, comparison, prepare, earlier or Earlier())


def _compare_fold(
    inputs: Inputs,
    fold: str,
    task: Task,
    subsets: dict[int, Task],
    comparison: Comparison,
    prepare: Prepare | None,
    earlier: Earlier,
) -> Generator[ComparisonEvent, None, None]:
    """subsets: the task with the few shots of each seed."""
    of_fold = (run for run in comparison.runs if run.fold == fold)
    runs = {run: subsets[run.seed] for run in of_fold if run.name not in earlier.over}
    if not runs:
        return
    training_files = list(dict.fromkeys(f for t in subsets.values() for f in t.train))
    yield from inputs.prepare([*training_files, *task.valid])
    for seed, of in subsets.items():
        yield ProbeScored(seed, "valid", *inputs.probed(of.train, of.valid), fold)
    waiting = {
        run: _run(inputs, run, of, comparison, prepare, earlier.under_way.get(run.name))
        for run, of in runs.items()
    }
    turn = dict.fromkeys(runs, 0.0)
    unread = True
    try:
        while waiting:
            run = min(waiting, key=turn.__getitem__)
            try:
                event = next(waiting[run])
            except StopIteration:
                del waiting[run]
                continue
            except (MemoryError, RuntimeError, ValueError) as error:
                if not isinstance(error, ValueError) and not device.out_of_memory(error):
                    raise
                del waiting[run]
                error.__traceback__ = None  # which holds the tensors of the step
                device.release()
                event = RunFailed(run.name, run.entry, run.seed, _sentence(error))
            yield event
            if isinstance(event, RunEvent) and isinstance(event.event, Step):
                if comparison.interleave:  # the run that is least far gone comes next
                    steps, _ = comparison.training.planned(len(runs[run].train))
                    step = event.event
                    turn[run] = comparison.training.share_done(step.step, steps, step.seconds)
                if unread:
                    # Late enough for the first curve to start soon, early enough to lose no
                    # training to a test clip that cannot be read. Nothing is left to choose.
                    yield from inputs.prepare(task.test)
                    for seed, of in subsets.items():
                        yield ProbeScored(seed, "test", *inputs.probed(of.train, of.test), fold)
                    unread = False
    finally:
        for under_way in waiting.values():
            under_way.close()


def _planned(base: Loaded, folds: Sequence[Task], comparison: Comparison) -> Planned:
    task, entries = folds[0], comparison.entries.items()
    sizes = {e: parameters_of(base.model.config, c.method, c.options) for e, c in entries}
    parts = zip(comparison.folds, folds, strict=True)
    tested = [(fold, file) for fold, of in parts for file in of.test]
    groups = list(dict.fromkeys(file.group for _, file in tested))
    return Planned(
        task=task.name,
        title=task.title,
        labels=tuple(task.labels),
        truth=tuple(file.label for _, file in tested),
        clips=tuple(tasks.clip_name(file) for _, file in tested),
        backbone=base.name,
        backbone_parameters=sum(
            w.numel() for key, w in base.model.named_parameters() if not key.startswith("head.")
        ),
        shots=comparison.shots,
        start=comparison.start,
        training=comparison.training,
        runs=tuple(
            PlannedRun(
                run.name,
                run.entry,
                run.seed,
                sizes[run.entry],
                run.choice.learning_rate,
                asdict(run.choice.options),
                run.fold,
            )
            for run in comparison.runs
        ),
        groups=tuple(groups.index(file.group) for _, file in tested),
        device=str(base.model.device),
        folds=tuple(fold for fold, _ in tested) if any(comparison.folds) else (),
    )


class Inputs:
    """What all runs share: the backbone, the log-mels and frozen features of the clips, and the
    linear probes."""

    def __init__(self, base: Loaded, task: Task, clip_seconds: float):
        """task: with the clips of every fold."""
        self.base, self.task, self.clip_seconds = base, task, clip_seconds
        self.frozen = share(base.model)
        with seeded(0):  # whose draws are overwritten by zeros
            # Pools as the runs do, not as the old head did.
            self.frozen.reset_head(len(task.labels))
        place, config = base.model.device, base.model.config
        # On the GPU when they fit there, else on the host, else nowhere.
        keep = device.room_for(4 * len(task.files) * int(100 * clip_seconds) * config.mels, place)
        self.mels = Shelf(clip_seconds, config.front_end, keep, place)
        self.features: dict[LabelledFile, Tensor] = {}
        # Weight and bias by the clips that they were fitted on.
        self.probes: dict[tuple[LabelledFile, ...], tuple[Tensor, Tensor]] = {}

    def prepare(self, files: Sequence[LabelledFile]) -> Iterator[Preparing]:
        """Read clips and run them through the frozen backbone, those that were not yet; raises
        TaskError if one cannot be read."""
        new = [file for file in files if file not in self.features]
        for i in range(0, len(new), 16):
            now = new[i : i + 16]
            features = pooled_features(self.frozen, self.mels.get(now), 16)
            self.features |= dict(zip(now, features, strict=True))
            yield Preparing("hearing the sounds", i + len(now), len(new))

    def examples(self, files: Sequence[LabelledFile]) -> Sequence[Example]:
        return Examples(self.mels, tuple(files))

    def feature_examples(self, files: Sequence[LabelledFile]) -> Sequence[Example]:
        """Frozen features in the place of log-mels, each as a single frame."""
        return [(self.features[file][None], file.label) for file in files]

    def probe(self, train: tuple[LabelledFile, ...]) -> tuple[Tensor, Tensor]:
        """Weight (classes, d) and bias (classes,) of the linear probe of some training clips."""
        if train not in self.probes:
            self.probes[train] = fit_linear(*self._features(train), len(self.task.labels))
        return self.probes[train]

    def probed(
        self, train: tuple[LabelledFile, ...], files: Sequence[LabelledFile]
    ) -> tuple[float, tuple[int, ...], tuple[float, ...]]:
        """Accuracy of that probe on other clips, and its answers; NaN and none without clips."""
        if not files:
            return math.nan, (), ()
        weight, bias = self.probe(train)
        features, labels = self._features(files)
        logits = features @ weight.T + bias
        return scores(logits, labels)[1], *answers(logits, labels)

    def _features(self, files: Sequence[LabelledFile]) -> tuple[Tensor, Tensor]:
        """-> (clips, d), labels (clips,)."""
        labels = torch.tensor([file.label for file in files])
        return torch.stack([self.features[file] for file in files]), labels


def fine_tuned(base: Loaded, choice: Choice, classes: int, seed: int = 0) -> AST:
    """A copy of the backbone that shares its frozen weights, with a fresh method on it."""
    model = share(base.model)
    attach(model, choice.method, choice.options, classes, seed)
    return model


class HeadOnly(nn.Module):
    """The head of a model on features that were computed before: how a linear probe trains."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, frames: Sequence[int]) -> Tensor:
        """x: (b, 1, d)."""
        return self.head(x[:, 0])


def trainee_of(model: AST) -> AST | HeadOnly:
    """What is trained: a model, or where nothing is plugged in and the head alone trains, as in a
    linear probe, its head."""
    frozen = all(key.startswith("head.") for key in trained_state(model))
    return HeadOnly(model.head) if frozen and not list(plugins(model)) else model


def _run(
    inputs: Inputs,
    run: Run,
    task: Task,
    comparison: Comparison,
    prepare: Prepare | None,
    checkpoint: Checkpoint | None,
) -> Generator[ComparisonEvent, None, None]:
    """One method with one seed, from a fresh model to its test. task: with its few shots."""
    choice, seed = run.choice, run.seed
    of_run = run.name, run.entry, seed
    options = replace(comparison.training, learning_rate=choice.learning_rate, seed=seed)
    model = fine_tuned(inputs.base, choice, len(task.labels), seed)
    if comparison.start == "probe":
        model.set_head(*inputs.probe(task.train))
    if prepare:
        prepare(model)
    trainee, examples, routed = trainee_of(model), inputs.examples, bool(mixtures(model))
    if trainee is not model:  # the features never change
        examples = inputs.feature_examples
        options = replace(options, mask_mels=0, mask_frames=0)

    evaluated = finished = None
    valid = examples(task.valid)
    for event in fit(trainee, examples(task.train), valid, options, checkpoint):
        if isinstance(event, Checkpoint):
            yield RunKept(run.name, event)
            continue
        yield RunEvent(*of_run, event)
        if isinstance(event, Evaluated):
            evaluated = event
            if routed:
                with hooked(model) as trace:
                    predict(model, valid[:BALANCE_CLIPS], BALANCE_CLIPS)
                share = (expert_share(record).mean(dim=0).tolist() for record in trace.records)
                yield RouterBalance(*of_run, event.step, tuple(map(tuple, share)))
        elif isinstance(event, Finished):
            finished = event
    assert finished is not None

    test = examples(task.test)
    predicted: list[int] = []
    confidence: list[float] = []
    for i in range(0, len(test), options.batch):
        logits, labels = predict(trainee, test[i : i + options.batch], options.batch)
        said, sure = answers(logits, labels)
        predicted += said
        confidence += sure
        done = Evaluating(finished.step, finished.seconds, len(predicted), len(test))
        yield RunEvent(*of_run, done)
    right = sum(said == file.label for said, file in zip(predicted, task.test, strict=True))
    test_accuracy = right / max(len(predicted), 1)
    val_accuracy = evaluated.accuracy if evaluated else math.nan
    info = BundleInfo(
        name=f"{task.name}-{slug(run.entry)}",
        task=task.name,
        method=choice.method,
        options=asdict(choice.options),
        labels=tuple(task.labels),
        base=inputs.base.name,
        base_sha256=inputs.base.sha256,
        seed=seed,
        metrics={"test_accuracy": test_accuracy, "val_accuracy": val_accuracy},
        test_clips=tasks.digest(task.test),
        clip_seconds=inputs.clip_seconds,
        features=bundle.features(model.config.front_end),
        device=str(model.device),
    )
    state = {key: value.cpu().clone() for key, value in trained_state(model).items()}
    yield TrainedBundle(run.name, info, state)
    yield RunFinished(
        *of_run,
        trained_parameters=trained_parameters(model),
        train_clips=len(task.train),
        epochs=math.ceil(finished.step / math.ceil(len(task.train) / options.batch)),
        seconds=finished.seconds,
        clips_per_second=finished.clips_per_second,
        peak_memory_mb=finished.step_memory_mb,
        val_accuracy=val_accuracy,
        test_accuracy=test_accuracy,
        predicted=tuple(predicted),
        confidence=tuple(confidence),
        probe_accuracy=inputs.probed(task.train, task.test)[0],
        device=str(model.device),
        fold=run.fold,
    )


def answers(logits: Tensor, labels: Tensor) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Of logits (clips, classes): the class said, and the probability of the true one."""
    true = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
    return tuple(logits.argmax(dim=1).tolist()), tuple(true.tolist())


def _sentence(error: BaseException) -> str:
    if isinstance(error, ValueError):
        return f"The run stopped: {str(error).rstrip('.')}."
    return "The run needs more memory than there is; try a smaller batch or fewer parameters."
