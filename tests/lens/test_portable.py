"""The exported file, opened by another runtime: the same answers and the same routing."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from softmoa.cli import main
from softmoa.lens.classifier import Classifier, open_classifier
from softmoa.lens.classify import classify
from softmoa.lens.portable import Portable
from softmoa.model.ast import AST, ASTConfig
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


@pytest.mark.parametrize("frames", [16, 500, 1016, 1017, 1024])
def test_what_is_exported_answers_as_the_encoder_up_to_its_longest_clip(frames):
    """Whose end, less than a stride, the published strides leave out."""
    torch.manual_seed(0)
    model = AST(ASTConfig(16, 1, 2, 16, classes=3)).requires_grad_(False).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    mel = torch.randn(1, frames, 128)
    [found] = Portable(Classifier("", "", model, tuple("abc"), False, None))(mel)
    assert torch.allclose(found, model(mel).softmax(dim=-1), atol=1e-6)
