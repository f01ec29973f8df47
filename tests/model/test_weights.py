"""Checkpoints of both generations, and every way they can be wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTConfig as HubConfig
from transformers import ASTFeatureExtractor, ASTForAudioClassification, pipeline

from softmoa.data import hub as h
from softmoa.lens.classifier import FRESH, open_classifier
from softmoa.lens.classify import classify
from softmoa.model import weights
from softmoa.model.ast import AST, ASTConfig
from softmoa.model.weights import WeightsError

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_length": 64,
}


@pytest.fixture
def hub(tmp_path) -> tuple[Path, ASTForAudioClassification]:
    config = HubConfig(**TINY, id2label={0: "dog", 1: "rain", 2: "owl"})
    model = ASTForAudioClassification(config).eval()
    model.save_pretrained(tmp_path / "hub")
    return tmp_path / "hub", model


def rewrite(folder: Path, change) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(change(state), folder / "model.safetensors", metadata={"format": "pt"})


def test_folder_of_the_hub_gives_the_same_logits(hub):
    folder, model = hub
    loaded = weights.load(str(folder))
    mel = torch.randn(1, 64, 128)
    with torch.inference_mode():
        assert torch.allclose(loaded.model(mel), model(mel).logits, atol=1e-6)
    assert loaded.labels == ("dog", "rain", "owl")
    assert loaded.sha256 == h.sha256(folder / "model.safetensors")


def test_both_generations_of_names_are_read(hub):
    """On disk the names of transformers 4, in memory those of 5: one state after the map."""
    folder, model = hub
    disk = weights.hub_state(load_file(folder / "model.safetensors"), bands=12)
    memory = weights.hub_state(model.state_dict(), bands=12)
    assert (
        disk.keys()
        == memory.keys()
        == AST(weights.load(str(folder)).model.config).state_dict().keys()
    )
    assert all(torch.equal(disk[key], memory[key]) for key in disk)
    assert any("encoder.layer" in key for key in load_file(folder / "model.safetensors"))
    assert not any("encoder.layer" in key for key in model.state_dict())


@pytest.mark.parametrize(
    "shape, words",
    [
        ([0, 2**62, 2**62], "cannot be read"),  # whose size torch cannot hold
        ([0, 2**63], "cannot be read"),  # nor the number
        ([0, 14, 32], "no grid"),
    ],
)
def test_impossible_shapes_are_refused(hub, shape, words):
    folder, _ = hub
    name = "audio_spectrogram_transformer.embeddings.position_embeddings"
    rewrite(folder, lambda state: {k: v for k, v in state.items() if k != name})
    path = folder / "model.safetensors"
    size = int.from_bytes(path.read_bytes()[:8], "little")
    entries = json.loads(path.read_bytes()[8 : 8 + size])
    entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + path.read_bytes()[8 + size :])
    with pytest.raises(WeightsError, match=words):
        weights.load(str(folder))


@pytest.mark.parametrize(
    "kind, frames, mels",
    [
        ("single_label_classification", 64, 128),
        ("multi_label_classification", 50, 64),
        (None, 64, 128),
    ],
)
def test_its_own_settings_give_the_answer_of_the_pipeline(tmp_path, kind, frames, mels):
    """Of clips as long as it was trained on, and of the beginning of longer ones."""
    torch.manual_seed(0)
    model = ASTForAudioClassification(
        HubConfig(
            **TINY | {"max_length": frames, "num_mel_bins": mels},
            problem_type=kind,
            id2label={i: f"word {i}" for i in range(5)},
        )  # fmt: skip
    ).eval()
    torch.nn.init.normal_(model.classifier.dense.weight)
    extractor = ASTFeatureExtractor(max_length=frames, num_mel_bins=mels, mean=-6.8, std=5.5)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    classifier = open_classifier(FRESH, str(tmp_path))
    said = pipeline("audio-classification", model=model, feature_extractor=extractor)
    for samples in (400 + 160 * (frames - 1), 40_000):
        sound = 0.1 * torch.randn(samples)
        result = classify(classifier, (16_000, sound.numpy()), precision="fp32")
        expected = said({"raw": sound.numpy(), "sampling_rate": 16_000}, top_k=3)
        for (label, probability), theirs in zip(result.top(3), expected, strict=True):
            assert label == theirs["label"]
            assert probability == pytest.approx(theirs["score"], abs=1e-4)
    assert "Only the first" in result.clip.notes[0]


def test_settings_that_cannot_be_had_are_refused(hub):
    folder, _ = hub
    for said, words in (
        ({"num_mel_bins": 64}, "64 mel bands where the config.json reads 128"),
        ({"sampling_rate": 8000}, "sampling_rate must be 16000"),
        ({"std": 0.0}, "std must be greater than 0"),
        ({"mean": "low"}, "mean must be a valid number"),
    ):
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
        with pytest.raises(WeightsError, match=words):
            weights.load(str(folder))


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="no backbone 'nonsense'"):
        weights.load("nonsense")
    with pytest.raises(WeightsError, match="config.json"):
        weights.load(str(tmp_path))
    (tmp_path / "text.safetensors").write_text("this is no checkpoint")
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.load_embedded(tmp_path / "text.safetensors")


def test_embedded_file_round_trip(tmp_path):
    model = AST(ASTConfig(16, 1, 2, 32, max_frames=64, classes=4)).eval()
    weights.save_embedded(model, tmp_path / "tiny.safetensors", torch.float32)
    loaded = weights.load_embedded(tmp_path / "tiny.safetensors")
    tokens, _ = loaded.model.features(torch.ones(1, 64, 128))
    assert torch.equal(tokens, model.features(torch.ones(1, 64, 128))[0])
    assert loaded.model.config.classes == 0 and loaded.labels == ()
    with pytest.raises(WeightsError, match="not a backbone file"):
        save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
        weights.load_embedded(tmp_path / "other.safetensors")


def test_the_embedded_backbone_is_what_the_card_says():
    path = weights.ASSETS / weights.BACKBONES["ast-small"].file
    assert path.stat().st_size < 25e6
    config = weights.load("ast-small").model.config
    assert (config.depth, config.width, config.heads) == (6, 384, 6)
    assert (config.bands, config.columns(1024)) == (8, 64)
