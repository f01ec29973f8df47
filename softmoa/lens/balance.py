"""How evenly the experts of a mixture share the work: numbers, what they are and how to read them.

Functions on arrays come first, then `MixtureBalance`, their inputs as means over any number of
clips, and METRICS, the table of what can be read off it. Balance is read on the combine side: by
construction each slot's dispatch weights sum to 1, so the load of a soft mixture's slots is always
equal.

Axes as in `moa`: b clips, m tokens, n experts, p slots, d width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softmoa.model.moa import Gates, Slots, SoftRouter, real_tokens
from softmoa.model.recording import LayerRecord, Place, expert_share, mixtures, token_mean

DEAD = 0.01  # of an equal part: experts with less than this much of the combine mass are dead
MOST = 0.9  # of a slot's dispatch weight


def entropy(share: Tensor) -> Tensor:
    """In nats, of shares (..., n) that sum to 1."""
    return torch.special.entr(share).sum(dim=-1)


def effective_experts(share: Tensor) -> Tensor:
    """exp(entropy): so many experts with equal shares would be as uneven."""
    return entropy(share).exp()


def at_work(shares: Iterable[Tensor]) -> float:
    """Effective experts of a model: the mean over its mixtures' shares (..., n)."""
    effective = [effective_experts(share).mean().item() for share in shares]
    return sum(effective) / len(effective)


def dead_experts(share: Tensor, threshold: float = DEAD) -> Tensor:
    """Number of experts with less than `threshold` / N of the mass (..., n)."""
    return (share < threshold / share.shape[-1]).sum(dim=-1)


def expert_choices(record: LayerRecord) -> Tensor:
    """Part of the real tokens' choices that falls on each expert, (b, n), summing to 1.

    Under top-k routing a token chooses its k experts, of which some may be switched off; where all
    experts answer every token (soft and dense mixtures) it chooses the one it weighs most.
    """
    weights = record.routing.expert_weights
    k = getattr(record.routing, "k", None) or 1
    chosen = torch.zeros_like(weights).scatter(-1, weights.topk(k).indices, 1.0)
    chosen = (chosen * (weights > 0) * real_tokens(record.routing)).sum(dim=1)
    return chosen / chosen.sum(dim=-1, keepdim=True)


def expert_probabilities(record: LayerRecord) -> Tensor:
    """Mean probability of each expert before any choice, (b, n); of a soft mixture, its share."""
    if not isinstance(record.routing, Gates):
        return expert_share(record)
    return token_mean(record, record.routing.probabilities)


def max_combine(record: LayerRecord) -> Tensor:
    """Mean over real tokens of the largest part of a token's combine weights that falls on one slot
    or expert, (b,). Top-k gates do not sum to 1, so the part is taken, not the weight; a token
    whose chosen experts are all switched off does not count."""
    _, combine = record.routing.per_slot()
    weights = combine.flatten(2)
    total = weights.sum(dim=-1)
    counted = real_tokens(record.routing)[..., 0] * (total > 0)
    part = torch.where(counted > 0, weights.amax(dim=-1) / total, 0)
    return part.sum(dim=1) / counted.sum(dim=1)


def max_dispatch(routing: Slots) -> Tensor:
    """Mean over slots of the largest dispatch weight, (b,)."""
    return routing.dispatch_weights.amax(dim=1).flatten(1).mean(dim=-1)


def tokens_for(dispatch: Tensor, part: float = MOST) -> Tensor:
    """How few tokens carry `part` of each slot's dispatch weight: (b, m, n, p) -> (b, n, p)."""
    carried = dispatch.sort(dim=1, descending=True).values.cumsum(dim=1)
    return 1 + (carried < part - 1e-6).sum(dim=1)  # sums are rounded


def slot_similarity(phi: Tensor) -> tuple[float | None, float | None]:
    """Mean cosine of two slot vectors of phi (d, n, p) (within one expert, between experts); None
    where there are no two."""
    _, experts, slots = phi.shape
    columns = F.normalize(phi.detach().float().cpu().flatten(1), dim=0)
    cosines, owner = columns.T @ columns, torch.arange(experts).repeat_interleave(slots)
    same = owner[:, None] == owner
    within, between = cosines[same & ~torch.eye(len(owner)).bool()], cosines[~same]
    return (
        within.mean().item() if len(within) else None,
        between.mean().item() if len(between) else None,
    )


