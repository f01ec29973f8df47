"""What one layer's mixture costs: closed formulas against what is counted and timed.

Axes: b clips, m tokens, d width, n experts, p slots, r width of an expert's bottleneck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from analysis.bench.measure import Setting, alternate
from analysis.bench.moa import BOTTLENECK, WIDTH, mixture, saved_mb, shape_error
from analysis.bench.naive import NaiveMoA
from analysis.studies.claims import SOFT_MOA, SOFT_MOE, Row
from analysis.studies.engine import Result

CLIPS = 4
EXPERTS, TOKENS = (1, 2, 4, 7, 16, 32, 64), (110, 230, 470, 950, 1210)
FIXED_EXPERTS, FIXED_TOKENS = 7, 470  # the paper's; 4 s clips
FORMS = ("soft", "dense", "soft, loop", "dense, stack")
CLOSE = 0.02  # a count may be so far from its formula
IN_SHAPE = 0.25  # and a time from a fixed cost plus a rate times the formula
BYTES = 4  # of a number in fp32


@dataclass(frozen=True)
class Measurement:
    """A layer of random weights, forward and backward. form: one of FORMS; the last two are the
    naive ones: a loop over the experts, and a stack of all answers."""

    form: str
    experts: int
    tokens: int
    slots: int = 1
    width: int = WIDTH
    bottleneck: int = BOTTLENECK
    clips: int = CLIPS
    rounds: int = 15

    @property
    def soft(self) -> bool:
        return self.form.startswith("soft")

    def execute(self) -> Result:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        layer = self.layer().to(device)
        x = torch.randn(self.clips, self.tokens, self.width, device=device, requires_grad=True)
        moa = layer.moa if isinstance(layer, NaiveMoA) else layer
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            layer(x)
        dy = torch.randn_like(x)

        def step() -> None:
            layer.zero_grad()
            layer(x).backward(dy)

        [times] = alternate(Setting(x.device, self.rounds), step)
        return {
            "device": device,
            "parameters": sum(w.numel() for w in moa.parameters()),
            "parameters_formula": self.parameters(),
            "mflop": counter.get_total_flops() / self.clips / 1e6,
            "mflop_formula": self.flops() / 1e6,
            "memory_mb": saved_mb(layer, x),
            "memory_mb_formula": self.memory() / 1e6,
            "milliseconds": min(times),  # noise only ever adds
            "milliseconds_median": median(times),
        }

    def layer(self) -> nn.Module:
        moa = mixture(self.experts, not self.soft, self.slots, self.width, self.bottleneck)
        return NaiveMoA(moa) if "," in self.form else moa

    def parameters(self) -> int:
        """n (2 d r + r + d), and d n p slot vectors or a router of d n + n."""
        d, n, r = self.width, self.experts, self.bottleneck
        router = d * n * self.slots if self.soft else d * n + n
        return n * (2 * d * r + r + d) + router

    def flops(self) -> int:
        """Of a clip, forward, products only. Soft: 6 m d S + 4 S d r of S = n p slots: logits,
        dispatch, combine, experts. Dense: 4 m d n r + 4 m d n: experts, router and biases."""
        m, d, n, r = self.tokens, self.width, self.experts, self.bottleneck
        slots = n * self.slots
        return 6 * m * d * slots + 4 * slots * d * r if self.soft else 4 * m * d * n * (r + 1)

    def memory(self) -> int:
        """Bytes kept for the backward pass, beside input and weights. Soft: b S (2 m + 2 d + 2 r):
        both softmaxes, slots and answers, bottlenecks before and after gelu. Dense, folded:
        b m n (1 + 3 r) + d n r: gates; bottlenecks before and after gelu and gated; weights
        rearranged, which one expert alone needs not. The stack of all answers: b m n (1 + 2 r + d).
        """
        b, m, d, n, r = self.clips, self.tokens, self.width, self.experts, self.bottleneck
        slots = n * self.slots
        if self.soft:
            return BYTES * b * slots * (2 * m + 2 * d + 2 * r)
        if "," in self.form:
            return BYTES * b * m * n * (1 + 2 * r + d)
        return BYTES * (b * m * n * (1 + 3 * r) + d * n * r * (n > 1))


def measurements(quick: bool) -> list[tuple[str, Measurement]]:
    """(what is varied, run)."""
    rounds, fixed = (3, TOKENS[0]) if quick else (15, FIXED_TOKENS)
    experts, tokens = (EXPERTS[:2], TOKENS[:1]) if quick else (EXPERTS, TOKENS)
    in_n = [("n", Measurement(f, n, fixed, rounds=rounds)) for n in experts for f in FORMS]
    in_m = [("m", Measurement(f, FIXED_EXPERTS, m, rounds=rounds)) for m in tokens for f in FORMS]
    return in_n + in_m


def verdicts(rows: Sequence[Row]) -> list[list[str]]:
    """Claim, what was found, verdict."""
    lines = []
    folded = [row for row in rows if "," not in row["form"]]
    for what, name in (
        ("parameters", "parameters"),
        ("floating-point operations", "mflop"),
        ("memory of a training step", "memory_mb"),
    ):
        off = max(abs(row[name] / row[f"{name}_formula"] - 1) for row in folded)
        claim = f"The formula gives the {what} of the folded forms [this page]"
        lines.append(_line(claim, f"at most {off:.1%} off", off <= CLOSE))
    for form in ("soft", "dense"):
        for vary in ("n", "m"):
            of = [row for row in folded if (row["form"], row["varied"]) == (form, vary)]
            work, times = [r["mflop_formula"] for r in of], [r["milliseconds"] for r in of]
            off = shape_error(work, times)
            claim = f"Time of the {form} layer grows as its operations in {vary} [this page]"
            lines.append(_line(claim, f"at most {off:.0%} off a + b × operations",
                               off <= IN_SHAPE if len(of) > 3 else None))  # fmt: skip
    for source, text, fast, slow in (
        (SOFT_MOA, "Soft-MoA is cheaper to train than Dense-MoA", "soft, loop", "dense, stack"),
        (SOFT_MOA, "The same, both in the folded form of this project", "soft", "dense"),
        (SOFT_MOE, "Experts can be added at little cost in time: 16 for 1", "soft", "soft"),
    ):
        at = {(r["form"], r["experts"]): r for r in rows if r["tokens"] == FIXED_TOKENS}
        n, few = (16, 1) if fast == slow else (FIXED_EXPERTS, FIXED_EXPERTS)
        limit = 2.0 if fast == slow else 1.0
        found, holds = "not measured", None
        if (fast, n) in at and (slow, few) in at:
            least, middle = (
                at[fast, n][name] / at[slow, few][name]
                for name in ("milliseconds", "milliseconds_median")
            )
            found = f"{least:.2f} × the time (medians: {middle:.2f}), asked: below {limit:g}"
            # Where the two disagree, the machine was too busy.
            holds = least < limit if (least < limit) == (middle < limit) else None
        lines.append(_line(f"{text} [{source}]", found, holds))
    return lines


def _line(claim: str, found: str, holds: bool | None) -> list[str]:
    said = {True: "holds", False: "does not hold here", None: "cannot be tested at this size"}
    return [claim, found, f"**{said[holds]}**"]


def figure(rows: Sequence[Row]) -> Figure:
    """Counted or timed as points, formulas as lines; times have none."""
    shown = (
        ("parameters", "parameters"),
        ("mflop", "MFLOP a clip, forward"),
        ("memory_mb", "MB kept for backward"),
        ("milliseconds", "ms, forward and backward"),
    )
    figure = Figure(figsize=(15, 7), layout="constrained")
    panels = figure.subplots(2, len(shown))
    for line, vary, name in ((panels[0], "n", "experts"), (panels[1], "m", "tokens")):
        for axes, (measure, title) in zip(line, shown, strict=True):
            for k, form in enumerate(FORMS):
                of = [r for r in rows if (r["form"], r["varied"]) == (form, vary)]
                x = [row[name] for row in of]
                axes.plot(x, [row[measure] for row in of], "o", color=f"C{k}", label=form)
                if f"{measure}_formula" in of[0] and "," not in form:
                    formula = [row[f"{measure}_formula"] for row in of]
                    axes.plot(x, formula, "-", color=f"C{k}", linewidth=1)
            axes.set(title=title, xlabel=name, xscale="log", yscale="log")
            axes.set_xticks(x, [str(value) for value in x])
            axes.minorticks_off()
            axes.grid(alpha=0.25)
    panels[0][0].legend(fontsize=7)
    return figure


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Each measurement with its formulas."""
    pairs: list[tuple[str, Callable[[float], str]]] = [
        ("parameters", lambda v: f"{v:,.0f}"),
        ("mflop", lambda v: f"{v:.1f}"),
        ("memory_mb", lambda v: f"{v:.2f}"),
    ]
    return [
        [
            row["form"],
            str(row["experts"]),
            str(row["tokens"]),
            *(f"{show(row[name])} / {show(row[f'{name}_formula'])}" for name, show in pairs),
            f"{row['milliseconds']:.2f}",
        ]
        for row in rows
    ]
