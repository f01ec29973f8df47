"""The exported file, opened by another runtime: the same answers and the same routing."""

import json

import numpy as np
import onnxruntime
import pytest

from softmoa.cli import main
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.model.weights import ASSETS


def test_onnx_runtime_answers_as_we_do(tmp_path, capsys):
    path = tmp_path / "exported.onnx"
    assert main(["export", "tags", "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    classifier = open_classifier("tags")
    for clip in ("dog_bark.ogg", "rain.ogg", "speech.flac"):  # of three lengths
        result = classify(classifier, ASSETS / "examples" / clip)
        found = dict(zip(names, session.run(None, {"mel": result.mel[None].numpy()}), strict=True))
        assert np.allclose(found.pop("probabilities")[0], result.probabilities, atol=1e-4)
        assert len(found) == 2 * len(result.records)
        for record in result.records:
            sides = zip(("dispatch", "combine"), record.routing.per_slot(), strict=True)
            for side, weights in sides:
                name = f"layer{record.layer + 1}_{record.site}_{side}"
                assert np.allclose(found[name], weights, atol=1e-4)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["labels"]) == list(classifier.labels)
    assert json.loads(told["log_mel"])["mean"] == pytest.approx(-4.2677393)
