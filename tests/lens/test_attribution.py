"""The views of one sound's experts on the shipped model: identities, sums, and agreement."""

import pytest
import torch

from softmoa.lens.ablation import Intervention
from softmoa.lens.attribution import Attribution
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify, reclassify
from softmoa.model.weights import ASSETS


@pytest.fixture(scope="module")
def evidence() -> Attribution:
    return Attribution(
        classify(open_classifier("esc10-soft-moa"), ASSETS / "examples" / "dog_bark.ogg")
    )


def off(evidence: Attribution, experts) -> dict:
    return dict.fromkeys(evidence.places, Intervention(tuple(experts)))


def test_causal_is_what_switching_off_by_hand_gives(evidence):
    for mode in ("zero", "renormalise"):
        causal = evidence.causal(mode)
        assert causal.delta.shape == (6, 7, 10) and evidence.causal(mode) is causal
        by_hand = reclassify(evidence.result, {evidence.places[4]: Intervention((2,), mode)})
        delta = by_hand.logits - evidence.result.logits
        assert torch.allclose(causal.delta[4, 2], delta, atol=1e-3)


def test_signed_agrees_with_causal_and_adds_up(evidence):
    target = int(evidence.result.logits.argmax())
    assert target < 9
    signed = evidence.signed(target)
    assert evidence.signed(target) is signed and evidence.signed(target + 1) is not signed
    assert torch.allclose(signed.tokens.sum(dim=1), signed.experts)
    causal = -evidence.causal("zero").delta[..., target]
    both = torch.stack([signed.experts.flatten(), causal.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95


def test_lengths_are_means_over_the_tokens(evidence):
    for row in (0, 5):
        norms = evidence.token_norms(row)
        assert norms.shape == (evidence.result.grid.tokens, 7)
        assert torch.allclose(norms.mean(dim=0), evidence.norms[row])


def test_the_estimate_of_the_causal_view_counts_the_layers_still_to_run(evidence):
    """Seven rows through 1, 2, … 6 of 6 layers and the intact one: 7 * 21 / 6 + 1 passes."""
    passes = 1 + 7 * 21 / 6
    seconds = evidence.result.timing.forward / 1000
    assert evidence.causal_seconds == pytest.approx(passes * seconds)
