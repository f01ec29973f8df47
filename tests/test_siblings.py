"""Mixtures of one task beside each other: who is found, what they are called, what is measured."""

import pytest
import torch
from gradio import Error, EventData

from softmoa import bundle, classify
from softmoa.ablation import Intervention
from softmoa.balance import METRICS
from softmoa.bundle import BundleInfo
from softmoa.evidence import Evidence
from softmoa.methods import METHODS, attach, share
from softmoa.siblings import Measured, siblings, title
from softmoa.ui import balance, hear, lens, switchboard

LABELS = ("a", "b", "c")
FAMILY = {
    "x-soft": ("soft-moa", {"experts": 4, "slots": 2}, "x"),
    "x-dense": ("dense-moa", {"experts": 4}, "x"),
    "x-top1": ("topk-moa", {"experts": 4, "k": 1}, "x"),
    "x-top2": ("topk-moa", {"experts": 4, "k": 2, "balance": "loss"}, "x"),
    "x-linear": ("linear", {}, "x"),
    "y-soft": ("soft-moa", {"experts": 4}, "y"),
}


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> dict[str, BundleInfo]:
    """Untrained bundles on the embedded backbone, in a folder of their own."""
    folder = tmp_path_factory.mktemp("bundles")
    base = classify.load_backbone("ast-small")
    infos = {}
    for name, (method, values, task) in FAMILY.items():
        model, options = share(base.model), METHODS[method].options(**values)
        attach(model, method, options, len(LABELS))
        infos[name] = BundleInfo(
            name, task, method, values, LABELS, base=base.name, base_sha256=base.sha256
        )
        bundle.save(folder / f"{name}.safetensors", model, infos[name])
    patch = pytest.MonkeyPatch()
    patch.setattr(classify, "BUNDLES", folder)
    yield infos
    patch.undo()


def test_siblings_are_the_mixtures_of_the_same_task(family):
    found = siblings("x-top1")
    assert list(found) == ["x-top1", "x-dense", "x-soft", "x-top2"]
    assert siblings("y-soft") == {"y-soft": "Soft-MoA"}
    assert set(siblings("x-linear")) == {"x-dense", "x-soft", "x-top1", "x-top2"}
    assert siblings("fresh") == {}


def test_titles_tell_the_kinds_of_routing_apart(family):
    titles = [title(family[name]) for name in list(FAMILY)[:4]]
    assert titles == ["Soft-MoA", "Dense-MoA", "Top-1 MoA", "Top-2 MoA, balanced by a loss"]


def test_balance_on_the_same_sounds(family):
    mels = torch.randn(2, 96, 128, generator=torch.Generator().manual_seed(0))
    values = {}
    for name, called in siblings("x-soft").items():
        measured = Measured(classify.open_classifier(name), called)
        for mel in mels:
            measured.add(mel)
        assert measured.clips == 2 and len(measured.balances) == 6
        for of_layer in measured.balances.values():
            assert of_layer.clips == 2 and of_layer.share.sum() == pytest.approx(1)
        values[name] = {m.name: m.value(measured.balances[0, "mhsa"]) for m in METRICS}
    # A token has 1 / 4 for each of 4 experts or 1 / 8 for each of 8 slots at least.
    assert values["x-dense"]["Mean max combine"] >= 1 / 4
    assert values["x-soft"]["Mean max combine"] >= 1 / 8
    assert values["x-top1"]["Mean max dispatch"] is None
    assert values["x-soft"]["Mean max dispatch"] > 0
    # Gates of an untrained router are nearly equal: all answer under dense, few under top-1.
    assert values["x-dense"]["Effective experts"] > 3.9
    assert values["x-top1"]["Effective experts"] < values["x-dense"]["Effective experts"]
    assert -1 <= values["x-soft"]["Slot similarity within experts"] <= 1
    assert values["x-dense"]["Slot similarity between experts"] is None


@pytest.mark.parametrize("name", ["x-top1", "x-dense", "x-soft"])
def test_the_experts_tab_takes_every_kind_of_mixture(family, name):
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy() / 9
    result = classify.classify(classify.open_classifier(name), (16_000, noise))
    evidence = Evidence(result)
    for view in ("causal", "signed", "norm", "share"):
        table, note, detail, _ = lens.judge(evidence, view, 1, "zero", 2, 3)
        assert table.count("data-expert=") == 6 * 4 and "$" in note and "moa" in detail

    def click(board, kind="toggle", **data):
        return switchboard.switch(evidence, board, kind, EventData(None, data))

    board = click({}, layer="1", expert="2")
    assert board == {(1, "mhsa"): Intervention((2,))}
    board = click(board, layer="all", set="dispatch", value="uniform")
    soft = name == "x-soft"
    assert sum(change.dispatch == "uniform" for change in board.values()) == 6 * soft
    for bad in (
        {"layer": "9", "expert": "1"},
        {"layer": "0", "expert": "9"},
        {"layer": "0", "set": "combine", "value": "evil"},
        {"expert": "all"},
        {},
    ):
        assert click({}, **bad) == {}
    changed, drawn, outcome, pair, _ = switchboard.run_board(
        evidence, board, "renormalise", None, "dispatch", 1, 2, 0
    )
    assert changed.records[1].routing.expert_weights[..., 2].max() == 0
    assert drawn.count("moa-off") == 1 and ("data-set='dispatch'" in drawn) == soft
    assert "The label" in outcome and pair.count("moa-area") == 2
    _, heard, said, _ = hear.play(evidence, "rest", "masked", 2, 3, 0)
    assert heard[0] == 16_000 and len(heard[1]) == 16_000 and "expert 4" in said


def test_the_experts_tab_says_when_there_is_no_mixture(family):
    silence = (16_000, torch.zeros(16_000).numpy())
    result = classify.classify(classify.open_classifier("x-linear"), silence)
    evidence, sentence, body, *_ = lens.refresh(result, None)
    assert evidence is None and "no mixture" in sentence and not body.visible
    assert lens.refresh(None, None)[0] is None


def test_balance_refuses_what_is_no_sibling(family):
    silence = (16_000, torch.zeros(16_000).numpy())
    evidence = Evidence(classify.classify(classify.open_classifier("x-soft"), silence))

    def last(*arguments):
        return list(balance.run(evidence, *arguments, balance.MEAN, balance.Stop()))[-1]

    measured, status, charts, table = last("sound", ["x-soft", "x-top2"], None, None)
    assert [one.title for one in measured] == ["Soft-MoA", "Top-2 MoA, balanced by a loss"]
    assert status.startswith("1 sound") and charts.count("moa-chart'") == 12
    assert table.count("<tr>") == 1 + len(METRICS)
    for arguments, words in (
        (("sound", ["y-soft"], None, None), "from the list"),
        (("sound", [], None, None), "at least one"),
        (("task", ["x-soft"], "nowhere", None), "no task 'nowhere'"),
        (("files", ["x-soft"], None, None), "Choose sounds"),
    ):
        with pytest.raises(Error, match=words):
            last(*arguments)
