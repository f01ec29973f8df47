"""The repository is a Space as it is, and the check notices what would break one."""

from pathlib import Path

import pytest

from analysis.bench import check_space
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify

ROOT = Path(__file__).parents[2]


def test_this_repository_keeps_the_conventions():
    assert check_space.problems(ROOT) == []


@pytest.mark.slow
def test_it_starts_as_a_space_without_a_network():
    dog = ROOT / "assets" / "examples" / "dog_bark.ogg"
    assert check_space.start(ROOT) == classify(open_classifier(), dog).top(1)[0][0]
