"""The endpoints over HTTP, and what they refuse; their form is held by tests/test_contracts.py."""

import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError

from softmoa.lens.ablation import Intervention
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify, reclassify
from softmoa.model.weights import ASSETS

DOG = ASSETS / "examples" / "dog_bark.ogg"


def test_routing(client):
    routing = client.predict(file=handle_file(DOG), layer=3, expert=5, api_name="/routing")
    record = classify(open_classifier(), DOG).records[3]
    expected = record.routing.dispatch_weights[0, :, 5, 0].tolist()
    flat = routing["special"]["dispatch"] + sum(routing["dispatch"], [])
    assert flat == pytest.approx(expected, abs=1e-6)
    assert len(routing["hertz"]) == 8 and len(routing["seconds"]) == len(routing["dispatch"][0])


def test_ablate(client):
    answer = client.predict(
        file=handle_file(DOG), bundle="esc10-soft-moa", layer=3, experts=[0, 5],
        mode="renormalise", api_name="/ablate",
    )  # fmt: skip
    result = classify(open_classifier("esc10-soft-moa"), DOG)
    changed = reclassify(result, {(3, "mhsa"): Intervention((0, 5), "renormalise")})
    assert answer["changed"] == [{"layer": 3, "site": "mhsa"}]
    assert answer["intact"] == "dog bark" and answer["ablated"] == changed.top(1)[0][0]
    assert len(answer["labels"]) == 10 and answer["labels"][0]["label"] == "dog bark"
    for row in answer["labels"]:
        c = result.classifier.labels.index(row["label"])
        assert row["logit"] == pytest.approx(result.logits[c].item(), abs=1e-3)
        assert row["ablated_logit"] == pytest.approx(changed.logits[c].item(), abs=1e-3)
        assert row["difference"] == pytest.approx(row["ablated_logit"] - row["logit"], abs=1e-6)
    assert sum(row["ablated_probability"] for row in answer["labels"]) == pytest.approx(1)


def test_compare_streams_and_ends_with_a_table(client):
    job = client.submit(
        task="tones", methods="linear,lora", shots=2, epochs=1, seeds="0", api_name="/compare"
    )
    last = job.result(timeout=280)
    assert last["status"] == "done" and last["test_clips"] > 100 and last["failed"] == []
    assert [row["method"] for row in last["rows"]] == ["linear", "lora"]
    assert all(0 < row["test_accuracy"] <= 1 for row in last["rows"])
    assert "Linear probe" in last["conclusion"]
    running = job.outputs()[:-1]
    assert {answer["status"] for answer in running} == {"running"}
    shares = [answer["progress"] for answer in running]
    assert shares == sorted(shares) and shares[-1] <= 1


FILE = {"file": handle_file(DOG), "bundle": "esc10-soft-moa"}


@pytest.mark.parametrize(
    "name, values, words",
    [
        ("ablate", FILE | {"experts": [7]}, "experts must be from 0 to 6"),
        ("ablate", FILE | {"experts": ["all"]}, "experts must be a whole number"),
        ("ablate", FILE | {"layer": 9}, "no mixture at 9 mhsa; there are 0 mhsa"),
        ("ablate", FILE | {"mode": "remove"}, "mode must be one of zero, renormalise"),
        ("ablate", FILE | {"seed": -1}, "seed must be from 0"),
        ("compare", {"task": "birds"}, "no such task; there are"),
        ("compare", {"methods": "linear,magic"}, "no method 'magic'"),
        ("compare", {"seeds": ",".join(map(str, range(50)))}, "150 runs; at most 20"),
        ("compare", {"seeds": "one"}, "whole numbers"),
        ("compare", {"shots": 0}, "shots must be from 1"),
        ("compare", {"epochs": 0.5}, "epochs must be a whole number"),
        ("compare", {"task": "tones", "shots": 1000}, "fewer than"),
    ],
)
def test_bad_values_are_refused_with_one_sentence(client, name, values, words):
    with pytest.raises(AppError, match=words):
        client.predict(api_name=f"/{name}", **values)
