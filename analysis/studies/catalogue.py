"""The studies that train: what they vary, and the claims of the papers that they test."""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from analysis.studies import conditions as vary
from analysis.studies.claims import Claim
from analysis.studies.conditions import Condition
from softmoa.model.ast import ASTConfig


@dataclass(frozen=True)
class Training:
    """axis: what the `at` of the conditions counts; "" where they are no points of a curve.

    measures: columns of the table beside accuracy, parameters and seconds. minutes: of the default
    tasks and seeds on two processor cores.
    """

    name: str
    title: str
    conditions: Callable[[ASTConfig], list[Condition]]
    minutes: int
    tasks: tuple[str, ...] = ("digits",)
    axis: str = ""
    measures: tuple[str, ...] = ()
    watched: bool = False

    @property
    def claims(self) -> list[Claim]:
        """Its rows of claims.csv, where an empty cell stands for the default of `Claim`."""
        with Path(__file__).with_name("claims.csv").open(newline="") as table:
            return [_claim(row) for row in csv.DictReader(table) if row.pop("study") == self.name]


def _claim(row: dict[str, str]) -> Claim:
    said: dict[str, Any] = {name: text for name, text in row.items() if text}
    said["tasks"] = row["tasks"].split()
    with suppress(ValueError):  # it is a condition
        said["b"] = float(row["b"])
    return TypeAdapter(Claim).validate_python(said)


TRAINING = (
    Training(
        "methods",
        "Methods",
        vary.methods,
        minutes=90,
        tasks=("digits", "tones", "instruments", "esc10"),
    ),
    Training("experts", "Number of experts", vary.experts, minutes=30, axis="experts n"),
    Training(
        "slots",
        "Slots per expert",
        vary.slots,
        minutes=8,
        axis="slots p per expert, n p = 16",
    ),
    Training(
        "shots",
        "Accuracy against clips per class",
        vary.shots,
        minutes=15,
        tasks=("initials",),
        axis="training clips per class",
    ),
    Training(
        "form",
        "Form of Soft-MoA",
        vary.form,
        minutes=60,
        tasks=("initials", "instruments", "tones", "esc10"),
        measures=("val_accuracy",),
    ),
    Training("placement", "Place of the mixtures", vary.placement, minutes=8),
    Training("module", "Kind of adapter", vary.module, minutes=7),
    Training(
        "balance",
        "Balance of the experts",
        vary.balance,
        minutes=7,
        measures=(
            "Normalised entropy",
            "Effective experts",
            "Max/min ratio",
            "MaxVio",
            "Dead experts",
            "Mean max combine",
        ),
        watched=True,
    ),
    Training(
        "reference",
        "Differences from the public reference code",
        vary.reference,
        minutes=11,
        measures=("change_at_start", "change_trained"),
    ),
)
