"""The recipe of the shipped bundles: equal sizes, a table that is kept, what is shipped."""

import pytest

from analysis import tables
from analysis.pretraining import train_bundles
from analysis.pretraining.train_bundles import SIBLINGS, TASKS, race
from softmoa.methods import bundle
from softmoa.methods.budget import parameters_of
from softmoa.model import weights


def test_siblings_train_as_many_weights_as_soft_moa():
    config = weights.load("ast-small").model.config
    choices = race(config, 1).choices
    sizes = [parameters_of(config, choice.method, choice.options) for choice in choices]
    assert sizes[0] == 133_758
    assert all(size == pytest.approx(sizes[0], rel=0.05) for size in sizes)
    assert [c.options.k for c in choices if c.method == "topk-moa"] == [1, 2]
    assert {c.options.balance for c in choices if c.method == "topk-moa"} == {"none"}


def test_what_is_shipped_is_what_the_recipe_makes():
    """A bundle per task and sibling, on the shipped backbone, with a row in the table."""
    base = weights.load("ast-small")
    table = {
        (r["task"], r["sibling"]): r for r in tables.read(train_bundles.RESULTS) if r["seed"] == "0"
    }
    for task in TASKS:
        for (name, entry), choice in zip(
            SIBLINGS.items(), race(base.model.config, 1).choices, strict=True
        ):
            info = bundle.read_info(train_bundles.BUNDLES / f"{task}-{name}.safetensors")
            method = entry.partition(":")[0]
            assert (info.task, info.method, info.base_sha256) == (task, method, base.sha256)
            assert info.options.get("k") == getattr(choice.options, "k", None)
            accuracy = float(table[task, name]["test_accuracy"])
            assert info.metrics["test_accuracy"] == pytest.approx(accuracy, abs=1e-5)
