"""On a real GPU, against the CPU: `pytest -m gpu`. Not part of what is tested without one."""

import copy

import pytest
import torch

from softmoa.data import tasks
from softmoa.data.audio import log_mel
from softmoa.lens.ablation import Intervention, causal_contribution, signed_contribution
from softmoa.lens.classifier import Classifier
from softmoa.lens.run import run
from softmoa.lens.timeline import timeline
from softmoa.methods import METHODS, attach
from softmoa.model import device
from softmoa.model.ast import AST, ASTConfig
from softmoa.model.recording import mixtures
from softmoa.model.weights import Loaded
from softmoa.training.compare import Inputs, compare
from softmoa.training.fit import Finished, Step, TrainingOptions, fit, predict
from softmoa.training.plan import Choice, Comparison
from softmoa.training.probe import pooled_features

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]
ROUTED = ("dense-moa", "topk-moa", "soft-moa", "soft-lora")
MELS = [torch.randn(frames, 128, generator=torch.Generator().manual_seed(frames))
        for frames in (250, 200, 96)]  # fmt: skip


def pair(name: str) -> tuple[Classifier, Classifier]:
    """The same classifier on the CPU and on the GPU."""
    device.use("cuda")
    torch.manual_seed(0)
    model = AST(ASTConfig(192, 4, 3, 768, max_frames=256, classes=0, pool="mean"))
    attach(model, name, METHODS[name].options(), 4)
    for weight in model.parameters():
        torch.nn.init.normal_(weight.data, 1.0 if weight.ndim == 1 else 0.0, 0.05)
    model.requires_grad_(False).eval()
    models = model, copy.deepcopy(model).to("cuda")
    return tuple(Classifier(name, "toy", m, tuple("abcd"), False, None) for m in models)


def close(ours: torch.Tensor, theirs: torch.Tensor, far: float) -> None:
    assert theirs.device.type == "cpu"
    assert (ours - theirs).abs().max() <= far * max(1.0, ours.abs().max().item())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("precision, far", [("fp32", 1e-4), ("bf16", 1e-2)])
def test_answers_and_routing(name, precision, far):
    cpu, gpu = pair(name)
    here, there = run(cpu, MELS, precision="fp32"), run(gpu, MELS, precision=precision)
    close(here.logits.softmax(dim=1), there.logits.softmax(dim=1), far)
    for a, b in zip(here.records, there.records, strict=True):
        close(a.routing.combine_weights, b.routing.combine_weights, far)


@pytest.mark.parametrize("name", ROUTED)
def test_the_lens(name):
    cpu, gpu = pair(name)
    changes = [Intervention((0, 2), mode) for mode in ("zero", "renormalise")]
    changes += [Intervention(combine=kind) for kind in ("uniform", "shuffled")]
    changes += [Intervention(dispatch="shuffled")] * (name == "soft-moa")
    for change in changes:
        here, there = (
            run(c, MELS[:1], change=dict.fromkeys(mixtures(c.model), change), precision="fp32")
            for c in (cpu, gpu)
        )
        close(here.logits, there.logits, 1e-4)
    here, there = (causal_contribution(c.model, MELS[0]).delta for c in (cpu, gpu))
    close(here, there, 1e-4)
    here, there = (signed_contribution(c.model, MELS[0], 0) for c in (cpu, gpu))
    close(here, there, 1e-4)
    sound = torch.randn(8 * 16_000, generator=torch.Generator().manual_seed(0)) / 10
    here, there = (timeline(c, sound) for c in (cpu, gpu))
    close(here.probabilities, there.probabilities, 1e-2)
    close(here.shares, there.shares, 1e-2)
    close(pooled_features(cpu.model, MELS), pooled_features(gpu.model, MELS), 1e-4)
    close(log_mel(sound), log_mel(sound.cuda()).cpu(), 1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_training(name):
    examples = [(mel, k % 2) for k, mel in enumerate(MELS * 4)]

    def losses(**options) -> list[float]:
        torch.manual_seed(0)
        model = AST(ASTConfig(96, 2, 3, 192, max_frames=256, classes=0, pool="mean"))
        attach(model, name, METHODS[name].options(), 2)
        where = options.pop("where")
        training = TrainingOptions(**{"epochs": 2, "batch": 4, "precision": "fp32"} | options)
        events = list(fit(model.to(where), examples, (), training))
        assert isinstance(events[-1], Finished)
        values = [event.loss for event in events if isinstance(event, Step)]
        return [values[-1], predict(model, examples)[0].softmax(dim=1)[0, 0].item()]

    expected = losses(where="cpu")
    assert losses(where="cuda") == pytest.approx(expected, abs=1e-3)
    assert losses(where="cuda", checkpointed=True) == pytest.approx(expected, abs=1e-3)
    assert losses(where="cuda", precision="bf16") == pytest.approx(expected, abs=5e-2)


def test_compiled():
    model = pair("soft-moa")[1].model
    model.head.requires_grad_(True)
    examples = [(mel, k % 4) for k, mel in enumerate(MELS * 4)]
    options = TrainingOptions(epochs=1, batch=4, compiled=True, precision="fp32")
    assert isinstance(list(fit(model, examples, (), options))[-1], Finished)


def test_a_comparison_keeps_its_log_mels_on_the_gpu():
    device.use("cuda")
    torch.manual_seed(0)
    model = AST(ASTConfig(96, 2, 3, 192, max_frames=256, classes=0, pool="mean")).cuda()
    base, task = Loaded("toy", model, (), "00"), tasks.few_shot(tasks.load("tones"), 2)
    inputs = Inputs(base, task, 10.0)
    choices = tuple(Choice.of(name) for name in ("linear", "soft-moa"))
    *_, last = compare(base, task, Comparison(choices, TrainingOptions(epochs=1)), inputs=inputs)
    assert last.device == "cuda:0" and inputs.mels.keep == torch.device("cuda:0")
