"""What the benchmark says about its numbers, by hand; its times are no matter of tests."""

import pytest
import torch

from analysis.bench.measure import equal
from analysis.bench.moa import mixture, saved_mb, shape_error
from analysis.bench.naive import NaiveMoA, make_naive
from softmoa.methods import METHODS, attach
from softmoa.model.ast import AST, ASTConfig


def test_outputs_that_differ_are_not_raced():
    one = torch.tensor([1.0, -2.0])
    assert "0.0e+00" in equal(one, one, 0)
    assert "5.0e-01" in equal(one, torch.tensor([2.0, -2.0]), 0.5)
    with pytest.raises(AssertionError, match="differ by 0.5"):
        equal(one, torch.tensor([2.0, -2.0]), 0.49)


def test_the_shape_of_a_cost_curve_by_hand():
    """3 + 2 w is met exactly; a time twice what a + b w through equal points says is far off."""
    assert shape_error([1, 10, 100], [5, 23, 203]) == pytest.approx(0, abs=1e-9)
    assert shape_error([1, 2, 3, 4], [1, 2, 3, 8]) > 0.2
    assert shape_error([1, 4, 9, 16], [5, 5, 5, 5]) == pytest.approx(0, abs=1e-9)


def test_naive_mixtures_keep_the_output_of_a_model_and_hold_more_for_its_backward_pass():
    torch.manual_seed(0)
    model = AST(ASTConfig(width=48, depth=2, heads=4, mlp=96, classes=5))
    attach(model, "dense-moa", METHODS["dense-moa"].options(reduction=8), 5)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    mel = torch.randn(2, 64, 128)
    before = model(mel)
    make_naive(model)
    assert isinstance(model.blocks[1].beside_attn, NaiveMoA)
    assert torch.allclose(model(mel), before, atol=1e-4)
    layer, x = mixture(7, dense=True), torch.randn(1, 200, 768, requires_grad=True)
    # The stack is 7 vectors a token, 4 bytes a number, before and after the gates.
    assert saved_mb(NaiveMoA(layer), x) > 7 * 200 * 768 * 4 / 1e6 > 5 * saved_mb(layer, x)
