"""The path from a sound to labels and routing, on the shipped weights and on a Hub folder."""

import shutil

import pytest
import torch
from test_hub import TINY
from transformers import ASTConfig as HubConfig
from transformers import ASTForAudioClassification

from softmoa.lens.classifier import bundles, open_classifier
from softmoa.lens.classify import classify
from softmoa.methods import METHODS, attach, bundle, share, trained_state
from softmoa.methods.bundle import BundleError, BundleInfo
from softmoa.model import weights
from softmoa.model.weights import ASSETS

DOG = ASSETS / "examples" / "dog_bark.ogg"


def test_every_embedded_bundle_opens_on_its_backbone():
    assert bundles()
    for name in bundles():
        classifier = open_classifier(name)
        assert classifier.info.base == classifier.backbone
        assert open_classifier(name) is classifier  # kept in memory
        result = classify(classifier, DOG)
        assert torch.isfinite(result.probabilities).all()
        assert len(result.probabilities) == len(classifier.labels)


@pytest.fixture
def hub_folder(tmp_path):
    labels = {i: f"sound {i}" for i in range(6)}
    sizes = TINY | {"max_length": 1024, "problem_type": "multi_label_classification"}
    config = HubConfig(**sizes, id2label=labels)
    torch.manual_seed(0)
    model = ASTForAudioClassification(config).eval()
    model.save_pretrained(tmp_path)
    return tmp_path, model


def test_a_bundle_of_a_backbone_in_a_folder(hub_folder, tmp_path):
    """A folder may be moved and renamed; it must hold the weights."""
    folder, model = hub_folder
    base = weights.load(str(folder))
    trained = share(base.model)
    attach(trained, "soft-moa", METHODS["soft-moa"].options(), 2)
    info = BundleInfo(
        "b", "t", "soft-moa", {}, ("low", "high"), base=base.name, base_sha256=base.sha256
    )
    path = tmp_path / "b.safetensors"
    bundle.save(path, trained_state(trained), info)
    shutil.copytree(folder, tmp_path / "moved")
    moved = open_classifier(str(path), str(tmp_path / "moved"))
    assert classify(moved, DOG).probabilities.shape == (2,)
    with pytest.raises(BundleError, match="a folder named .* say where that is"):
        open_classifier(str(path))
    with pytest.raises(BundleError, match="belongs to the backbone"):
        open_classifier(str(path), "ast-small")
    model.classifier.dense.weight.data += 1
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(BundleError, match="not on these weights of 'other'"):
        open_classifier(str(path), str(tmp_path / "other"))
