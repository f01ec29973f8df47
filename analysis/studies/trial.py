"""One fine-tuning run of a study: a method on few shots of a task, and all that is asked of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from analysis.studies.departures import DEPARTURES, OF_BASE, OF_TRAINING
from analysis.studies.engine import Result
from softmoa.data import tasks
from softmoa.data.tasks import LabelledFile, Task
from softmoa.lens.balance import METRICS, Tally
from softmoa.methods import share
from softmoa.methods.beside import NORM_BEFORE
from softmoa.model import device, weights
from softmoa.model.ast import AST
from softmoa.model.recording import hooked
from softmoa.model.weights import BACKBONES, Loaded
from softmoa.training.compare import compare, fine_tuned
from softmoa.training.events import RunEvent, TrainedBundle
from softmoa.training.fit import Evaluated, TrainingOptions, predict
from softmoa.training.plan import Choice, Comparison
from softmoa.training.recipes import Start
from softmoa.training.scoreboard import Scoreboard

Pairs = tuple[tuple[str, Any], ...]
VALIDATED = 120  # validation clips at most, spread over the classes
LOOKED_AT = 32  # clips whose routing or outputs are looked at
# Differ between machines and calls.
MEASURED = ("seconds", "clips_per_second", "peak_memory_mb", "machine", "commit")


def usual_budget(task: str) -> dict[str, int]:
    """`shots` and `epochs` of a `Trial`: few, and enough for the methods to leave the place where
    the warm head puts them all."""
    shots, epochs = {"digits": (50, 4), "tones": (20, 8), "initials": (14, 8)}.get(task, (10, 4))
    return {"shots": shots, "epochs": epochs}


@dataclass(frozen=True)
class Arm:
    """What is compared with the other arms of a study. options: those that are not the method's
    defaults. layers: blocks that keep their branch; all of them if empty. departure: one of
    DEPARTURES, or "".
    """

    method: str
    options: Pairs = ()
    layers: tuple[int, ...] = ()
    departure: str = ""
    start: Start = "probe"

    def __str__(self) -> str:
        said = [f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in self.options]  # fmt: skip
        said += [f"layers {self.layers}"] if self.layers else []
        said += [self.departure] if self.departure else []
        said += ["head from zero"] if self.start == "cold" else []
        return ", ".join([self.method, *said])

    @property
    def choice(self) -> Choice:
        return Choice.of(self.method, **dict(self.options))

    def departed(self, base: Loaded) -> Loaded:
        """The bare encoder as this arm wants it; the frozen weights are shared."""
        if self.departure not in OF_BASE:
            return base
        model = share(base.model)
        DEPARTURES[self.departure](model)
        return replace(base, model=model)

    def change(self, model: AST) -> None:
        """What is not a matter of options: other layers, and departures."""
        if self.layers:
            keep_layers(model, self.layers)
        if self.departure and self.departure not in OF_BASE:
            DEPARTURES[self.departure](model)


@dataclass(frozen=True)
class Trial:
    """learning_rate: 0 for the method's own. backbone: an embedded one, or a file of
    `weights.save_embedded`. weights: what its sha256 begins with. watched: whether every metric of
    balance is taken at each evaluation. test: the fold or speaker that is tested, "" for the
    task's own.
    """

    task: str
    arm: Arm
    seed: int
    learning_rate: float = 0.0
    watched: bool = False
    shots: int = 50
    epochs: int = 4
    backbone: str = "ast-small"
    weights: str = ""
    test: str = ""

    def __str__(self) -> str:
        return f"{self.arm} on {self.task}, seed {self.seed}"

    @property
    def resolved(self) -> dict[str, Any]:
        """The options and rate of the method with its defaults, which the id of a run holds too."""
        return asdict(self.choice)

    def execute(self) -> Result:
        """Raises ValueError if the loss became infinite."""
        base, task = backbone(self.backbone), load_task(self.task, self.test)
        if not base.sha256.startswith(self.weights):
            raise ValueError(f"{self.backbone} is not the file that the grid was made for")
        comparison = Comparison(
            (self.choice,),
            TrainingOptions(epochs=self.epochs),
            (self.seed,),
            self.shots,
            self.arm.start,
            interleave=False,
        )
        models: list[AST] = []

        def prepare(model: AST) -> None:
            self.arm.change(model)
            models.append(model)

        board, curve = Scoreboard(), []
        state: dict[str, Tensor] = {}
        for event in compare(self.arm.departed(base), task, comparison, prepare):
            board.add(event)
            if isinstance(event, TrainedBundle):
                state = event.state
            if self.watched and isinstance(event, RunEvent) and isinstance(event.event, Evaluated):
                step = {"step": event.event.step, "accuracy": event.event.accuracy}
                curve.append(step | balance_of(models[0], task.valid))
        if board.failed:
            raise ValueError(board.failed[0].message)
        [finished] = board.finished
        assert board.plan is not None
        result: Result = {
            name: getattr(finished, name)
            for name in ("trained_parameters", "train_clips", "val_accuracy", "test_accuracy")
            + MEASURED[:3]
        }
        answers = repr((finished.predicted, finished.confidence)).encode()
        result["answers"] = hashlib.sha256(answers).hexdigest()[:12]
        result["probe_accuracy"] = finished.probe_accuracy
        result["right"] = "".join(f"{hit:.0f}" for hit in board.right(finished.method)[self.seed])
        result["groups"] = list(board.plan.groups)
        if self.watched:
            result |= {"curve": curve} | balance_of(models[0], task.test)
        if self.arm.departure not in ("", *OF_TRAINING):
            fresh = self.output_change(base, task, len(task.labels))
            trained = self.output_change(base, task, len(task.labels), state)
            result |= {"change_at_start": fresh, "change_trained": trained}
        return result

    @property
    def choice(self) -> Choice:
        choice = self.arm.choice
        return replace(choice, learning_rate=self.learning_rate or choice.learning_rate)

    def output_change(
        self, base: Loaded, task: Task, classes: int, state: dict[str, Tensor] | None = None
    ) -> float:
        """How far the departure moves the pooled features of test clips, with the same weights:
        mean length of the difference over mean length of ours. state: trained weights; None: fresh.
        """
        plain = fine_tuned(base, self.choice, classes, self.seed)
        other = fine_tuned(self.arm.departed(base), self.choice, classes, self.seed)
        self.arm.change(other)
        for model in (plain, other):
            for key, value in (state or {}).items():
                model.get_parameter(key).data.copy_(value)
        mels = [mel.to(plain.cls.device) for mel, _ in tasks.log_mels(task.test[:LOOKED_AT])]
        with torch.inference_mode():
            ours, theirs = (
                torch.stack([model.pool(*model.features(mel[None]))[0] for mel in mels])
                for model in (plain, other)
            )
        return ((theirs - ours).norm(dim=1).mean() / ours.norm(dim=1).mean()).item()


def keep_layers(model: AST, layers: Sequence[int]) -> None:
    """Take the branches of all other blocks away, and freeze the norms that they read through."""
    for index, block in enumerate(model.blocks):
        if index in layers:
            continue
        for slot, norm in NORM_BEFORE.items():
            setattr(block, slot, None)
            getattr(block, norm).requires_grad_(False)


def balance_of(model: AST, files: Sequence[LabelledFile]) -> dict[str, float]:
    """Every metric of balance on some of the clips, mean over the mixtures."""
    step = max(1, len(files) // LOOKED_AT)  # spread over all classes
    examples = tasks.log_mels(files[::step][:LOOKED_AT])
    tally = Tally(model)
    with hooked(model) as trace:
        predict(model, examples)
        tally.add(trace.records)
    found = {}
    for metric in METRICS:
        values = [metric.value(balance) for balance in tally.balances.values()]
        known = [value for value in values if value is not None]
        if known:
            found[metric.name] = mean(known)
    return found


@lru_cache(maxsize=2)
def backbone(name: str) -> Loaded:
    """On the device that SOFTMOA_DEVICE names, by default the GPU where there is one."""
    base = weights.load(name) if name in BACKBONES else weights.load_embedded(Path(name))
    device.place(base.model, f"the backbone '{base.name}'")
    return base


@lru_cache(maxsize=8)
def load_task(name: str, test: str = "") -> Task:
    """With some of the validation clips, since those are gone through after every epoch."""
    task = tasks.load(name, test)
    return replace(task, valid=task.valid[:: -(-len(task.valid) // VALIDATED)])
