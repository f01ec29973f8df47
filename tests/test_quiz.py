"""Answers of the quiz against sounds and routings whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from softmoa.ablation import Intervention, intervene
from softmoa.classify import classify, open_classifier
from softmoa.quiz import OTHER_LABEL, QUESTIONS, loud_half, tokens_of_a_slot
from softmoa.weights import ASSETS

BY_NAME = {question.name: question for question in QUESTIONS}


@pytest.fixture(scope="module")
def dog():
    return classify(open_classifier("esc10-soft-moa"), ASSETS / "examples" / "dog_bark.ogg")


def rerouted(record, dispatch):
    return replace(record, routing=replace(record.routing, dispatch_weights=dispatch))


def test_even_dispatch_is_half_loud_and_needs_nine_tenths_of_the_tokens(dog):
    record = dog.records[0]
    m = record.routing.dispatch_weights.shape[1]
    even = rerouted(record, torch.full_like(record.routing.dispatch_weights, 1 / m))
    assert loud_half(dog, even).value == pytest.approx(50, abs=0.5)
    assert tokens_of_a_slot(dog, even).value == pytest.approx(90, abs=100 / m)


def test_dispatch_on_the_loudest_patch_is_all_loud_and_needs_one_token():
    """A tone in one band for the second half of two seconds of silence."""
    time = np.arange(16_000) / 16_000
    tone = np.concatenate([np.zeros(16_000), 0.5 * np.sin(2 * np.pi * 1000 * time)])
    result = classify(open_classifier("esc10-soft-moa"), (16_000, tone.astype(np.float32)))
    record, grid = result.records[0], result.grid
    weights = torch.zeros_like(record.routing.dispatch_weights)
    band = min(range(grid.bands), key=lambda b: abs(sum(grid.hertz(b)) / 2 - 1000))
    weights[:, grid.token(band, grid.columns - 2)] = 1
    assert loud_half(result, rerouted(record, weights)).value == pytest.approx(100)
    answer = tokens_of_a_slot(result, rerouted(record, weights))
    assert answer.value == pytest.approx(100 / grid.tokens)
    quiet = torch.zeros_like(weights)
    quiet[:, grid.token(band, 1)] = 1
    assert loud_half(result, rerouted(record, quiet)).value == pytest.approx(0)


def test_the_expert_that_is_switched_off_is_the_one_with_the_largest_contribution(dog):
    from softmoa.contribution import expert_contribution

    record = dog.records[2]
    answer = BY_NAME["off"].answer(dog, record)
    loudest = int(expert_contribution(record)[0].argmax())
    model = dog.classifier.model
    switch = {(record.layer, record.site): Intervention(off=(loudest,))}
    with torch.inference_mode(), intervene(model, switch):
        after = model(dog.mel[None])[0].softmax(dim=0)
    assert torch.allclose(answer.shown[1], after, atol=1e-6)
    best = int(dog.probabilities.argmax())
    expected = 100 * (after[best] - dog.probabilities[best]).item()
    assert answer.value == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "name, value, right",
    [
        ("loud", 60, 0), ("loud", 50, 1), ("loud", 40, 2),
        ("tokens", 5, 0), ("tokens", 30, 1), ("tokens", 80, 2),
        ("off", OTHER_LABEL, 0), ("off", -3.0, 1), ("off", 0.4, 2),
        ("quiet", OTHER_LABEL, 0), ("quiet", 1.0, 1), ("quiet", -0.9, 2),
    ],
)  # fmt: skip
def test_which_choice_is_right(name, value, right):
    assert BY_NAME[name].right(value) == right


def test_every_question_has_an_answer_on_a_real_clip(dog):
    for question in QUESTIONS:
        answer = question.answer(dog, dog.records[-1])
        assert 0 <= question.right(answer.value) < len(question.choices)
        assert "{" not in question.reading.format(value=answer.value)
