"""Where training computes, what it sends there and where its log-mels are kept."""

from dataclasses import replace

import pytest
import torch
from encoders import TINY, loaded, tiny

from softmoa.data import tasks
from softmoa.lens.ablation import causal_contribution, signed_contribution
from softmoa.lens.classifier import open_classifier
from softmoa.lens.run import run
from softmoa.methods import METHODS, attach
from softmoa.model import device
from softmoa.model.ast import AST
from softmoa.model.device import DeviceError
from softmoa.training import compare as c
from softmoa.training import fit as f
from softmoa.training.fit import Finished, Step, TrainingOptions, fit, losses_of
from softmoa.training.plan import Choice, Comparison


def model_with(name: str, **options) -> AST:
    model = tiny(0.05)
    attach(model, name, METHODS[name].options(**options), 2)
    return model


def batch(count: int, frames: int = 40) -> list[f.Example]:
    torch.manual_seed(1)
    return [(torch.randn(frames + 8 * (k % 3), 128), k % 2) for k in range(count)]


@pytest.mark.parametrize("name", METHODS)
def test_a_whole_step_on_the_meta_device(name):
    """It refuses tensors of another device as CUDA does, and has a backward pass."""
    options = {"balance": "loss"} if name == "topk-moa" else {}
    with torch.device("meta"):
        model = AST(TINY)
        attach(model, name, METHODS[name].options(**options), 2)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-3)
    model.train()
    loss, cross_entropy = losses_of(model, batch(3, 200), TrainingOptions(), torch.Generator())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    assert loss.device.type == cross_entropy.device.type == "meta"
    assert all(weight.grad is not None and weight.grad.is_meta for weight in trained)
    with pytest.raises(RuntimeError, match="device|meta"):
        model(torch.randn(1, 64, 128))


@pytest.mark.parametrize("name, options", [("soft-moa", {}), ("topk-moa", {"balance": "bias"})])
def test_checkpointing_changes_memory_and_nothing_else(name, options):
    def trained(checkpointed: bool) -> tuple[list[float], float]:
        training = TrainingOptions(epochs=2, batch=4, checkpointed=checkpointed)
        events = list(fit(model_with(name, **options), batch(8), (), training))
        [memory] = [event.step_memory_mb for event in events if isinstance(event, Finished)]
        return [event.loss for event in events if isinstance(event, Step)], memory

    (plain, whole), (again, less) = trained(False), trained(True)
    assert again == pytest.approx(plain, rel=1e-5)
    assert less < whole or options.get("balance") == "bias"  # whose routers may not be asked twice


def some_tones() -> tasks.Task:
    task = tasks.few_shot(tasks.load("tones"), 2)
    return replace(task, valid=task.valid[:4], test=task.test[:4])


def test_log_mels_are_kept_where_there_is_room_and_else_computed_again(monkeypatch):
    base, task = loaded(tiny()), some_tones()
    comparison = Comparison((Choice.of("soft-moa"),), TrainingOptions(epochs=1, batch=4))
    answers = {}
    for free in (1e9, 0):
        monkeypatch.setattr(device, "free_bytes", lambda place, free=free: free)
        inputs = c.Inputs(base, task, 10.0)
        *_, last = c.compare(base, task, comparison, inputs=inputs)
        assert len(inputs.mels.kept) == (len(task.files) if free else 0)
        answers[free] = last.predicted, last.confidence
    assert answers[1e9] == answers[0]


def test_inputs_go_to_the_gpu_then_to_the_host_then_nowhere(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    monkeypatch.setattr(device, "free_bytes", lambda place: {cpu: 1000, gpu: 100}[place])
    assert [device.room_for(size, gpu) for size in (40, 41, 400, 401)] == [gpu, cpu, cpu, None]
    assert device.room_for(400, cpu) == cpu and device.room_for(401, cpu) is None


def test_too_little_memory_is_one_sentence(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    model, mel = model_with("soft-moa"), torch.randn(64, 128)
    classifier = open_classifier("tones-soft-moa")
    monkeypatch.setattr(AST, "forward", full)
    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(DeviceError, match="too little free memory for x; choose another"):
        device.place(model, "x")
    monkeypatch.setattr(AST, "embed", full)
    for compute in (
        lambda: run(classifier, [mel]),
        lambda: causal_contribution(classifier.model, mel),
        lambda: signed_contribution(classifier.model, mel, 0),
    ):
        with pytest.raises(DeviceError, match="too little free memory for this; send a shorter"):
            compute()
