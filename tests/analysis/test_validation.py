"""What pretraining is chosen by, and the rows that it is reported by."""

from dataclasses import replace

import pytest
import torch

from analysis.pretraining import validation
from analysis.pretraining.initialise import AST_SMALL
from softmoa.model.ast import AST


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return AST(replace(AST_SMALL, width=12, depth=1, heads=2)).eval()


def loudness(levels):
    """Short log-mels that a linear probe tells apart by their level."""
    return [torch.full((32, 128), float(level)) + 0.01 * torch.randn(32, 128) for level in levels]


def test_words_are_fitted_on_the_training_list_and_told_on_the_validation_list(
    encoder, monkeypatch
):
    labels = torch.tensor([0, 1, 2] * 70)
    trained = torch.arange(len(labels)) >= 30
    monkeypatch.setattr(validation, "nine_words", lambda: (loudness(labels), labels, trained))
    fitted = []
    probe = validation.named

    def named(x, labels, part, tested):
        fitted.append(part)
        assert not (part & tested).any() and tested.equal(~trained)
        return probe(x, labels, part, tested)

    monkeypatch.setattr(validation, "named", named)
    assert validation.on_words(encoder) > 0.9
    assert [int(part.sum()) for part in fitted] == [3 * validation.SHOTS] * validation.SEEDS
    assert not fitted[0].equal(fitted[1])
