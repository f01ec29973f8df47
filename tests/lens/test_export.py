"""Files for download: they hold the weights that were recorded, in the places they belong to."""

import csv
import io
from collections import defaultdict

import pytest

from softmoa.lens import export
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.model.weights import ASSETS


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
