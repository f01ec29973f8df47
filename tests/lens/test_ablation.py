"""Taking experts away: identities with the intact model, the frozen one, and the plain loop."""

import threading

import pytest
import torch
from torch import nn

from softmoa.lens.ablation import Intervention, causal_contribution, signed_contribution
from softmoa.model.ast import AST, ASTConfig
from softmoa.model.moa import Experts, Gates, MoA, SoftRouter, TokenExperts, TokenRouter
from softmoa.model.recording import hooked, mixtures

EXPERTS = 3


def model_of(kind: str, scale: float = 0.2) -> AST:
    """A tiny model of two blocks with a mixture at both sites of each."""
    torch.manual_seed(0)
    model = AST(ASTConfig(32, 2, 4, 64, max_frames=32, classes=4, pool="mean"))
    for block in model.blocks:
        for slot in ("beside_attn", "beside_mlp"):
            if kind == "soft":
                moa = MoA(SoftRouter(32, EXPERTS, 2), Experts(32, EXPERTS, 8))
            else:
                k = {"dense": None, "top-1": 1, "top-2": 2}[kind]
                moa = MoA(TokenRouter(32, EXPERTS, k), TokenExperts(32, EXPERTS, 8))
            setattr(block, slot, moa)
    for name, weight in model.named_parameters():
        if "ln" not in name and "norm" not in name:
            nn.init.normal_(weight, std=0.2)
    for moa in mixtures(model).values():
        for weight in (moa.experts.up, moa.experts.up_bias):
            nn.init.normal_(weight, std=scale)
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module", params=["soft", "dense", "top-1", "top-2"])
def model(request) -> AST:
    return model_of(request.param)


@pytest.fixture(scope="module")
def soft() -> AST:
    return model_of("soft")


def everywhere(model: AST, change: Intervention):
    return hooked(model, record=False, change=dict.fromkeys(mixtures(model), change))


MEL = torch.randn(32, 128, generator=torch.Generator().manual_seed(1))


def test_everything_on_is_the_intact_model(model):
    with everywhere(model, Intervention()):
        switched = model(MEL[None])
    assert torch.equal(switched, model(MEL[None]))


@pytest.mark.parametrize("mode", ["zero", "renormalise"])
def test_everything_off_is_the_frozen_backbone(model, mode):
    off = Intervention(off=tuple(range(EXPERTS)), mode=mode)
    with everywhere(model, off):
        switched = model(MEL[None])
    intact = model(MEL[None])
    filled = [(block, block.beside_attn, block.beside_mlp) for block in model.blocks]
    for block, *_ in filled:
        block.beside_attn = block.beside_mlp = None
    frozen = model(MEL[None])
    for block, beside_attn, beside_mlp in filled:
        block.beside_attn, block.beside_mlp = beside_attn, beside_mlp
    assert torch.equal(switched, frozen) and not torch.equal(intact, frozen)


def gates(*rows) -> Gates:
    weights = torch.tensor([rows])
    return Gates(weights, weights)


def test_the_remaining_experts_take_over_in_proportion():
    """Of (1/2, 1/8, 3/8) without the first, (1/4, 3/4); without the last, (4/5, 1/5)."""
    routing = gates([0.5, 0.125, 0.375])
    for off, expected in ((0, [0, 0.25, 0.75]), (2, [0.8, 0.2, 0])):
        changed = Intervention((off,), "renormalise")(routing).combine_weights
        assert torch.allclose(changed, torch.tensor([[expected]]))
        dropped = Intervention((off,), "zero")(routing).combine_weights
        kept = [0.0 if j == off else w for j, w in enumerate([0.5, 0.125, 0.375])]
        assert torch.equal(dropped, torch.tensor([[kept]]))


