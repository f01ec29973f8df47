"""The trainer on toy tasks whose answers are known, and the probe against scikit-learn."""

import copy
import math
import threading
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from softmoa.ast import AST, ASTConfig
from softmoa.methods import METHODS, attach, share
from softmoa.probe import fit_linear
from softmoa.training import (
    Evaluated,
    Finished,
    Started,
    Step,
    TrainingOptions,
    evaluate,
    fit,
    parameter_groups,
    predict,
    scores,
    spec_augment,
)

QUICK = TrainingOptions(epochs=4, batch=8, learning_rate=0.03, mask_mels=8, mask_frames=8)


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
    torch.manual_seed(0)
    model = AST(ASTConfig(32, 2, 4, 64, max_frames=64, classes=0, pool="mean"))
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.05)
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


def test_the_same_seed_gives_the_same_losses():
    def losses(seed):
        options = TrainingOptions(epochs=2, batch=8, mask_mels=16, mask_frames=8, seed=seed)
        events = fit(toy_model(), toy_examples(24, 0), options=options)
        return [event.loss for event in events if isinstance(event, Step)]

    assert losses(1) == losses(1) != losses(2)


def test_another_thread_that_draws_changes_nothing():
    """Methods are attached while others train: in the app all the time."""
    base = AST(ASTConfig(32, 2, 4, 64, max_frames=64, classes=0, pool="mean"))
    options = TrainingOptions(epochs=4, batch=8, mask_mels=16, mask_frames=8)
    enough = threading.Event()

    def plugged(seed: int) -> AST:
        model = share(base)
        attach(model, "soft-moa", METHODS["soft-moa"].options(), 2, seed)
        return model

    def draw() -> None:
        while not enough.is_set():
            plugged(1)

    def outcome() -> list[float]:
        events = fit(plugged(3), toy_examples(24, 0), options=options)
        return [event.loss for event in events if isinstance(event, Step)]

    alone = outcome()
    other = threading.Thread(target=draw, daemon=True)
    other.start()
    try:
        assert all(outcome() == alone for _ in range(5))
    finally:
        enough.set()
        other.join()


def test_masks_hide_one_band_of_each_axis_and_no_more_than_asked():
    options = TrainingOptions(mask_mels=6, mask_frames=50)
    generator = torch.Generator().manual_seed(0)
    widths = {"mels": [], "frames": []}
    for _ in range(200):
        hidden = spec_augment(torch.ones(3, 40, 16), options, generator) == 0
        for clip in hidden:
            for axis, name in ((0, "mels"), (1, "frames")):
                whole = clip.all(dim=axis).nonzero().flatten()
                assert len(whole) == 0 or whole[-1] - whole[0] == len(whole) - 1  # one band
                widths[name].append(len(whole))
    # Drawn evenly from [0, widest) and rounded down; of 40 frames a fifth is 8.
    assert set(widths["mels"]) == set(range(6)) and set(widths["frames"]) == set(range(8))
    assert mean(widths["mels"]) == pytest.approx(2.5, abs=0.25)


def test_what_routers_charge_for_balance_trains_unless_said_otherwise():
    options = {"experts": 4, "k": 1, "balance": "loss", "coefficient": 0.5}
    model = toy_model("topk-moa", options)
    plain = toy_model("topk-moa", options)
    list(fit(model, toy_examples(16, 0), options=QUICK))
    list(fit(plain, toy_examples(16, 0), options=QUICK, extra_loss=lambda model: 0.0))
    router, other = (m.blocks[0].beside_attn.router for m in (model, plain))
    assert not torch.equal(router.phi, other.phi)
    copy.deepcopy(plain)  # no charge that hangs on a graph is left behind


def test_without_examples_there_is_one_sentence():
    with pytest.raises(ValueError, match="there are no examples"):
        evaluate(toy_model(), [])
    last = list(fit(toy_model(), toy_examples(8, 0), options=replace(QUICK, epochs=1)))[-1]
    assert math.isnan(last.best_accuracy) and last.best_step == last.step == 1


