"""Every metric on cases whose answer is known: balanced, collapsed, and counted by hand."""

import math

import pytest
import torch
from torch import nn

from softmoa.lens.balance import (
    METRICS,
    MixtureBalance,
    Tally,
    dead_experts,
    effective_experts,
    entropy,
    expert_choices,
    slot_similarity,
)
from softmoa.model.moa import Gates, MoA, Slots, SoftRouter, TokenRouter
from softmoa.model.recording import LayerRecord, detached

NOTHING = torch.zeros(())  # balance never looks at the experts' answers


def record(routing) -> LayerRecord:
    return LayerRecord(0, "mhsa", routing, NOTHING)


def test_a_distribution_by_hand():
    """(1/2, 1/4, 1/4): entropy 3/2 ln 2; mean 1/3, variance (1/36 + 2/144) / 3 = 1/72."""
    share = torch.tensor([0.5, 0.25, 0.25])
    assert entropy(share) == pytest.approx(1.5 * math.log(2))
    assert effective_experts(share) == pytest.approx(2**1.5)
    found = values(MixtureBalance(1, share, share, share, 0.5, 3))
    assert found["Importance CV²"] == pytest.approx(9 / 72)
    assert found["Max/min ratio"] == pytest.approx(2)
    assert found["MaxVio"] == pytest.approx(0.5)
    assert found["Switch balance"] == pytest.approx(9 / 8)
    assert dead_experts(share) == 0
    assert dead_experts(torch.tensor([0.5, 0.497, 0.003])) == 1  # below 1 % of 1/3
    assert dead_experts(share, threshold=0.9) == 2


BALANCED = {
    "Largest share": 1 / 4,
    "Entropy": math.log(4),
    "Normalised entropy": 1,
    "Effective experts": 4,
    "Importance CV²": 0,
    "Max/min ratio": 1,
    "MaxVio": 0,
    "Switch balance": 1,
    "Dead experts": 0,
    "Mean max combine": 1 / 8,
    "Mean max dispatch": 1 / 20,
    "Tokens for 90 % of a slot": 18,
    "Slot similarity within experts": 0,
    "Slot similarity between experts": 0,
}
COLLAPSED = {
    "Largest share": 1,
    "Entropy": 0,
    "Normalised entropy": 0,
    "Effective experts": 1,
    "Importance CV²": 3,
    "Max/min ratio": math.inf,
    "MaxVio": 3,
    "Switch balance": 4,
    "Dead experts": 3,
    "Mean max combine": 1,
    "Mean max dispatch": 1,
    "Tokens for 90 % of a slot": 1,
    "Slot similarity within experts": 1,
    "Slot similarity between experts": 1,
}


def values(balance: MixtureBalance) -> dict[str, float | None]:
    return {metric.name: metric.value(balance) for metric in METRICS}


def test_a_balanced_and_a_collapsed_soft_mixture():
    """20 tokens, 4 experts of 2 slots. Balanced: all weights equal but for a grain that shares
    the largest evenly, slot vectors at right angles. Collapsed: slot 0 and token 0 are all."""
    grain = 1e-6 * torch.eye(4).repeat(5, 1)[None, :, :, None]
    combine = torch.full((1, 20, 4, 2), 1 / 8) + grain - grain.mean()
    dispatch = torch.full((1, 20, 4, 2), 1 / 20)
    balance = MixtureBalance.of(record(Slots(dispatch, combine)), torch.eye(8).view(8, 4, 2))
    assert values(balance) == pytest.approx(BALANCED, abs=1e-4)
    one_slot, one_token = torch.zeros(2, 1, 20, 4, 2)
    one_slot[:, :, 0, 0], one_token[:, 0] = 1, 1
    balance = MixtureBalance.of(record(Slots(one_token, one_slot)), torch.ones(8, 4, 2))
    assert values(balance) == pytest.approx(COLLAPSED, abs=1e-5)


def test_a_balanced_and_a_collapsed_top_1_mixture():
    even = torch.eye(4).repeat(5, 1)[None]
    got = values(MixtureBalance.of(record(Gates(0.7 * even, 0.6 * even + 0.1, k=1))))
    slots = [name for name in BALANCED if "slot" in name.lower() or "dispatch" in name]
    expected = {**BALANCED, **dict.fromkeys(slots), "Mean max combine": 1}
    assert got == pytest.approx(expected, abs=1e-5)
    one = torch.eye(4)[[0] * 20][None]
    got = values(MixtureBalance.of(record(Gates(one, one, k=1))))
    assert got == pytest.approx({**COLLAPSED, **dict.fromkeys(slots)}, abs=1e-5)


def test_choices_by_hand():
    """Four tokens; the last is padding. Top-2: 2, 3 and 1 of 6; as soft weights the largest."""
    mask = torch.tensor([[True, True, True, False]])
    top_2 = torch.tensor([[[0.5, 0.3, 0], [0.2, 0.6, 0], [0, 0.4, 0.5], [0.0, 0.5, 0.5]]])
    choices = expert_choices(record(Gates(top_2, top_2, mask, k=2)))
    assert torch.allclose(choices, torch.tensor([[2, 3, 1]]) / 6)
    soft = (top_2 + 0.01)[..., None]
    choices = expert_choices(record(Slots(soft, soft, mask)))
    assert torch.allclose(choices, torch.tensor([[1, 1, 1]]) / 3)


def test_slot_similarity_by_hand():
    """Expert 0: slots along x and, twice as long, -x. Expert 1: both at 45 degrees."""
    phi = torch.tensor([[[1.0, -2.0], [1.0, 3.0]], [[0.0, 0.0], [1.0, 3.0]]])  # (d, n, p)
    half = 2**-0.5
    assert slot_similarity(phi) == pytest.approx((0, 0), abs=1e-6)
    assert slot_similarity(phi[:, 1:]) == (pytest.approx(1), None)
    assert slot_similarity(phi[:, :, :1]) == (None, pytest.approx(half))


@pytest.mark.parametrize("router", [SoftRouter(8, 3, 2), TokenRouter(8, 3), TokenRouter(8, 3, 1)])
def test_a_tally_over_clips_is_the_balance_of_all_of_them(router):
    routing = detached(router(torch.randn(6, 10, 8)))
    phi = router.phi if isinstance(router, SoftRouter) else None
    block = nn.ModuleDict({"beside_attn": MoA(router, nn.Identity())})
    tally = Tally(nn.ModuleDict({"blocks": nn.ModuleList([block])}))
    tensors = {k: value for k, value in vars(routing).items() if torch.is_tensor(value)}
    for x in (slice(0, 1), slice(1, 4), slice(4, 6)):
        tally.add([record(type(routing)(**{k: value[x] for k, value in tensors.items()}))])
    balance = tally.balances[0, "mhsa"]
    assert balance.clips == 6 and balance.tokens == pytest.approx(10)
    whole = values(MixtureBalance.of(record(routing), phi))
    assert values(balance) == pytest.approx(whole, abs=1e-5)
