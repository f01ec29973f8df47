"""Files for download: they hold the weights that were recorded, in the places they belong to."""

import csv
import io
import json
from collections import defaultdict

import pytest

from softmoa.lens import export
from softmoa.lens.classifier import Classifier, open_classifier
from softmoa.lens.classify import classify
from softmoa.methods import METHODS, attach, share
from softmoa.model.weights import ASSETS, load_backbone


@pytest.fixture(scope="module")
def result():
    return classify(open_classifier("esc10-soft-moa"), ASSETS / "examples" / "dog_bark.ogg")


def test_csv_holds_every_weight_once(result):
    rows = list(csv.DictReader(io.StringIO(export.weights_csv(result))))
    assert len(rows) == 6 * 7 * result.grid.tokens
    of_slot = defaultdict(float)
    for row in rows:
        of_slot[row["layer"], row["expert"]] += float(row["dispatch"])
    assert len(of_slot) == 42 and [*of_slot.values()] == pytest.approx([1] * 42, abs=1e-4)
    token = result.grid.token(3, 5)
    place = {"layer": "4", "expert": "2", "token": str(token)}
    [row] = [row for row in rows if place.items() <= row.items()]
    weights = result.records[4].routing.combine_weights[0, token, 2, 0].item()
    assert float(row["combine"]) == pytest.approx(weights, rel=1e-4)
    assert (row["band"], row["column"]) == ("3", "5")
    assert float(row["start_s"]) == result.grid.seconds(5)[0]


def test_json_holds_everything(result):
    everything = json.loads(export.everything_json(result, "dog_bark.ogg"))
    assert everything["file"] == "dog_bark.ogg" and len(everything["labels"]) == 10
    assert len(everything["mixtures"]) == 6
    dispatch = everything["mixtures"][0]["dispatch"]
    assert len(dispatch) == 7 and len(dispatch[0]) == 1
    assert len(dispatch[0][0]) == result.grid.tokens == len(everything["seconds"]) * 8 + 2
    assert sum(dispatch[0][0]) == pytest.approx(1, abs=1e-4)
    assert everything["bundle_info"]["task"] == "esc10"


@pytest.mark.parametrize("method", ["dense-moa", "topk-moa"])
def test_a_token_routers_gates_stand_for_both_weights(method):
    model = share(load_backbone("ast-small").model)
    attach(model, method, METHODS[method].options(experts=3), 2)
    classifier = Classifier(method, "ast-small", model.eval(), ("a", "b"), False, None)
    result = classify(classifier, ASSETS / "examples" / "dog_bark.ogg")
    gates = result.records[2].routing.expert_weights[0]
    dispatch, combine = export.weights_of(result.records[2])
    assert dispatch.shape == (3, 1, result.grid.tokens)
    assert dispatch.equal(combine) and combine[:, 0].T.equal(gates)
    rows = list(csv.DictReader(io.StringIO(export.weights_csv(result))))
    assert len(rows) == 6 * 3 * result.grid.tokens
    everything = json.loads(export.everything_json(result, "dog_bark.ogg"))
    assert len(everything["experts"]) == 6 and len(everything["experts"][0]["share"]) == 3
