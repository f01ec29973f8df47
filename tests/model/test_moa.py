"""Mixtures against the equations, by hand and by the naive loop over experts."""

import math

import pytest
import torch
import torch.nn.functional as F

from analysis.bench.naive import dense_moa, expert, soft_moa
from softmoa.model.moa import (
    Experts,
    Gates,
    MoA,
    SoftRouter,
    TokenExperts,
    TokenRouter,
    auxiliary_loss,
    balance_loss,
    expert_load,
)


def random_moa(width=24, experts=5, slots=1, bottleneck=3, normalize=False) -> MoA:
    torch.manual_seed(0)
    moa = MoA(SoftRouter(width, experts, slots, normalize), Experts(width, experts, bottleneck))
    for weight in moa.experts.parameters():
        torch.nn.init.normal_(weight)
    return moa.requires_grad_(False)


def token_moa(width=24, experts=5, bottleneck=3, k=None, **router) -> MoA:
    torch.manual_seed(0)
    router = TokenRouter(width, experts, k, **router)
    moa = MoA(router, TokenExperts(width, experts, bottleneck))
    for weight in (*moa.experts.parameters(), router.phi, router.bias):
        torch.nn.init.normal_(weight)
    return moa.requires_grad_(False)


def naive_tokens(moa: MoA, x: torch.Tensor) -> torch.Tensor:
    """Token routing of x (m, d), one token and expert after the other."""
    y = torch.zeros_like(x)
    for i, token in enumerate(x):
        gates = (token @ moa.router.phi + moa.router.bias).softmax(dim=0)
        for j in gates.argsort(descending=True)[: moa.router.k].tolist():
            y[i] += gates[j] * expert(moa, j, token)
    return y


@pytest.mark.parametrize("experts, slots", [(1, 1), (7, 1), (3, 4), (16, 2)])
def test_equals_the_naive_loop(experts, slots):
    moa, x = random_moa(experts=experts, slots=slots), torch.randn(3, 11, 24)
    expected = soft_moa(moa, x)
    assert (moa(x) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("experts, k", [(1, None), (7, None), (16, None), (7, 1), (7, 2), (3, 3)])
def test_folded_token_routing_equals_the_naive_loop(experts, k):
    moa, x = token_moa(experts=experts, k=k), torch.randn(3, 11, 24)
    expected = torch.stack([naive_tokens(moa, clip) for clip in x])
    assert (moa(x) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_gradients_equal_the_naive_loop():
    """Of every weight and of the input, in double precision."""
    for moa, form in ((random_moa(slots=2), soft_moa), (token_moa(), dense_moa)):
        moa = moa.double().requires_grad_(True)
        x = torch.randn(3, 11, 24, dtype=torch.double, requires_grad=True)
        inputs = (x, *moa.parameters())
        ours, expected = (
            torch.autograd.grad(f(x).square().sum(), inputs)
            for f in (moa, lambda x, moa=moa, form=form: form(moa, x))
        )
        for a, b in zip(ours, expected, strict=True):
            assert (a - b).abs().max() < 1e-5 * b.abs().max()


def test_token_routing_by_hand():
    """Logits (ln 1, ln 2, ln 5): gates 1/8, 2/8, 5/8; a bias of ln 5 on the first makes it 5/12."""
    router = TokenRouter(3, 3)
    router.phi.data = torch.eye(3)
    x = torch.tensor([[[1.0, 2.0, 5.0]]]).log()
    assert torch.allclose(router(x).combine_weights, torch.tensor([1.0, 2.0, 5.0]) / 8)
    router.k = 2
    assert torch.allclose(router(x).combine_weights, torch.tensor([0.0, 2.0, 5.0]) / 8)
    router.bias.data[0] = math.log(5)
    assert torch.allclose(router(x).combine_weights, torch.tensor([5.0, 0.0, 5.0]) / 12)
    assert torch.allclose(router(x).probabilities, torch.tensor([5.0, 2.0, 5.0]) / 12)


def test_load_and_balance_loss_by_hand():
    """Two experts; loads 3/4 and 1/4, mean probabilities 0.6 and 0.4: 2 (0.45 + 0.1) = 1.1."""
    probabilities = torch.tensor([[[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]]])
    gates = probabilities * torch.tensor([[[1, 0], [1, 0], [1, 0], [0, 1]]])
    routing = Gates(gates, probabilities)
    assert torch.allclose(expert_load(routing), torch.tensor([0.75, 0.25]))
    assert balance_loss(routing).item() == pytest.approx(1.1)
    # Without the last token, which is padding here, one expert has everything: 2 * 2.2 / 3.
    routing = Gates(gates, probabilities, torch.tensor([[True, True, True, False]]))
    assert expert_load(routing).tolist() == [1, 0]
    assert balance_loss(routing).item() == pytest.approx(2 * 2.2 / 3)


def test_the_auxiliary_loss_is_charged_in_training_collected_once_and_reaches_the_router():
    moa = token_moa(k=1, balance="loss", coefficient=0.5).requires_grad_(True)
    model, x = torch.nn.Sequential(moa), torch.randn(2, 9, 24)
    model.eval()(x)
    assert auxiliary_loss(model) == 0
    model.train()(x)
    loss = auxiliary_loss(model)
    assert loss.item() == pytest.approx(0.5 * balance_loss(moa.router(x)).item())
    loss.backward()
    assert moa.router.phi.grad.abs().max() > 0 and moa.experts.down.grad is None
    auxiliary_loss(model)
    assert auxiliary_loss(model) == 0
    token_moa(k=1).train()(x)
    assert auxiliary_loss(token_moa(k=1)) == 0


@pytest.mark.parametrize("balance", ["loss", "bias"])
def test_balancing_evens_out_a_collapsed_router(balance):
    """A router that prefers one expert for every token; plain top-1 would stay there."""
    torch.manual_seed(0)
    router = TokenRouter(8, 4, 1, balance, coefficient=1.0, rate=0.01).train()
    x = torch.randn(4, 50, 8)
    torch.nn.init.normal_(router.phi, std=0.1)
    router.bias.data[0] = 1.0
    assert expert_load(router(x))[0] > 0.9
    optimizer = torch.optim.Adam([router.phi, router.bias], 0.02)
    for _ in range(100):
        router(x)
        if balance == "loss":
            optimizer.zero_grad()
            auxiliary_loss(router).backward()
            optimizer.step()
    assert expert_load(router(x)).max() < 0.45


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
