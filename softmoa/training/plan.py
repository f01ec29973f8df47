"""What is compared, and how: methods with their options, budgets, recipes and equal parameters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pydantic.dataclasses
from pydantic import ValidationError

from softmoa.data.values import STRICT, InputError, sentence
from softmoa.methods import METHODS
from softmoa.methods.budget import matched_options, parameters_of
from softmoa.model.ast import ASTConfig
from softmoa.training.events import MOST_RUNS
from softmoa.training.fit import Rate, TrainingOptions
from softmoa.training.recipes import SHORT, Recipe, Start

Unit = Literal["epochs", "steps", "seconds"]

YARDSTICK = "soft-moa"  # whose number of parameters the others match
ENDLESS = 10**6  # epochs of a run that steps or seconds end


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Choice:
    """A method with its options and learning rate, as one entry of a comparison."""

    method: str
    options: Any
    learning_rate: Rate

    @classmethod
    def of(cls, method: str, rate: float = 0, /, **options: Any) -> Choice:
        """A method with default options but for those given, at `rate` times its paper's rate; 0:
        at its rate for short runs."""
        row = METHODS[method]
        return cls(method, row.options(**options), rate * row.learning_rate or row.short_rate)

    @classmethod
    def parse(cls, entry: str, rate: float = 0) -> Choice:
        """Of `method:option=value:...`, such as `soft-moa:experts=16`; the option `rate` is the
        learning rate itself. Raises InputError with one sentence."""
        method, *said = (part.strip() for part in entry.split(":"))
        if method not in METHODS:
            raise InputError(f"There is no method '{method}'; there are {', '.join(METHODS)}.")
        options: dict[str, Any] = {}
        for part in said:
            name, _, text = part.partition("=")
            try:
                options[name] = json.loads(text)
            except ValueError:
                options[name] = text
        own = options.pop("rate", None)
        try:
            choice = cls.of(method, rate, **options)
            return choice if own is None else replace(choice, learning_rate=own)
        except ValidationError as error:
            raise InputError(f"'{entry}' cannot be run: {sentence(error)}") from None

    @property
    def entry(self) -> str:
        """As `parse` takes it, with the options that are not the method's defaults."""
        defaults = asdict(METHODS[self.method].options())
        said = {k: v for k, v in asdict(self.options).items() if v != defaults[k]}
        if self.learning_rate != METHODS[self.method].short_rate:
            said["rate"] = self.learning_rate
        words = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in said.items()]
        return ":".join([self.method, *words])


def title(entry: str) -> str:
    """Of a method, or of an entry of `Choice.entry`: "Soft-MoA, experts 16"."""
    method, *said = entry.split(":")
    return ", ".join([METHODS[method].title, *(part.replace("=", " ") for part in said)])


def slug(entry: str) -> str:
    """An entry as a part of the name of a file: soft-moa-experts16."""
    return entry.replace(":", "-").replace("=", "")


@dataclass(frozen=True)
class Run:
    """One run of a comparison. entry: the method, or where several entries are of one method, its
    `Choice.entry`. fold: that is tested, "" where there is one split."""

    entry: str
    choice: Choice
    seed: int
    fold: str = ""

    @property
    def name(self) -> str:
        of_fold = f", fold {self.fold}" if self.fold else ""
        return f"{title(self.entry)}{of_fold}, seed {self.seed}"


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    training: budget, batch and recipe of every run; rate and seed are set by choice and seed.
    shots: training clips per class, drawn by the seed; None for all.
    start: of every head, "probe" or "cold"; see `softmoa.training.probe`.
    interleave: runs take turns; else one after another.
    clip_seconds: what is used of every clip.
    folds: names of the folds that are tested in turn, one task for each.
    """

    choices: tuple[Choice, ...]
    training: TrainingOptions = TrainingOptions()
    seeds: tuple[int, ...] = (0,)
    shots: int | None = None
    start: Start = "probe"
    interleave: bool = True
    clip_seconds: float = 10.0
    folds: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if not self.choices or not self.seeds or not self.folds:
            raise InputError("A comparison needs at least one method and one seed.")
        for named in (self.seeds, self.folds, [choice.entry for choice in self.choices]):
            if len(set(named)) < len(named):
                raise InputError("A method or a seed is named twice.")
        if (runs := len(self.runs)) > MOST_RUNS:  # the page and `read` take no more
            raise InputError(f"{runs} runs are more than the {MOST_RUNS} of one comparison.")

    @property
    def entries(self) -> dict[str, Choice]:
        """By a name of its own: the method where it takes part once, else its `Choice.entry`."""
        times = Counter(choice.method for choice in self.choices)
        return {c.method if times[c.method] == 1 else c.entry: c for c in self.choices}

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(
            Run(entry, choice, seed, fold)
            for fold in self.folds
            for seed in self.seeds
            for entry, choice in self.entries.items()
        )


def plan(
    methods: Sequence[str],
    recipe: Recipe = SHORT,
    amount: float = 8,
    unit: Unit = "epochs",
    *,
    config: ASTConfig,
    seeds: Sequence[int] = (0,),
    shots: int | None = None,
    rate: float = 0,
    batch: int = 0,
    start: Start | Literal[""] = "",
    equal_parameters: bool = False,
    interleave: bool = True,
    folds: Sequence[str] = ("",),
) -> Comparison:
    """A comparison in few words: `amount` epochs, steps or seconds for every run of a recipe.

    methods: names, or entries of `Choice.parse`, also several of one method.
    rate: factor of the papers' learning rates, batch: clips of a step, start; 0 or "": as
    the recipe says. equal_parameters: see `matched`. Raises InputError if the words make no
    comparison.
    """
    limit = float(amount) if unit == "seconds" else int(amount)
    budget: dict[str, Any] = {"epochs": ENDLESS, unit: limit}
    training = replace(recipe.training, batch=batch or recipe.training.batch, **budget)
    factor = rate or (0 if recipe.short_rate else 1)
    choices = tuple(Choice.parse(entry, factor) for entry in methods)
    if equal_parameters:
        choices = matched(choices, config)
    how = start or recipe.start, interleave, recipe.clip_seconds
    return Comparison(choices, training, tuple(seeds), shots, *how, tuple(folds))


def matched(choices: Sequence[Choice], config: ASTConfig) -> tuple[Choice, ...]:
    """The choices resized to train as many parameters as Soft-MoA at its defaults.

    Within 5 % where a method's steps allow; methods without a size stay as they are: the linear
    probe, BitFit and full fine-tuning.
    """
    parameters = parameters_of(config, YARDSTICK, METHODS[YARDSTICK].options())
    return tuple(
        replace(c, options=matched_options(config, c.method, parameters, c.options))
        for c in choices
    )