def test_shuffling_reorders_the_real_tokens_of_each_clip_and_repeats():
    mask = torch.tensor([[True] * 20, [True] * 12 + [False] * 8])
    routing = SoftRouter(8, 3)(torch.randn(2, 20, 8), mask)
    change = Intervention(dispatch="shuffled", combine="shuffled", seed=1)
    shuffled = change(routing)
    for before, after in (
        (routing.dispatch_weights, shuffled.dispatch_weights),
        (routing.combine_weights, shuffled.combine_weights),
    ):
        assert torch.equal(before[1, 12:], after[1, 12:]) and not torch.equal(before, after)
        assert torch.equal(before[1, :12].sort(dim=0).values, after[1, :12].sort(dim=0).values)
        source = [(before[0] == row).all(dim=(1, 2)).nonzero().item() for row in after[0]]
        assert sorted(source) == list(range(20))
    assert torch.equal(change(routing).dispatch_weights, shuffled.dispatch_weights)
    other = Intervention(dispatch="shuffled", seed=2)(routing)
    assert not torch.equal(other.dispatch_weights, shuffled.dispatch_weights)


def test_it_ends_with_the_context_and_stays_in_its_thread(soft):
    intact, seen = soft(MEL[None]), []
    with pytest.raises(ZeroDivisionError), everywhere(soft, Intervention((0, 1))):
        assert not torch.equal(soft(MEL[None]), intact)
        other = threading.Thread(target=lambda: seen.append(soft(MEL[None])))
        other.start()
        other.join()
        _ = 1 / 0
    assert torch.equal(seen[0], intact) and torch.equal(soft(MEL[None]), intact)
    assert not any(module._forward_hooks for module in soft.modules())


def test_what_cannot_be_done_is_refused(soft):
    with pytest.raises(ValueError, match="no mixture at"), hooked(soft, change={(9, "mhsa"): abs}):
        pass
    routing = gates([0.5, 0.5])
    for expert in (2, -1):
        with pytest.raises(ValueError, match=f"no expert {expert} among 2"):
            Intervention((expert,))(routing)
    with pytest.raises(ValueError, match="dispatch must be one of learned, uniform, shuffled"):
        Intervention(dispatch="random")
    with pytest.raises(ValueError, match="soft"):
        Intervention(dispatch="uniform")(routing)


@pytest.mark.parametrize("mode", ["zero", "renormalise"])
def test_causal_contribution_is_the_loop_over_experts(model, mode):
    intact = model(MEL[None])[0]
    loop = []
    assert list(mixtures(model)) == [(0, "mhsa"), (0, "ffn"), (1, "mhsa"), (1, "ffn")]
    for place in mixtures(model):
        for expert in range(EXPERTS):
            with hooked(model, change={place: Intervention((expert,), mode)}):
                loop.append(model(MEL[None])[0] - intact)
    expected = torch.stack(loop).unflatten(0, (-1, EXPERTS))
    for batch in (5, 100):
        found = causal_contribution(model, MEL, mode, batch)
        assert torch.allclose(found.logits, intact, atol=1e-4)
        assert (found.delta - expected).abs().max() < 1e-3 * expected.abs().max()
    assert found.delta.shape == (4, EXPERTS, 4)


def test_signed_contribution_is_causal_where_the_model_is_linear(model):
    """Nothing but a mean and a linear head follows the last mixture."""
    norm, model.ln = model.ln, nn.Identity()
    head_norm, model.head.norm = model.head.norm, nn.Identity()
    causal = causal_contribution(model, MEL)
    for target in range(4):
        signed = signed_contribution(model, MEL, target).sum(dim=1)
        assert torch.allclose(signed[-1], -causal.delta[-1, :, target], atol=1e-4)
        everyone = Intervention(tuple(range(EXPERTS)))
        with hooked(model, change={(1, "ffn"): everyone}):
            change = model(MEL[None])[0] - causal.logits
        assert torch.allclose(signed[-1].sum(), -change[target], atol=1e-4)
    model.ln, model.head.norm = norm, head_norm
