"""bfloat16: where it is used, what it changes, and what it must not."""

import pytest
import torch

from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.methods import METHODS, attach
from softmoa.model.ast import AST, ASTConfig
from softmoa.model.precision import LARGE, autocast, stored_in_bf16, wants_bf16
from softmoa.model.weights import ASSETS

SMALL = ASTConfig(width=48, depth=3, heads=4, mlp=96, classes=5)


@pytest.fixture
def model() -> AST:
    torch.manual_seed(0)
    model = AST(SMALL)
    attach(model, "soft-moa", METHODS["soft-moa"].options(reduction=8), 5)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model.eval().requires_grad_(False)


def test_auto_takes_bf16_for_a_large_model_where_the_processor_has_it(monkeypatch):
    small, large = torch.nn.Linear(8, 8), torch.nn.Linear(LARGE, 1, bias=False, device="meta")
    large.eval()
    for able in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        assert wants_bf16(large, "auto") == able
        assert not wants_bf16(small, "auto")
        assert wants_bf16(small, "bf16") and not wants_bf16(large, "fp32")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # a processor torch does not know
    assert not wants_bf16(large, "auto")


def test_a_stored_copy_answers_as_a_cast_at_every_pass_does(model):
    twin, mel = stored_in_bf16(model), torch.randn(2, 64, 128)
    with torch.inference_mode(), autocast(model, "bf16"):
        assert torch.equal(twin(mel), model(mel))


def test_bf16_keeps_the_labels_of_real_clips():
    classifier = open_classifier("esc10-soft-moa")
    for name in ("dog_bark", "rain", "rooster"):
        path = ASSETS / "examples" / f"{name}.ogg"
        exact, lower = (classify(classifier, path, precision=p) for p in ("fp32", "bf16"))
        assert exact.top(1)[0][0] == lower.top(1)[0][0]
        apart = (exact.probabilities - lower.probabilities).abs().max()
        assert 0 < apart < 0.05
        for a, b in zip(exact.records, lower.records, strict=True):
            assert b.routing.dispatch_weights.dtype == torch.float32
            sums = b.routing.dispatch_weights.sum(dim=1)
            assert torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
            assert (a.routing.combine_weights - b.routing.combine_weights).abs().max() < 0.1
