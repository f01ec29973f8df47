"""Mixtures of one task beside each other: who is found, what they are called, what is measured."""

import torch
from encoders import FAMILY

from softmoa.lens.balance import METRICS
from softmoa.lens.classifier import open_classifier
from softmoa.lens.task_bundles import BundleBalance, same_task, title


def test_siblings_are_the_mixtures_of_the_same_task(family):
    found = same_task("x-top1")
    assert list(found) == ["x-top1", "x-dense", "x-soft", "x-top2"]
    assert same_task("y-soft") == {"y-soft": "Soft-MoA"}
    assert set(same_task("x-linear")) == {"x-dense", "x-soft", "x-top1", "x-top2"}
    assert same_task("fresh") == {}


def test_titles_tell_the_kinds_of_routing_apart(family):
    titles = [title(family[name]) for name in list(FAMILY)[:4]]
    assert titles == ["Soft-MoA", "Dense-MoA", "Top-1 MoA", "Top-2 MoA, balanced by a loss"]


def test_balance_on_the_same_sounds(family):
    mels = torch.randn(2, 96, 128, generator=torch.Generator().manual_seed(0))
    values = {}
    for name, called in same_task("x-soft").items():
        measured = BundleBalance(open_classifier(name), called)
        for mel in mels:
            measured.add(mel)
        assert measured.clips == 2 and len(measured.balances) == 6
        values[name] = {m.name: m.value(measured.balances[0, "mhsa"]) for m in METRICS}
    # A token has 1 / 4 for each of 4 experts or 1 / 8 for each of 8 slots at least.
    assert values["x-dense"]["Mean max combine"] >= 1 / 4
    assert values["x-soft"]["Mean max combine"] >= 1 / 8
    assert values["x-top1"]["Mean max dispatch"] is None
    assert values["x-soft"]["Mean max dispatch"] > 0
    # Gates of an untrained router are nearly equal: all answer under dense, few under top-1.
    assert values["x-dense"]["Effective experts"] > 3.9
    assert values["x-top1"]["Effective experts"] < values["x-dense"]["Effective experts"]