@dataclass(frozen=True)
class MixtureBalance:
    """One mixture, as means over clips, in which every clip counts the same.

    share, load, probability: (n,), each summing to 1: combine mass, choices, and probability
    before any choice (see `expert_choices` and `expert_probabilities`).
    max_combine, max_dispatch: the collapse monitors. tokens_90: tokens for 90 % of a slot, of
    `tokens`. within, between: cosines of slot vectors. None: the mixture has no such thing. NaN:
    all experts are switched off.
    """

    clips: int
    share: Tensor
    load: Tensor
    probability: Tensor
    max_combine: float
    tokens: float
    max_dispatch: float | None = None
    tokens_90: float | None = None
    within: float | None = None
    between: float | None = None

    @classmethod
    def of(cls, record: LayerRecord, phi: Tensor | None = None) -> MixtureBalance:
        """Of the clips in one record; phi: (d, n, p), the slot vectors of its router."""
        routing, share = record.routing, expert_share(record)
        slots = routing if isinstance(routing, Slots) else None
        within, between = (None, None) if phi is None else slot_similarity(phi)
        return cls(
            clips=len(share),
            share=share.mean(dim=0),
            load=expert_choices(record).mean(dim=0),
            probability=expert_probabilities(record).mean(dim=0),
            max_combine=max_combine(record).mean().item(),
            tokens=real_tokens(routing).sum(dim=1).mean().item(),
            max_dispatch=max_dispatch(slots).mean().item() if slots else None,
            tokens_90=tokens_for(slots.dispatch_weights).float().mean().item() if slots else None,
            within=within,
            between=between,
        )

    def __add__(self, other: MixtureBalance) -> MixtureBalance:
        """The balance over the clips of both."""
        clips = self.clips + other.clips

        def mean(name: str) -> Any:
            a, b = getattr(self, name), getattr(other, name)
            return None if a is None or b is None else (self.clips * a + other.clips * b) / clips

        return MixtureBalance(clips, *(mean(field.name) for field in fields(self)[1:]))


class Tally:
    """Adds up the records of many forward passes of a model; balances: of its mixtures."""

    def __init__(self, model: nn.Module):
        routers = {place: moa.router for place, moa in mixtures(model).items()}
        self._phi = {at: it.phi for at, it in routers.items() if isinstance(it, SoftRouter)}
        self.balances: dict[Place, MixtureBalance] = {}

    def add(self, records: Iterable[LayerRecord]) -> None:
        for record in records:
            balance = MixtureBalance.of(record, self._phi.get(record.place))
            before = self.balances.get(record.place)
            self.balances[record.place] = before + balance if before else balance


@dataclass(frozen=True)
class Metric:
    """One row of the table. formula: LaTeX. reading: one line for who sees the number.

    value: the number; None if the mixture has no such thing.
    """

    name: str
    formula: str
    source: str
    reading: str
    value: Callable[[MixtureBalance], float | None]


