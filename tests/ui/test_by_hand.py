"""The four-token example against numbers worked out on paper."""

import math

import pytest
import torch

from softmoa.ui.lesson.by_hand import route, soft_by_hand

E = math.e


def test_even_logits_mix_everything_evenly():
    result = soft_by_hand(torch.zeros(4, 2))
    assert result.dispatch.tolist() == [[0.25, 0.25]] * 4
    assert result.combine.tolist() == [[0.5, 0.5]] * 4
    mean = [(9 + 8 + 4 + 0) / 4, (2 + 6 + 8 + 0) / 4]
    assert result.mixed.tolist() == [mean, mean]
    assert result.answers.tolist() == [[2 * v for v in mean], [-v for v in mean]]
    half = [(2 - 1) * v / 2 for v in mean]
    assert result.outputs.tolist() == [half] * 4


def test_one_logit_of_one():
    """Slot 1 prefers token 1 by a factor e, and so does token 1 slot 1."""
    logits = torch.zeros(4, 2)
    logits[0, 0] = 1
    result = soft_by_hand(logits)
    assert result.dispatch[:, 0].tolist() == pytest.approx([E / (E + 3)] + [1 / (E + 3)] * 3)
    assert result.combine[0].tolist() == pytest.approx([E / (E + 1), 1 / (E + 1)])
    loud = (9 * E + 8 + 4) / (E + 3)
    assert result.mixed[0, 0].item() == pytest.approx(loud)
    received = (E * 2 * loud - (9 + 8 + 4) / 4) / (E + 1)
    assert result.outputs[0, 0].item() == pytest.approx(received)


def test_three_routers_on_the_same_logits():
    logits = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 2, 0]])
    kinds = ("dense", "top-1", "soft")
    dense, top, soft = (route(logits, kind).expert_weights[0] for kind in kinds)
    assert torch.allclose(dense, soft)
    assert torch.allclose(dense, logits.softmax(dim=1))
    chosen = logits.argmax(dim=1)
    assert (top > 0).sum(dim=1).tolist() == [1, 1, 1, 1]
    assert torch.allclose(top.amax(dim=1), dense.gather(1, chosen[:, None])[:, 0])


@pytest.mark.parametrize("kind", ["dense", "top-1", "soft"])
def test_nothing_is_drawn_that_others_would_miss(kind):
    """A slider that is moved must not change a training that another visitor started by a seed."""
    before = torch.get_rng_state()
    route(torch.zeros(4, 3), kind)
    assert torch.equal(torch.get_rng_state(), before)
