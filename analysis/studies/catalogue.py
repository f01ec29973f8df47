"""The studies that train: what they vary, and the claims of the papers that they test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analysis.studies import conditions as vary
from analysis.studies.claims import PETL_AST, SOFT_MOA, SOFT_MOE, Claim, Says
from analysis.studies.conditions import DENSE, SOFT, TOP1, Condition
from softmoa.model.ast import ASTConfig

SPEECH = ("digits", "initials", "tones")
MUSIC = ("instruments", "esc10")
# Rows of `methods`, beside those that `conditions` names.
ADAPTER, MATCHED = "Bottleneck adapter", "Bottleneck adapter, matched"
CONVOLUTIONAL, PROBE = "Convolutional adapter", "Linear probe"


@dataclass(frozen=True)
class Training:
    """axis: what the `at` of the conditions counts; "" where they are no points of a curve.

    measures: columns of the table beside accuracy, parameters and seconds. minutes: of the default
    tasks and seeds on two processor cores.
    """

    name: str
    title: str
    conditions: Callable[[ASTConfig], list[Condition]]
    claims: tuple[Claim, ...]
    minutes: int
    tasks: tuple[str, ...] = ("digits",)
    axis: str = ""
    measures: tuple[str, ...] = ()
    watched: bool = False


def _claim(text: str, source: str, compared: tuple[str, Says, str | float], **more: Any) -> Claim:
    return Claim(text, source, *compared, **more)


def _unharmed(a: str, b: str, text: str) -> Claim:
    return Claim(text, "a departure of the public reference code", a, "no less", b)


TRAINING = (
    Training(
        "methods",
        "Methods",
        vary.methods,
        (
            _claim("Soft-MoA beats a single adapter", SOFT_MOA, (SOFT, "more", ADAPTER)),
            _claim(
                "Soft-MoA beats a single adapter (here of the same size)",
                SOFT_MOA,
                (SOFT, "more", MATCHED),
            ),
            _claim("Soft-MoA is as accurate as Dense-MoA", SOFT_MOA, (SOFT, "equal", DENSE)),
            _claim(
                "The convolutional adapter beats the bottleneck on speech",
                PETL_AST,
                (CONVOLUTIONAL, "more", ADAPTER),
                tasks=SPEECH,
            ),
            _claim("Adapters beat a linear probe", PETL_AST, (ADAPTER, "more", PROBE)),
            _claim("Adapters beat LoRA", PETL_AST, (ADAPTER, "more", "LoRA")),
            _claim(
                "Adapters beat LoRA (here of the same size)",
                PETL_AST,
                (MATCHED, "more", "LoRA, matched"),
            ),
            _claim(
                "Adapters beat deep prompts", PETL_AST, (ADAPTER, "more", "Prompt tuning, deep")
            ),
        ),
        minutes=90,
        tasks=("digits", "tones", "instruments", "esc10"),
    ),
    Training(
        "experts",
        "Number of experts",
        vary.experts,
        (
            _claim("More adapters help", SOFT_MOA, (f"{SOFT}, n = 16", "more", f"{SOFT}, n = 1")),
            _claim(
                "More adapters help (here of equal width together, n r = 16)",
                SOFT_MOA,
                (f"{SOFT}, n = 16, n r = 16", "more", f"{SOFT}, n = 1, n r = 16"),
            ),
            _claim(
                "Soft-MoA is as accurate as Dense-MoA, with 16 adapters",
                SOFT_MOA,
                (f"{SOFT}, n = 16", "equal", f"{DENSE}, n = 16"),
            ),
            _claim(
                "Soft routing beats one expert per token, with 16 experts",
                SOFT_MOE,
                (f"{SOFT}, n = 16", "more", f"{TOP1}, n = 16"),
            ),
        ),
        minutes=30,
        axis="experts n",
    ),
    Training(
        "slots",
        "Slots per expert",
        vary.slots,
        (
            _claim(
                "Many adapters with one slot are better than two with many",
                SOFT_MOA,
                ("n = 16, p = 1", "more", "n = 2, p = 8"),
            ),
            _claim(
                "The same, of equal width together (n r = 16)",
                SOFT_MOE,
                ("n = 16, p = 1, n r = 16", "more", "n = 2, p = 8, n r = 16"),
            ),
        ),
        minutes=8,
        axis="slots p per expert, n p = 16",
    ),
    Training(
        "shots",
        "Accuracy against clips per class",
        vary.shots,
        (
            _claim(
                "Adapters beat LoRA with 2 clips a class",
                PETL_AST,
                ("Bottleneck adapter, 2 a class", "more", "LoRA, 2 a class"),
            ),
            _claim(
                "Adapters beat LoRA with 8 clips a class",
                PETL_AST,
                ("Bottleneck adapter, 8 a class", "more", "LoRA, 8 a class"),
            ),
            _claim(
                "Soft-MoA beats a linear probe with 4 clips a class",
                SOFT_MOA,
                (f"{SOFT}, 4 a class", "more", "Linear probe, 4 a class"),
            ),
        ),
        minutes=15,
        tasks=("initials",),
        axis="training clips per class",
    ),
    Training(
        "form",
        "Form of Soft-MoA",
        vary.form,
        (
            _claim(
                "Seven experts beat a wide one of their size",
                SOFT_MOA,
                (SOFT, "more", vary.ONE_WIDE),
            ),
            _claim("64 experts beat seven", SOFT_MOA, (vary.MANY, "more", SOFT)),
            _claim(
                "64 experts beat one adapter as large as seven",
                SOFT_MOA,
                (vary.MANY, "more", MATCHED),
            ),
            _claim("Several slots an expert change little", SOFT_MOE, ("p = 4", "equal", SOFT)),
        ),
        minutes=60,
        tasks=("initials", "instruments", "tones", "esc10"),
        measures=("val_accuracy",),
    ),
    Training(
        "placement",
        "Place of the mixtures",
        vary.placement,
        (
            _claim(
                "Beside MHSA is better than beside the FFN (said of one adapter, here Soft-MoA)",
                "public reference code, README",
                ("MHSA", "more", "FFN"),
            ),
            _claim(
                "Both places (Houlsby) are better on speech (said of one adapter, here Soft-MoA)",
                PETL_AST,
                ("Houlsby", "more", "MHSA"),
                tasks=SPEECH,
            ),
            _claim(
                "One place (Pfeiffer) is better elsewhere (said of one adapter, here Soft-MoA)",
                PETL_AST,
                ("MHSA", "more", "Houlsby"),
                tasks=MUSIC,
            ),
        ),
        minutes=8,
    ),
    Training(
        "module",
        "Kind of adapter",
        vary.module,
        (
            _claim(
                "The convolutional adapter beats the bottleneck on speech",
                PETL_AST,
                ("Convolutional, kernel 31", "more", "Bottleneck"),
                tasks=SPEECH,
            ),
            _claim(
                "A kernel of 8 is better than 31 on other sounds",
                PETL_AST,
                ("Convolutional, kernel 8", "more", "Convolutional, kernel 31"),
                tasks=MUSIC,
            ),
            _claim(
                "Experts may be bottlenecks or convolutional",
                SOFT_MOA,
                (vary.CONVOLVED, "equal", vary.SLOTTED),
            ),
        ),
        minutes=7,
    ),
    Training(
        "balance",
        "Balance of the experts",
        vary.balance,
        (
            _claim(
                "No adapter of Soft-MoA is starved of combine weight",
                SOFT_MOA,
                (SOFT, "equal", 0.0),
                measure="Dead experts",
                margin=0.05,
            ),
            _claim(
                "Soft-MoA is more even than one expert per token",
                SOFT_MOA,
                (SOFT, "more", TOP1),
                measure="Normalised entropy",
            ),
            _claim(
                "The busiest soft expert has 3 times the mass of the idlest, mean of layers",
                SOFT_MOE,
                (SOFT, "more", 3.0),
                measure="Max/min ratio",
            ),
            _claim(
                "Switch's loss evens out the choices",
                "Switch, arXiv 2101.03961",
                (f"{TOP1}, Switch loss", "less", TOP1),
                measure="MaxVio",
            ),
            _claim(
                "A bias on the choice evens it out",
                "Loss-free balancing, arXiv 2408.15664",
                (f"{TOP1}, bias", "less", TOP1),
                measure="MaxVio",
            ),
            _claim(
                "Switch's loss costs no accuracy",
                "Switch, arXiv 2101.03961",
                (f"{TOP1}, Switch loss", "no less", TOP1),
            ),
        ),
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
        (
            _unharmed("Added twice", "Ours", "Adding the mixture twice costs no accuracy"),
            _unharmed("Zero positions", "Ours", "Zero position embeddings cost no accuracy"),
            _claim(
                "Normalising the logits matters little at a small width",
                SOFT_MOE,
                ("Ours, normalised", "equal", "Ours"),
            ),
            _unharmed(
                "Normalised over the experts",
                "Ours, normalised",
                "Normalising over the experts' axis costs no accuracy",
            ),
            _unharmed(
                "Both projections start at zero",
                "Ours",
                "Starting both projections at zero costs no accuracy",
            ),
            _unharmed(
                "Neither projection starts at zero",
                "Ours",
                "Starting both projections at random costs no accuracy",
            ),
            _unharmed("Head from zero", "Ours", "A head that starts at zero costs no accuracy"),
            _unharmed(
                "Convolution left out",
                "Ours, convolutional adapter",
                "Leaving the convolution out costs no accuracy",
            ),
        ),
        minutes=11,
        measures=("change_at_start", "change_trained"),
    ),
)