# P_j: share of the combine mass; f_j: of the choices; p_j: mean probability; C, D: combine and
# dispatch weights of token i and slot k of expert j; N experts.
METRICS = (
    Metric(
        "Largest share",
        r"\max_j P_j,\quad P_j \propto \operatorname{mean}_i \sum_k C_{i,jk}",
        "Puigcerver et al. 2023 (arXiv 2308.00951), fig. 24, middle",
        "1/N = perfectly balanced; 1 = one expert does everything.",
        lambda b: b.share.max().item(),
    ),
    Metric(
        "Entropy",
        r"H = -\sum_j P_j \ln P_j",
        "Shannon 1948",
        "In nats: ln N = perfectly balanced; 0 = one expert does everything.",
        lambda b: entropy(b.share).item(),
    ),
    Metric(
        "Normalised entropy",
        r"H / \ln N",
        "Shannon 1948",
        "1.0 = perfectly balanced; 0 = one expert does everything.",
        lambda b: entropy(b.share).item() / math.log(len(b.share)) if len(b.share) > 1 else None,
    ),
    Metric(
        "Effective experts",
        r"e^{H}",
        "Hill 1973, diversity of order 1",
        "N = perfectly balanced; 1 = one expert does everything.",
        lambda b: effective_experts(b.share).item(),
    ),
    Metric(
        "Importance CV²",
        r"\left(\operatorname{std}_j P_j / \operatorname{mean}_j P_j\right)^2",
        "Shazeer et al. 2017 (arXiv 1701.06538), section 4",
        "0 = perfectly balanced; N - 1 = one expert does everything.",
        lambda b: (b.share.var(correction=0) / b.share.mean() ** 2).item(),
    ),
    Metric(
        "Max/min ratio",
        r"\max_j P_j / \min_j P_j",
        "Puigcerver et al. 2023 (arXiv 2308.00951), fig. 24, middle",
        "1.0 = perfectly balanced; Soft MoE reports 3 to 14, by layer.",
        lambda b: (b.share.max() / b.share.min()).item(),
    ),
    Metric(
        "MaxVio",
        r"\left(\max_j f_j - \tfrac{1}{N}\right) / \tfrac{1}{N}",
        "Wang et al. 2024 (arXiv 2408.15664), eq. 4, global; here each clip counts the same",
        "0 = every expert is chosen equally often; N - 1 = every token chooses the same one.",
        lambda b: (b.load.max() / b.load.mean()).item() - 1,
    ),
    Metric(
        "Switch balance",
        r"N \sum_j f_j p_j",
        "Fedus et al. 2021 (arXiv 2101.03961), eq. 4, without its coefficient",
        "1.0 if the choices or the probabilities are even; N = one expert gets everything.",
        lambda b: len(b.load) * (b.load @ b.probability).item(),
    ),
    Metric(
        "Dead experts",
        rf"\left|\{{j : P_j < {DEAD:g} / N\}}\right|",
        f"No canonical definition; here: below {100 * DEAD:g} % of an equal share",
        "0 = every expert takes part.",
        lambda b: dead_experts(b.share).item(),
    ),
    Metric(
        "Mean max combine",
        r"\operatorname{mean}_i \left(\max_{jk} C_{i,jk} / \sum_{jk} C_{i,jk}\right)",
        "Puigcerver et al. 2023 (arXiv 2308.00951), fig. 13 and 14",
        "1 / slots = a token listens to all alike; 1.0 = to one alone, under top-1 by design.",
        lambda b: b.max_combine,
    ),
    Metric(
        "Mean max dispatch",
        r"\operatorname{mean}_{jk} \max_i D_{i,jk}",
        "Puigcerver et al. 2023 (arXiv 2308.00951), fig. 13 and 14",
        "1 / tokens = a slot is the mean token; 1.0 = it is a single token (collapse).",
        lambda b: b.max_dispatch,
    ),
    Metric(
        "Tokens for 90 % of a slot",
        r"\operatorname{mean}_{jk} \min\{|T| : \sum_{i \in T} D_{i,jk} \ge 0.9\}",
        "Puigcerver et al. 2023 (arXiv 2308.00951), fig. 24, right",
        "0.9 m of m tokens = a slot is the mean token; 1 = it is a single token.",
        lambda b: b.tokens_90,
    ),
    Metric(
        "Slot similarity within experts",
        r"\operatorname{mean}_{j,\,k \ne l} \cos(\phi_{jk}, \phi_{jl})",
        "Puigcerver et al. 2023 (arXiv 2308.00951), fig. 28 to 30",
        "0 = an expert's slots look for different things; 1.0 = for the same.",
        lambda b: b.within,
    ),
    Metric(
        "Slot similarity between experts",
        r"\operatorname{mean}_{j \ne q,\,k,l} \cos(\phi_{jk}, \phi_{ql})",
        "Puigcerver et al. 2023 (arXiv 2308.00951), fig. 28 to 30",
        "0 = experts look for different things; 1.0 = for the same.",
        lambda b: b.between,
    ),
)
