"""`/ablate`: experts off and routing blind over HTTP."""

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from softmoa.lens.ablation import Intervention
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify, reclassify
from softmoa.model.weights import ASSETS

EXAMPLES = ASSETS / "examples"
BUNDLE = "esc10-soft-moa"


@pytest.fixture(scope="module")
def result():
    return classify(open_classifier(BUNDLE), EXAMPLES / "dog_bark.ogg")


@pytest.fixture(scope="module")
def client(server):
    return Client(server[0], verbose=False)


def ablate(client: Client, **values) -> dict:
    file = handle_file(EXAMPLES / "dog_bark.ogg")
    return client.predict(file=file, api_name="/ablate", **({"bundle": BUNDLE} | values))


def test_http_ablate(client, result):
    answer = ablate(client, layer=3, experts=[0, 5], mode="renormalise")
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


@pytest.mark.parametrize(
    "values, words",
    [
        ({"experts": [7]}, "experts must be from 0 to 6"),
        ({"experts": ["all"]}, "experts must be a whole number"),
        ({"layer": 9}, "no mixture at 9 mhsa; there are 0 mhsa"),
        ({"mode": "remove"}, "mode must be one of zero, renormalise"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_http_ablate_refuses_bad_values_with_one_sentence(client, values, words):
    with pytest.raises(AppError, match=words):
        ablate(client, **values)
