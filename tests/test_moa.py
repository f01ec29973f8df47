"""Soft mixtures against the equations, by hand and by the naive loop over experts."""

import math

import pytest
import torch
import torch.nn.functional as F

from softmoa.moa import Experts, MoA, Slots, SoftRouter


def random_moa(width=24, experts=5, slots=1, bottleneck=3, normalize=False) -> MoA:
    torch.manual_seed(0)
    moa = MoA(SoftRouter(width, experts, slots, normalize), Experts(width, experts, bottleneck))
    for weight in moa.experts.parameters():
        torch.nn.init.normal_(weight)
    return moa.requires_grad_(False)


def naive(moa: MoA, x: torch.Tensor) -> torch.Tensor:
    """Soft MoE's algorithm 1 for one clip x (m, d), one expert and slot after the other."""
    phi, experts = moa.router.phi, moa.experts
    _, n, p = phi.shape
    logits = torch.stack([x @ phi[:, j, k] for j in range(n) for k in range(p)], dim=1)
    dispatch, combine = logits.softmax(dim=0), logits.softmax(dim=1)
    y = torch.zeros_like(x)
    for s in range(n * p):
        slot = dispatch[:, s] @ x
        hidden = F.gelu(slot @ experts.down[s // p] + experts.down_bias[s // p])
        answer = hidden @ experts.up[s // p] + experts.up_bias[s // p]
        y += combine[:, s, None] * answer
    return y


@pytest.mark.parametrize("experts, slots", [(1, 1), (7, 1), (3, 4), (16, 2)])
def test_equals_the_naive_loop(experts, slots):
    moa, x = random_moa(experts=experts, slots=slots), torch.randn(3, 11, 24)
    expected = torch.stack([naive(moa, clip) for clip in x])
    assert (moa(x) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_four_tokens_by_hand():
    """Two experts, tokens (ln 2, 0), (0, ln 2), (0, 0), (0, 0), phi the identity.

    Column 1 of exp(logits) is 2, 1, 1, 1: dispatch 2/5, 1/5, 1/5, 1/5. Rows are (2, 1), (1, 2),
    (1, 1), (1, 1): combine 2/3, 1/3; 1/3, 2/3; 1/2, 1/2; 1/2, 1/2.
    """
    router = SoftRouter(2, 2)
    router.phi.data = torch.eye(2)[..., None]
    ln2 = math.log(2)
    x = torch.tensor([[[ln2, 0], [0, ln2], [0, 0], [0, 0]]])
    routing = router(x)
    expected = torch.tensor([[2, 1], [1, 2], [1, 1], [1, 1]]) / 5
    assert torch.allclose(routing.dispatch_weights[0, ..., 0], expected)
    expected = torch.tensor([[2 / 3, 1 / 3], [1 / 3, 2 / 3], [1 / 2, 1 / 2], [1 / 2, 1 / 2]])
    assert torch.allclose(routing.combine_weights[0, ..., 0], expected)
    slots = routing.dispatch(x)
    assert torch.allclose(slots[0, :, 0], ln2 * torch.tensor([[2, 1], [1, 2]]) / 5)
    y = routing.combine(torch.tensor([[[[3.0, 0.0]], [[0.0, 6.0]]]]))
    assert torch.allclose(y[0], torch.tensor([[2.0, 2.0], [1.0, 4.0], [1.5, 3.0], [1.5, 3.0]]))


def test_dispatch_sums_to_one_over_real_tokens_and_combine_over_slots():
    mask = torch.tensor([[True] * 9, [True] * 4 + [False] * 5])
    routing = SoftRouter(8, 3, 2)(100 * torch.randn(2, 9, 8), mask)
    assert torch.allclose(routing.dispatch_weights.sum(dim=1), torch.ones(2, 3, 2))
    assert torch.allclose(routing.combine_weights.sum(dim=(2, 3)), torch.ones(2, 9))
    assert routing.dispatch_weights[1, 4:].abs().max() == 0


def test_padding_changes_nothing_for_the_real_tokens():
    moa, x = random_moa(slots=2), torch.randn(1, 6, 24)
    padded = torch.cat([x, torch.full((1, 5, 24), 50.0)], dim=1)
    mask = torch.tensor([[True] * 6 + [False] * 5])
    assert torch.allclose(moa(padded, mask)[:, :6], moa(x), atol=1e-5)


def test_tokens_may_come_in_any_order():
    moa, x, order = random_moa(), torch.randn(1, 10, 24), torch.randperm(10)
    assert torch.allclose(moa(x[:, order]), moa(x)[:, order], atol=1e-5)


@pytest.mark.parametrize("experts, slots", [(4, 1), (1, 3)])
def test_without_preference_every_token_gets_the_experts_on_the_mean_token(experts, slots):
    moa, x = random_moa(experts=experts, slots=slots), torch.randn(1, 10, 24)
    moa.router.phi.data.zero_()
    mean = x.mean(dim=1).expand(experts, 1, 1, 24).transpose(0, 1)
    expected = moa.experts(mean).mean(dim=1)
    assert torch.allclose(moa(x), expected.expand(1, 10, 24), atol=1e-5)


def test_normalised_logits_are_scaled_cosines_and_slot_inputs_stay_raw():
    moa, x = random_moa(normalize=True), torch.randn(1, 6, 24)
    moa.router.scale.data.fill_(3.0)
    phi = moa.router.phi[..., 0]
    cosine = F.cosine_similarity(x[0, :, None], phi.T[None], dim=-1)
    routing = moa.router(x)
    assert torch.allclose(
        routing.combine_weights[0, ..., 0], (3 * cosine).softmax(dim=1), atol=1e-6
    )
    expected = (3 * cosine).softmax(dim=0).T @ x[0]
    assert torch.allclose(routing.dispatch(x)[0, :, 0], expected, atol=1e-5)
    louder = moa.router(7 * x)
    assert torch.allclose(louder.combine_weights, routing.combine_weights, atol=1e-6)


def test_a_fresh_mixture_adds_nothing_and_can_learn():
    moa, x = MoA(SoftRouter(8, 3), Experts(8, 3, 2)), torch.randn(2, 5, 8)
    assert moa(x).abs().max() == 0
    assert not torch.equal(moa.experts.down[0], moa.experts.down[1])
    optimizer = torch.optim.SGD(moa.parameters(), 0.1)
    before = {key: w.detach().clone() for key, w in moa.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        (moa(x) - x).square().sum().backward()
        optimizer.step()
    assert all(not torch.equal(before[key], w) for key, w in moa.named_parameters())


def test_half_precision_tokens_are_routed_in_single_precision():
    moa, x = random_moa().bfloat16(), torch.randn(1, 5, 24).bfloat16()
    assert moa.router(x).dispatch_weights.dtype == torch.float32
    assert moa(x).dtype == torch.bfloat16


def test_detached_routing_is_free_of_the_graph():
    router, x = SoftRouter(8, 2), torch.randn(1, 4, 8)
    routing = router(x).detach()
    assert isinstance(routing, Slots) and not routing.dispatch_weights.requires_grad
