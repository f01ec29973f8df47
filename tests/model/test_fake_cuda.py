"""A model on CUDA, on machines without it: fake tensors refuse what would mix devices."""

import pytest
import torch
from encoders import TINY
from torch._subclasses.fake_tensor import FakeTensorMode

from softmoa.lens.ablation import Intervention, causal_contribution
from softmoa.lens.classifier import Classifier
from softmoa.lens.run import run
from softmoa.lens.timeline import timeline
from softmoa.methods import METHODS, attach
from softmoa.model.ast import AST
from softmoa.model.recording import mixtures


def on_cuda(name: str, **options) -> tuple[AST, FakeTensorMode]:
    """A tiny model with the method on it, every parameter a fake one on CUDA of the mode."""
    model = AST(TINY)
    attach(model, name, METHODS[name].options(**options), 4)
    model.requires_grad_(False).eval()
    with FakeTensorMode() as mode:
        for module in model.modules():
            for key, weight in list(module.named_parameters(recurse=False)):
                fake = torch.empty(weight.shape, device="cuda")
                setattr(module, key, torch.nn.Parameter(fake, requires_grad=False))
    return model, mode


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_where_its_model_is_and_answers_on_the_cpu(name):
    model, mode = on_cuda(name)
    with mode:
        assert {weight.device.type for weight in model.parameters()} == {"cuda"}
        output = run(Classifier("", "", model, tuple("abcd"), False, None),
                     [torch.randn(64, 128), torch.randn(40, 128)], precision="fp32")  # fmt: skip
        assert output.logits.shape == (2, 4) and output.logits.device.type == "cpu"
        for record in output.records:
            assert record.routing.combine_weights.device.type == "cpu"
        with pytest.raises(RuntimeError, match="device"):
            model(torch.randn(1, 64, 128))


@pytest.mark.parametrize("name", ["soft-moa", "dense-moa", "topk-moa"])
def test_the_lens_runs_where_the_model_is(name, monkeypatch):
    monkeypatch.setattr(Classifier, "log_mel", lambda _, sound: torch.zeros(len(sound) // 160, 128))
    monkeypatch.setattr(Classifier, "headline", lambda *_: "")  # reads values, which are fake
    model, mode = on_cuda(name)
    with mode:
        mel = torch.randn(40, 128)
        classifier = Classifier("", "", model, tuple("abcd"), False, None)
        changes = [Intervention((0, 2), mode) for mode in ("zero", "renormalise")]
        changes += [Intervention(combine=kind) for kind in ("uniform", "shuffled")]
        if name == "soft-moa":
            changes += [Intervention(dispatch="uniform"), Intervention(dispatch="shuffled")]
        for change in changes:
            run(classifier, [mel], change=dict.fromkeys(mixtures(model), change), precision="fp32")
        assert causal_contribution(model, mel).delta.device.type == "cpu"
        found = timeline(classifier, torch.zeros(12 * 16_000))
        assert found.shares.device.type == found.probabilities.device.type == "cpu"
