"""The toy run really trains, repeats itself, and shows what the lesson says it shows."""

import pytest
import torch

from softmoa.lens.balance import dead_experts
from softmoa.ui.lesson.collapse import train


@pytest.fixture(scope="module")
def runs():
    """Per kind, the runs of three seeds."""
    return {
        kind: [list(train(kind, seed)) for seed in range(3)]
        for kind in ("top-1", "top-1, balanced", "soft")
    }


def dead(run):
    return int(dead_experts(run[-1].share))


def test_all_of_them_learn_the_task(runs):
    for kind in runs.values():
        for run in kind:
            assert run[0].loss > 1.9  # near ln 8, what a guess costs
            assert run[-1].loss < 0.4


def test_top_1_starves_experts_and_soft_does_less(runs):
    for starved, soft in zip(runs["top-1"], runs["soft"], strict=True):
        assert dead(soft) <= 1 < dead(starved)
    starved, soft = (list(train(kind, 7)) for kind in ("top-1", "soft"))  # the seed to try
    assert dead(starved) > dead(soft) >= 1


def test_the_balancing_loss_is_the_cure(runs):
    for bare, cured in zip(runs["top-1"], runs["top-1, balanced"], strict=True):
        assert dead(cured) <= 1 < dead(bare)
        assert cured[0].loss == bare[0].loss  # of the task alone, so that they can be compared


def test_the_same_seed_gives_the_same_run(runs):
    again = list(train("soft", 2))
    assert [p.loss for p in again] == [p.loss for p in runs["soft"][2]]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(train("top-1", 1))
    assert torch.equal(torch.get_rng_state(), before)
