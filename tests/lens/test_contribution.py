"""The identities that justify the pictures."""

import math

import pytest
import torch

from softmoa.lens.contribution import (
    PatchGrid,
    expert_contribution,
    expert_norms,
    expert_outputs,
    specialisation,
)
from softmoa.model.ast import ASTConfig
from softmoa.model.moa import (
    Experts,
    Gates,
    MoA,
    Slots,
    SoftRouter,
    TokenAnswers,
    TokenExperts,
    TokenRouter,
)
from softmoa.model.recording import LayerRecord, expert_share


def mixture(kind: str) -> MoA:
    torch.manual_seed(0)
    moa = {
        "soft": lambda: MoA(SoftRouter(16, 5, 2), Experts(16, 5, 3)),
        "dense": lambda: MoA(TokenRouter(16, 5), TokenExperts(16, 5, 3)),
        "top-1": lambda: MoA(TokenRouter(16, 5, 1), TokenExperts(16, 5, 3)),
        "top-2": lambda: MoA(TokenRouter(16, 5, 2, "bias"), TokenExperts(16, 5, 3)),
    }[kind]()
    for weight in moa.parameters():
        torch.nn.init.normal_(weight)
    return moa.requires_grad_(False)


@pytest.mark.parametrize("kind", ["soft", "dense", "top-1", "top-2"])
def test_contributions_add_up_to_the_mixtures_output(kind):
    moa, x = mixture(kind), torch.randn(2, 9, 16)
    routing = moa.router(x)
    record = LayerRecord(0, "mhsa", routing, moa.experts(routing.dispatch(x)))
    outputs = expert_outputs(record)
    assert outputs.shape == (2, 9, 5, 16)
    assert (outputs.sum(dim=2) - moa(x)).abs().max() < 1e-5 * outputs.abs().max()
    for parts in (expert_share(record), expert_contribution(record)):
        assert parts.shape == (2, 5) and torch.allclose(parts.sum(dim=1), torch.ones(2))
    assert torch.allclose(expert_norms(record), outputs.norm(dim=-1).mean(dim=1))


def test_gates_by_hand():
    """One number a token, r = d = 1: experts answer 2 h and 3 h + 1. Token 1 has h = (1, 5) and
    gates (0.5, 0), token 2 has h = (5, 1) and gates (0, 0.25): they add 1 and 1."""
    gates = torch.tensor([[[0.5, 0.0], [0.0, 0.25]]])
    hidden = torch.tensor([[[[1.0], [5.0]], [[5.0], [1.0]]]])
    answers = TokenAnswers(hidden, torch.tensor([[[2.0]], [[3.0]]]), torch.tensor([[0.0], [1.0]]))
    record = LayerRecord(0, "mhsa", Gates(gates, gates), answers)
    assert expert_outputs(record)[0, ..., 0].tolist() == [[1, 0], [0, 1]]
    assert record.routing.combine(answers)[0, :, 0].tolist() == [1, 1]
    assert torch.allclose(expert_share(record), torch.tensor([[2 / 3, 1 / 3]]))
    assert torch.allclose(expert_contribution(record), torch.tensor([[1 / 2, 1 / 2]]))


def record_of(combine, expert_out, mask=None) -> LayerRecord:
    combine = torch.tensor(combine)[None, :, :, None]
    return LayerRecord(0, "mhsa", Slots(combine, combine, mask), torch.tensor(expert_out)[None])


def test_by_hand():
    """Tokens take (3/4, 1/4) and (1/4, 3/4); experts answer (3, 4), length 5, and (0, 1), 1.

    Shares 1/2 each; lengths (3.75, 1.25) and (0.25, 0.75): means 2.5 and 0.5, so 5/6 and 1/6.
    """
    record = record_of([[0.75, 0.25], [0.25, 0.75]], [[[3.0, 4.0]], [[0.0, 1.0]]])
    assert torch.allclose(expert_share(record), torch.tensor([[0.5, 0.5]]))
    assert torch.allclose(expert_norms(record), torch.tensor([[2.5, 0.5]]))
    assert torch.allclose(expert_contribution(record), torch.tensor([[5 / 6, 1 / 6]]))


@pytest.mark.parametrize("stride, frames", [(16, 498), (10, 998), (10, 16)])
def test_tokens_and_places_are_a_bijection(stride, frames):
    config = ASTConfig(stride_frequency=stride, stride_time=stride)
    grid = PatchGrid.of(config, frames)
    assert grid.tokens == 2 + config.bands * config.columns(frames)
    places = [grid.place(token) for token in range(2, grid.tokens)]
    assert [grid.token(*place) for place in places] == list(range(2, grid.tokens))
    assert sorted(set(places)) == [(f, t) for f in range(grid.bands) for t in range(grid.columns)]
    for outside in (0, 1, grid.tokens):
        with pytest.raises(ValueError):
            grid.place(outside)
    with pytest.raises(ValueError):
        grid.token(grid.bands, 0)


def test_a_tone_falls_into_the_patch_that_says_so():
    """Round trip through the real features: where the energy is, the patch's Hz and s say so."""
    from softmoa.data import audio

    time = torch.arange(3 * 16000) / 16000
    tone = torch.sin(2 * torch.pi * 1500 * time) * ((time > 1) & (time < 2))
    mel = audio.log_mel(tone)
    grid = PatchGrid.of(ASTConfig(stride_frequency=16, stride_time=16), len(mel))
    whole = torch.nn.functional.pad(mel, (0, 0, 0, grid.columns * 16 - len(mel)))
    patches = whole.unflatten(0, (-1, 16)).unflatten(2, (-1, 16))
    energy = patches.exp().sum(dim=(1, 3)).T  # (bands, columns)
    band = energy.sum(dim=1).argmax().item()
    low, high = grid.hertz(band)
    assert low < 1500 < high
    loud = [c for c in range(grid.columns) if energy[band, c] > 0.5 * energy[band].max()]
    assert abs(grid.seconds(loud[0])[0] - 1) < 0.16 and abs(grid.seconds(loud[-1])[1] - 2) < 0.16


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (torch.full((8, 4), 0.25), 0),  # every token listens to the same blend
        (torch.tensor([[0.7, 0.1, 0.1, 0.1]]).repeat(8, 1), 0),  # collapsed, but all alike
        (torch.eye(4).repeat(2, 1), math.log(4)),  # each token has an expert of its own
    ],
)
def test_how_much_experts_differ(combine, expected):
    routing = Slots(torch.full((1, 8, 4, 1), 1 / 8), combine[None, :, :, None])
    record = LayerRecord(0, "mhsa", routing, torch.zeros(1, 4, 1, 2))
    assert specialisation(record) == pytest.approx(expected, abs=1e-6)
