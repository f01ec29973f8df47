"""The trainer on toy tasks whose answers are known, and the minimum that the probe finds."""

import threading
from statistics import mean

import numpy as np
import pytest
import torch
from encoders import tiny
from torch.nn import functional as F

from softmoa.methods import METHODS, attach, share
from softmoa.model.ast import AST
from softmoa.training.fit import (
    Evaluated,
    Finished,
    Started,
    Step,
    TrainingOptions,
    fit,
    parameter_groups,
    predict,
    scores,
    spec_augment,
)
from softmoa.training.probe import fit_linear

QUICK = TrainingOptions(epochs=4, batch=8, learning_rate=0.03)


def toy_examples(count: int, seed: int) -> list:
    """Two classes: energy in the lower or in the upper half of the bands; lengths differ."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for k in range(count):
        mel = 0.5 * torch.randn(32 + 8 * (k % 3), 128, generator=generator)
        half = slice(0, 64) if k % 2 else slice(64, 128)
        mel[:, half] += 1
        examples.append((mel, k % 2))
    return examples


def toy_model(method: str = "soft-moa", options: dict | None = None) -> AST:
    model = tiny(0.05, matrices=True)
    attach(model, method, METHODS[method].options(**(options or {})), 2)
    return model


@pytest.mark.parametrize("method, options", [("linear", {}), ("soft-moa", {"reduction": 8})])
def test_learns_a_separable_task(method, options):
    model = toy_model(method, options)
    events = list(fit(model, toy_examples(48, 0), toy_examples(16, 1), QUICK))
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert events[0].steps == sum(isinstance(event, Step) for event in events) == 24
    curve = [event for event in events if isinstance(event, Evaluated)]
    assert len(curve) == 5 and curve[-1].loss < 0.8 * curve[0].loss
    assert max(point.accuracy for point in curve) > 0.9


def losses(model: AST | None = None, **options) -> list[float]:
    """Of every step of two epochs."""
    training = TrainingOptions(**({"epochs": 2, "batch": 8} | options))
    events = fit(model or toy_model(), toy_examples(24, 0), options=training)
    return [event.loss for event in events if isinstance(event, Step)]


def test_the_same_seed_gives_the_same_losses():
    assert losses(seed=1) == losses(seed=1) != losses(seed=2)


def test_another_thread_that_draws_changes_nothing():
    """Methods are attached while others train: in the app all the time."""
    base = tiny()
    enough = threading.Event()

    def plugged(seed: int) -> AST:
        model = share(base)
        attach(model, "soft-moa", METHODS["soft-moa"].options(), 2, seed)
        return model

    def draw() -> None:
        while not enough.is_set():
            plugged(1)

    alone = losses(plugged(3), epochs=4)
    other = threading.Thread(target=draw, daemon=True)
    other.start()
    try:
        assert all(losses(plugged(3), epochs=4) == alone for _ in range(5))
    finally:
        enough.set()
        other.join()


def test_masks_hide_one_band_of_each_axis_and_no_more_than_asked():
    options = TrainingOptions(mask_mels=6, mask_frames=50)
    generator = torch.Generator().manual_seed(0)
    frames, widths = [200, 300], {}
    for _ in range(300):
        hidden = spec_augment(torch.ones(2, 300, 16), frames, options, generator) == 0
        for clip, length in zip(hidden, frames, strict=True):
            for axis in (0, 1):
                whole = clip.all(dim=axis).nonzero().flatten()
                assert len(whole) == 0 or whole[-1] - whole[0] == len(whole) - 1  # one band
                assert axis == 0 or len(whole) == 0 or whole[-1] < length  # of the clip itself
                widths.setdefault((length, axis), []).append(len(whole))
    # Drawn evenly from [0, widest) and rounded down; a fifth of 200 frames is 40.
    assert set(widths[200, 0]) == set(widths[300, 0]) == set(range(6))
    assert max(widths[200, 1]) == 39 and max(widths[300, 1]) == 49
    assert mean(widths[200, 0]) == pytest.approx(2.5, abs=0.3)


def test_a_loss_that_is_not_finite_ends_the_run():
    examples = [(mel * float("inf"), label) for mel, label in toy_examples(8, 0)]
    with pytest.raises(ValueError, match="the loss became nan at step 1"):
        list(fit(toy_model(), examples, (), QUICK))


def test_a_run_ends_with_its_last_weights():
    """Also where they are far from the best: what is tested is what the curve ends with."""
    model, valid = toy_model(), toy_examples(16, 1)
    wild = TrainingOptions(epochs=6, batch=8, learning_rate=3.0, clip=None)
    curve = [e for e in fit(model, toy_examples(24, 0), valid, wild) if isinstance(e, Evaluated)]
    assert min(e.loss for e in curve) < curve[-1].loss
    last = curve[-1].loss, curve[-1].accuracy
    assert scores(*predict(model, valid)) == pytest.approx(last, rel=1e-5)


@pytest.mark.parametrize("last", [0, 4])
def test_closing_the_generator_stops_and_leaves_a_usable_model(last):
    """At its first event, and in the middle of an epoch."""
    model = toy_model()
    run = fit(model, toy_examples(24, 0), toy_examples(8, 1), QUICK)
    steps = 0
    for event in run:
        steps += isinstance(event, Step)
        if steps == last:
            run.close()
    assert steps == last and not model.training
    assert np.isfinite(scores(*predict(model, toy_examples(8, 1)))[0])


def test_only_matrices_decay():
    model = toy_model(options={"normalize": True})
    decayed, free = parameter_groups(model, 0.1)
    names = {id(weight): key for key, weight in model.named_parameters()}
    assert {names[id(w)].rpartition(".")[2] for w in decayed["params"]} == {"down", "up", "weight"}
    assert not any("ln" in names[id(w)] for w in decayed["params"])
    assert {"phi", "scale", "bias"} <= {names[id(w)].rpartition(".")[2] for w in free["params"]}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_linear_solution_is_the_minimum(classes):
    """Of mean cross-entropy + l2 / 2 |W|^2 on standardised features, where the gradient is zero."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 12, generator=generator) * torch.arange(1, 13) + 5
    y = torch.arange(90) % classes
    x[:, 0] += 4 * y
    weight, bias = fit_linear(x, y, classes, l2=0.1)
    mean, std = x.double().mean(dim=0), x.double().std(dim=0, correction=0)
    scaled = (weight * std).requires_grad_()
    logits = ((x - mean) / std) @ scaled.T + bias + weight.double() @ mean
    loss = F.cross_entropy(logits, y) + 0.1 / 2 * scaled.square().sum()
    assert torch.autograd.grad(loss, scaled)[0].abs().max() < 1e-3
    with pytest.raises(ValueError, match="a class without a training clip"):
        fit_linear(x, y, classes + 1)
