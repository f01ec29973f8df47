"""Faithfulness of maps, on a model whose truth is known: it hears one patch and no other."""

import pytest
import torch

from softmoa.lens.contribution import PatchGrid
from softmoa.lens.faithfulness import covered, faithfulness

GRID = PatchGrid(8, 6)
MEL = torch.ones(96, 128)
MEL[90, 3] = 0.0  # the quietest place


def hears_one_patch(mels):
    """0.1, and 0.8 more where patch (5, 2) sounds."""
    return torch.stack([0.1 + 0.8 * mel[32:48, 80:96].mean() for mel in mels])


def test_a_true_map_is_told_from_a_false_one_and_from_random_ones():
    true, false = torch.zeros(8, 6), torch.zeros(8, 6)
    true[5, 2], false[0, :], false[5, 2] = 1, 1, -1
    found, random = faithfulness(hears_one_patch, MEL, true, GRID, draws=50)
    assert (found.whole, found.kept, found.rest) == pytest.approx((0.9, 0.9, 0.1))
    assert found.drop == pytest.approx(0) and found.faithfulness == pytest.approx(0.8)
    # A quarter of the patches holds the one that counts in a quarter of the draws.
    assert random.kept == pytest.approx(0.1 + 0.8 / 4, abs=0.12)
    assert random.rest == pytest.approx(0.9 - 0.8 / 4, abs=0.12)
    found, _ = faithfulness(hears_one_patch, MEL, false, GRID)
    assert found.drop == pytest.approx(8 / 9) and found.faithfulness == pytest.approx(0)


def test_so_many_patches_cover_the_same_area_though_they_overlap():
    """Together or apart, as the random maps' are: else a true map, in one piece, covers less."""
    grid = PatchGrid(12, 9, stride_time=10, stride_frequency=10)
    together, apart = torch.zeros(12, 9, dtype=torch.bool), torch.zeros(12, 9, dtype=torch.bool)
    together[4:6, 3:6], apart[::4, 1:9:4] = True, True
    areas = {covered(marked, grid, 96).sum().item() for marked in (together, apart)}
    assert areas == {6 * 10 * 10}
