"""The toy run really trains, repeats itself, and shows what the lesson says it shows."""

import pytest
import torch

from softmoa.lens.balance import dead_experts
from softmoa.ui.lesson.collapse import EXPERTS, STEPS, clips, train


@pytest.fixture(scope="module")
def runs():
    """Per kind, the runs of three seeds."""
    return {
        kind: [list(train(kind, seed)) for seed in range(3)]
        for kind in ("top-1", "top-1, balanced", "soft")
    }


def dead(run):
    return int(dead_experts(run[-1].share))


def test_every_step_is_a_point_with_shares(runs):
    for run in (run for kind in runs.values() for run in kind):
        assert [point.step for point in run] == list(range(1, STEPS + 1))
        assert all(len(point.share) == EXPERTS for point in run)
        assert all(point.share.sum().item() == pytest.approx(1, abs=1e-5) for point in run)


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


def test_clips_are_patterns_with_an_offset():
    examples = clips(0)
    tokens = torch.stack([x for x, _ in examples])
    assert tokens.shape == (256, 12, 16) and {y for _, y in examples} == set(range(8))
    # Signs cancel within the classes: what is left of the mean is the offset, well over noise.
    assert tokens.mean(dim=(0, 1)).norm() > 3
