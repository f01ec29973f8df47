"""What is compared, and how: methods with their options, budgets, recipes and equal parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from softmoa.ast import ASTConfig
from softmoa.methods import METHODS
from softmoa.methods.budget import matched_options, parameters_of
from softmoa.recipes import SHORT, Recipe
from softmoa.training import TrainingOptions

Unit = Literal["epochs", "steps", "seconds"]

YARDSTICK = "soft-moa"  # whose number of parameters the others match
ENDLESS = 10**6  # epochs of a run that steps or seconds end


@dataclass(frozen=True)
class Choice:
    """A method with its options and learning rate, as one entry of a comparison."""

    method: str
    options: Any
    learning_rate: float

    @classmethod
    def of(cls, method: str, rate: float = 0, **options: Any) -> Choice:
        """A method with default options but for those given, at `rate` times its paper's rate; 0:
        at its rate for short runs."""
        row = METHODS[method]
        return cls(method, row.options(**options), rate * row.learning_rate or row.short_rate)


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    training: budget, batch and recipe of every run; rate and seed are set by choice and seed.
    shots: training clips per class, drawn by the seed; None for all.
    warm_head: start every head from the linear solution on the frozen features.
    interleave: runs take turns; else one after another.
    clip_seconds: what is used of every clip.
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
    warm_head: bool | None = None,
    equal_parameters: bool = False,
    interleave: bool = True,
) -> Comparison:
    """A comparison in few words: `amount` epochs, steps or seconds for every run of a recipe.

    rate: factor of the papers' learning rates, batch: clips of a step, warm_head; 0 or None: as
    the recipe says. equal_parameters: see `matched`. Raises ValueError if the words make no
    comparison.
    """
    training = replace(recipe.training, batch=batch or recipe.training.batch)
    if unit == "epochs":
        training = replace(training, epochs=int(amount))
    else:
        limit = int(amount) if unit == "steps" else float(amount)
        training = replace(training, epochs=ENDLESS, **{unit: limit})
    factor = rate or (0 if recipe.short_rate else 1)
    choices = tuple(Choice.of(name, factor) for name in methods)
    if equal_parameters:
        choices = matched(choices, config)
    return Comparison(
        choices,
        training,
        tuple(seeds),
        shots,
        recipe.warm_head if warm_head is None else warm_head,
        interleave,
        recipe.clip_seconds,
    )


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
