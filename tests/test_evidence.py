"""The views of one sound's experts on the shipped model: identities, sums, and agreement."""

import pytest
import torch

from softmoa.ablation import Intervention
from softmoa.classify import classify, open_classifier
from softmoa.evidence import Evidence, again
from softmoa.weights import ASSETS


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return Evidence(
        classify(open_classifier("esc10-soft-moa"), ASSETS / "examples" / "dog_bark.ogg")
    )


def off(evidence: Evidence, experts) -> dict:
    return dict.fromkeys(evidence.places, Intervention(tuple(experts)))


def test_no_change_is_the_intact_answer(evidence):
    for nothing in ({}, off(evidence, ())):
        same = again(evidence.result, nothing)
        assert torch.equal(same.logits, evidence.result.logits)
        assert same.top(1) == evidence.result.top(1)
        for before, after in zip(evidence.result.records, same.records, strict=True):
            assert torch.equal(before.routing.combine_weights, after.routing.combine_weights)


def test_all_off_is_the_frozen_backbone_with_the_same_head(evidence):
    result = evidence.result
    changed = again(result, off(evidence, range(evidence.experts)))
    model = result.classifier.model
    taken = [(block, block.beside_attn) for block in model.blocks]
    try:
        for block, _ in taken:
            block.beside_attn = None
        with torch.inference_mode():
            frozen = model(result.mel[None])[0]
    finally:
        for block, moa in taken:
            block.beside_attn = moa
    assert torch.allclose(changed.logits, frozen, atol=1e-4)
    assert (changed.logits - result.logits).abs().max() > 0.05
    assert torch.equal(again(result, {}).logits, result.logits)  # all is back in its place


def test_the_records_hold_the_change(evidence):
    place = evidence.places[2]
    changed = Evidence(again(evidence.result, {place: Intervention((3,))}))
    assert changed.share[2, 3] == 0 and evidence.share[2, 3] > 0.01
    assert torch.equal(changed.share[:2], evidence.share[:2])  # below it nothing changes
    assert torch.allclose(changed.share.sum(dim=1), torch.ones(6))


def test_causal_is_what_switching_off_by_hand_gives(evidence):
    for mode in ("zero", "renormalise"):
        causal = evidence.causal(mode)
        assert causal.delta.shape == (6, 7, 10) and evidence.causal(mode) is causal
        by_hand = again(evidence.result, {evidence.places[4]: Intervention((2,), mode)})
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
