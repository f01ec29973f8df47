"""What the studies vary: a condition is everything of a run but its task and seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from analysis.studies.trial import Arm, Pairs
from softmoa.methods import METHODS
from softmoa.methods.budget import matched_options, parameters_of
from softmoa.model.ast import ASTConfig
from softmoa.training.plan import YARDSTICK

COUNTS = (1, 2, 4, 8, 16)  # experts
SHOTS = (1, 2, 4, 8)  # training clips per class
BUDGET = 16  # n r of mixtures that are compared at equal size
SLOTS = 16  # n p of mixtures whose slots are shared out otherwise
SOFT, DENSE, TOP1 = "Soft-MoA", "Dense-MoA", "Top-1 MoA"
WIDTH = 21  # n r of Soft-MoA by default
ONE_WIDE, MANY = "n = 1, r = 21", "n = 64"
SLOTTED = "Soft-MoA, n = 4, p = 4"
CONVOLVED = f"{SLOTTED}, convolutional experts"
MIXTURES = {SOFT: "soft-moa", DENSE: "dense-moa", TOP1: "topk-moa"}


@dataclass(frozen=True)
class Condition:
    """label: the row of the table. series, at: line and place in the figure. shots: training clips
    per class, 0 for those of the study."""

    label: str
    arm: Arm
    series: str = ""
    at: float = 0
    shots: int = 0


def changed(options: Any) -> Pairs:
    """The fields that are not the defaults of their method."""
    defaults = asdict(type(options)())
    return tuple((name, v) for name, v in asdict(options).items() if v != defaults[name])


def methods(config: ASTConfig) -> list[Condition]:
    """Every method with its paper's options, and those of another size as large as Soft-MoA.

    On a backbone narrower than the papers' a reduction rate gives fewer weights than there, a rank
    or length as many per width. The shallow prompt is nearly as large by its paper: 300 tokens for
    348. A run takes minutes.
    """
    budget = parameters_of(config, YARDSTICK, METHODS[YARDSTICK].options())
    found = [Condition(method.title, Arm(name), "default") for name, method in METHODS.items()]
    for name, method in METHODS.items():
        if method.sizes and name not in (YARDSTICK, "shallow-prompt"):
            options = changed(matched_options(config, name, budget))
            if options:
                found.append(Condition(f"{method.title}, matched", Arm(name, options), "matched"))
    return found


def experts(config: ASTConfig) -> list[Condition]:
    """1 to 16 experts of the default width; and of all together BUDGET wide."""
    found = []
    for (title, method), shared, n in product(MIXTURES.items(), (False, True), COUNTS):
        size, more = _width(config, n, shared)
        arm = Arm(method, (("experts", n), *more))
        found.append(Condition(f"{title}, n = {n}{size}", arm, title + (size or ", r fixed"), n))
    return found


def slots(config: ASTConfig) -> list[Condition]:
    """SLOTS slots given to many experts or to few; the experts as wide, or all together."""
    found = []
    for shared, p in product((False, True), (1, 2, 4, 8)):
        n = SLOTS // p
        size, more = _width(config, n, shared)
        arm = Arm("soft-moa", (("experts", n), ("slots", p), *more))
        series = size.removeprefix(", ") or "r fixed"
        found.append(Condition(f"n = {n}, p = {p}{size}", arm, series, p))
    return found


def _width(config: ASTConfig, n: int, shared: bool) -> tuple[str, Pairs]:
    """Of n experts: what a label says of it, and the options; shared: BUDGET of all together."""
    if not shared:
        return "", ()
    return f", n r = {BUDGET}", (("reduction", config.width * n / BUDGET),)


def shots(config: ASTConfig) -> list[Condition]:
    """From one training clip per class to a few."""
    del config
    arms = {METHODS[m].title: Arm(m) for m in ("linear", "lora", "adapter", "soft-moa")}
    return [
        Condition(f"{title}, {n} a class", arm, title, n, shots=n)
        for title, arm in arms.items()
        for n in SHOTS
    ]


def form(config: ASTConfig) -> list[Condition]:
    """Soft-MoA otherwise, as large as its default and larger; and what it has to equal."""
    soft, wide = Arm("soft-moa"), config.width / WIDTH

    def otherwise(**options: Any) -> Arm:
        return replace(soft, options=tuple(options.items()))

    budget = parameters_of(config, YARDSTICK, METHODS[YARDSTICK].options())
    as_large = changed(matched_options(config, "adapter", budget))
    return [
        Condition(SOFT, soft),
        Condition(ONE_WIDE, otherwise(experts=1, reduction=wide)),
        Condition(f"{ONE_WIDE}, p = 7", otherwise(experts=1, reduction=wide, slots=7)),
        Condition("n = 3, r = 7", otherwise(experts=3, reduction=3 * wide)),
        Condition("n = 21, r = 1", otherwise(experts=21, reduction=21 * wide)),
        Condition(f"{SOFT}, normalised", otherwise(normalize=True)),
        Condition(f"{SOFT}, sharper routing", replace(soft, departure="sharp")),
        Condition(f"{SOFT}, experts left out", replace(soft, departure="dropped")),
        Condition(f"{SOFT}, router 10 × as fast", replace(soft, departure="fast router")),
        Condition(f"{SOFT}, router 10 × as slow", replace(soft, departure="slow router")),
        Condition("p = 4", otherwise(slots=4)),
        Condition("n = 16", otherwise(experts=16)),
        Condition(MANY, otherwise(experts=64)),
        Condition(DENSE, Arm("dense-moa")),
        Condition("Bottleneck adapter, matched", Arm("adapter", as_large)),
    ]


def placement(config: ASTConfig) -> list[Condition]:
    """Beside which sublayer, and in which blocks."""
    half, last = config.depth // 2, config.depth - 1
    budget = parameters_of(config, YARDSTICK, METHODS[YARDSTICK].options())
    houlsby = METHODS[YARDSTICK].options(placement="houlsby")
    as_large = changed(matched_options(config, YARDSTICK, budget, houlsby))
    soft = Arm(YARDSTICK)
    return [
        Condition("MHSA", soft),
        Condition("FFN", replace(soft, options=(("placement", "ffn"),))),
        Condition("Houlsby", replace(soft, options=(("placement", "houlsby"),))),
        Condition("Houlsby, as large as MHSA", replace(soft, options=as_large)),
        Condition("MHSA, first half", replace(soft, layers=tuple(range(half)))),
        Condition("MHSA, second half", replace(soft, layers=tuple(range(half, config.depth)))),
        Condition("MHSA, last block", replace(soft, layers=(last,))),
    ]


def module(config: ASTConfig) -> list[Condition]:
    """The adapter itself: bottleneck or convolutional, of about the same size; and the experts of
    Soft-MoA, with slots for the convolution to look at."""
    budget = parameters_of(config, "adapter", METHODS["adapter"].options())
    options = changed(matched_options(config, "conv-adapter", budget))
    slotted = (("experts", 4), ("slots", 4))

    def convolutional(label: str, *more: tuple[str, Any], departure: str = "") -> Condition:
        return Condition(label, Arm("conv-adapter", (*options, *more), departure=departure))

    return [
        Condition("Bottleneck", Arm("adapter")),
        convolutional("Convolutional, kernel 31"),
        convolutional("Convolutional, kernel 8", ("kernel", 8)),
        convolutional("Convolutional, kernel 8, along time", ("kernel", 8), ("along", "time")),
        convolutional("Convolutional, convolution left out", departure="dead convolution"),
        Condition(SLOTTED, Arm("soft-moa", slotted)),
        Condition(CONVOLVED, Arm("soft-moa", (*slotted, ("module", "convolution")))),
    ]


def balance(config: ASTConfig) -> list[Condition]:
    """Routers, and what is done for their balance."""
    del config
    return [
        Condition(SOFT, Arm("soft-moa")),
        Condition(DENSE, Arm("dense-moa")),
        Condition(TOP1, Arm("topk-moa")),
        Condition(f"{TOP1}, Switch loss", Arm("topk-moa", (("balance", "loss"),))),
        Condition(f"{TOP1}, bias", Arm("topk-moa", (("balance", "bias"),))),
    ]


def reference(config: ASTConfig) -> list[Condition]:
    """Ours, and what the public reference code does otherwise, one at a time."""
    del config
    ours, convolutional = Arm(YARDSTICK), Arm("conv-adapter")
    normalised = replace(ours, options=(("normalize", True),))
    return [
        Condition("Ours", ours),
        Condition("Added twice", replace(ours, departure="twice")),
        Condition("Zero positions", replace(ours, departure="no positions")),
        Condition("Ours, normalised", normalised),
        Condition("Normalised over the experts", replace(normalised, departure="other axis")),
        Condition("Both projections start at zero", replace(ours, departure="both zero")),
        Condition("Neither projection starts at zero", replace(ours, departure="both drawn")),
        Condition("Head from zero", replace(ours, start="cold")),
        Condition("Ours, convolutional adapter", convolutional),
        Condition("Convolution left out", replace(convolutional, departure="dead convolution")),
    ]
