"""Looking inside changes nothing, leaves nothing behind and never sees another thread."""

import threading

import pytest
import torch
from encoders import TINY

from softmoa.lens.contribution import expert_outputs
from softmoa.methods import METHODS, attach
from softmoa.model.ast import AST
from softmoa.model.moa import MoA
from softmoa.model.recording import hooked


def model_with(name: str, **options) -> AST:
    torch.manual_seed(0)
    model = AST(TINY)
    attach(model, name, METHODS[name].options(**options), 4)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def model() -> AST:
    model = model_with("soft-moa", experts=3, slots=2, reduction=8, placement="houlsby")
    return model.requires_grad_(False).eval()


def hooks(model: AST) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize(
    "name, options",
    [
        ("dense-moa", {"experts": 3, "reduction": 8}),
        ("topk-moa", {"experts": 4, "reduction": 8, "k": 2, "placement": "ffn"}),
        ("soft-moa", {"experts": 3, "reduction": 8, "slots": 2, "placement": "houlsby"}),
    ],
)
def test_a_record_tells_what_the_mixture_added(name, options):
    """Of every mixture, in a padded batch; and no later training changes the record."""
    model, added = model_with(name, **options), []
    for module in model.modules():
        if isinstance(module, MoA):
            module.register_forward_hook(lambda module, x, y: added.append(y.detach()))
    with hooked(model) as trace:
        model(torch.randn(2, 64, 128), torch.tensor([64, 40]))
    for weight in model.parameters():
        weight.data.zero_()
    assert len(trace.records) == len(added) >= 2
    for record, y in zip(trace.records, added, strict=True):
        assert torch.allclose(expert_outputs(record).sum(dim=2), y, atol=1e-5)
        assert record.routing.mask is not None and record.routing.mask.sum().item() < 2 * 62


def test_logits_are_the_same_with_and_without(model):
    mel = torch.randn(2, 64, 128)
    with hooked(model):
        recorded = model(mel)
    assert torch.equal(recorded, model(mel))


def test_no_hook_is_left_even_after_an_error(model):
    with hooked(model):
        assert hooks(model) > 0
    assert hooks(model) == 0
    with pytest.raises(ZeroDivisionError), hooked(model):
        _ = 1 / 0
    assert hooks(model) == 0


def test_threads_do_not_mix(model):
    """Eight threads record the shared model at once; each must find its own clip's routing."""
    mels = [torch.randn(1, 64, 128) for _ in range(8)]
    alone = []
    for mel in mels:
        with hooked(model) as trace:
            model(mel)
        alone.append(trace.records)
    start, wrong = threading.Barrier(len(mels)), []

    def work(k: int) -> None:
        start.wait()
        for _ in range(10):
            with hooked(model) as trace:
                model(mels[k])
            if len(trace.records) != len(alone[k]) or not all(
                torch.equal(a.routing.dispatch_weights, b.routing.dispatch_weights)
                and torch.equal(a.expert_out, b.expert_out)
                for a, b in zip(trace.records, alone[k], strict=True)
            ):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(mels))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and hooks(model) == 0
