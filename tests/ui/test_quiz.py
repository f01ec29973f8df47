"""Answers of the quiz against sounds and routings whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from softmoa.lens.ablation import Intervention
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify, reclassify
from softmoa.lens.contribution import expert_norms
from softmoa.model.weights import ASSETS
from softmoa.ui.lesson import steps
from softmoa.ui.lesson.quiz import loud_half, tokens_of_a_slot
from softmoa.ui.lesson.tab import offer


@pytest.fixture(scope="module")
def dog():
    return classify(open_classifier("esc10-soft-moa"), ASSETS / "examples" / "dog_bark.ogg")


def test_a_model_is_dealt_sounds_of_its_own_task():
    of_ten = open_classifier("esc10-soft-moa").labels
    offered = offer("esc10-soft-moa", "snare")
    assert {name for name, _ in offered.choices} == set(of_ten) and offered.value in of_ten
    assert offer("esc10-soft-moa", "rain").value == offer("tags", "rain").value == "rain"
    assert steps.next_that_matters("esc10-soft-moa", "clock tick")[0] == "person sneeze"


def test_the_loudest_expert_has_its_place_among_those_whose_removal_changes_the_logit():
    result = classify(open_classifier("tags"), ASSETS / "examples" / "rooster.ogg")
    best, changes, loudness = int(result.logits.argmax()), [], []
    for record in result.records:
        for expert in range(7):
            changed = reclassify(result, {record.place: Intervention((expert,))})
            changes.append(abs((changed.logits - result.logits)[best].item()))
            loudness.append(expert_norms(record)[0, expert].item())
    loudest = changes[int(np.argmax(loudness))]
    rank = 1 + sum(change > loudest for change in changes)
    assert f"number {rank} of 42 by what its removal" in steps.measure("tags", "rooster")[0]


def rerouted(record, dispatch):
    return replace(record, routing=replace(record.routing, dispatch_weights=dispatch))


def test_even_dispatch_is_half_loud_and_needs_nine_tenths_of_the_tokens(dog):
    record = dog.records[0]
    m = record.routing.dispatch_weights.shape[1]
    even = rerouted(record, torch.full_like(record.routing.dispatch_weights, 1 / m))
    assert loud_half(dog, even)[:2] == (1, pytest.approx(50, abs=0.5))
    assert tokens_of_a_slot(dog, even)[:2] == (2, pytest.approx(90, abs=100 / m))


def test_dispatch_on_the_loudest_patch_is_all_loud_and_needs_one_token():
    """A tone in one band for the second half of two seconds of silence."""
    time = np.arange(16_000) / 16_000
    tone = np.concatenate([np.zeros(16_000), 0.5 * np.sin(2 * np.pi * 1000 * time)])
    result = classify(open_classifier("esc10-soft-moa"), (16_000, tone.astype(np.float32)))
    record, grid = result.records[0], result.grid
    weights = torch.zeros_like(record.routing.dispatch_weights)
    band = min(range(grid.bands), key=lambda b: abs(sum(grid.hertz(b)) / 2 - 1000))
    weights[:, grid.token(band, grid.columns - 2)] = 1
    assert loud_half(result, rerouted(record, weights))[:2] == (0, pytest.approx(100))
    answer = tokens_of_a_slot(result, rerouted(record, weights))
    assert answer[:2] == (0, pytest.approx(100 / grid.tokens))
    quiet = torch.zeros_like(weights)
    quiet[:, grid.token(band, 1)] = 1
    assert loud_half(result, rerouted(record, quiet))[:2] == (2, pytest.approx(0))