def test_the_loss_of_a_step_is_that_of_the_task_without_what_is_added():
    def losses(extra):
        options = TrainingOptions(epochs=1, batch=8, steps=2)
        events = fit(toy_model(), toy_examples(24, 0), (), options, lambda model: extra)
        return [event.loss for event in events if isinstance(event, Step)]

    assert losses(5.0) == losses(0.0)
    with pytest.raises(ValueError, match="the loss became inf at step 1"):
        losses(float("inf"))


def test_validation_is_in_the_precision_of_training():
    valid, losses = toy_examples(16, 1), []
    for precision in ("fp32", "bf16"):
        model = toy_model()
        generator = torch.Generator().manual_seed(0)
        model.set_head(torch.randn(2, 32, generator=generator), torch.zeros(2))
        expected, _ = scores(*predict(model, valid, 8, precision))
        options = TrainingOptions(epochs=1, batch=8, precision=precision)
        events = fit(model, toy_examples(8, 0), valid, options)
        losses.append(next(event.loss for event in events if isinstance(event, Evaluated)))
        assert losses[-1] == expected
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)


def test_the_best_weights_are_kept_not_the_last():
    """A rate that wrecks the model: what comes back is the copy of the best evaluation."""
    model, valid = toy_model(), toy_examples(16, 1)
    wild = TrainingOptions(epochs=6, batch=8, learning_rate=3.0, mask_mels=0, mask_frames=0)
    events = list(fit(model, toy_examples(24, 0), valid, wild))
    curve = [event for event in events if isinstance(event, Evaluated)]
    best = max(curve, key=lambda point: (point.accuracy, -point.loss))
    assert events[-1].best_step == best.step < curve[-1].step
    assert evaluate(model, valid) == pytest.approx((best.loss, best.accuracy), rel=1e-5)


def test_a_run_too_short_for_its_first_evaluation_takes_one_step():
    brief = TrainingOptions(epochs=100, batch=8, seconds=1e-6)
    events = list(fit(toy_model(), toy_examples(24, 0), toy_examples(8, 1), brief))
    assert [event.step for event in events if isinstance(event, Step)] == [1]
    assert events[-1].step == 1 and events[-1].clips_per_second > 0


def test_closing_it_at_once_leaves_the_model_ready():
    model = toy_model()
    run = fit(model, toy_examples(24, 0), (), QUICK)
    assert isinstance(next(run), Started)
    run.close()
    assert not model.training


def test_closing_the_generator_stops_and_leaves_a_usable_model():
    model = toy_model()
    run = fit(model, toy_examples(24, 0), toy_examples(8, 1), QUICK)
    steps = 0
    for event in run:
        steps += isinstance(event, Step)
        if steps == 4:
            run.close()
    assert steps == 4 and not model.training
    assert np.isfinite(evaluate(model, toy_examples(8, 1))[0])


def test_only_matrices_decay():
    model = toy_model(options={"normalize": True})
    decayed, free = parameter_groups(model, 0.1)
    names = {id(weight): key for key, weight in model.named_parameters()}
    assert {names[id(w)].rpartition(".")[2] for w in decayed["params"]} == {"down", "up", "weight"}
    assert not any("ln" in names[id(w)] for w in decayed["params"])
    assert {"phi", "scale", "bias"} <= {names[id(w)].rpartition(".")[2] for w in free["params"]}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_the_linear_solution_equals_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 12, generator=generator) * torch.arange(1, 13) + 5
    y = torch.arange(90) % 3
    x[:, 0] += 4 * y
    l2 = 0.1
    weight, bias = fit_linear(x, y, 3, l2)
    scaler = StandardScaler().fit(x)
    oracle = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-8, max_iter=1000)
    oracle.fit(scaler.transform(x), y)
    expected = oracle.predict_proba(scaler.transform(x))
    ours = (x @ weight.T + bias).softmax(dim=1)
    assert np.abs(ours.numpy() - expected).max() < 0.01
