"""A bundle gives back the same logits, names itself, and refuses what does not fit."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from encoders import loaded, tiny
from refusals import refusal
from safetensors.torch import load_file

from softmoa.methods import attach, bundle, share, trained_state
from softmoa.methods.bundle import BundleError, BundleInfo
from softmoa.methods.mixtures import SoftMoAOptions
from softmoa.model import weights

LABELS = ("dog", "rain", "owl")


@pytest.fixture
def base() -> weights.Loaded:
    return loaded(tiny(), "0123abcd")


@pytest.fixture
def trained(base, tmp_path):
    options = SoftMoAOptions(3, 2, 8)
    model = share(base.model)
    attach(model, "soft-moa", options, len(LABELS))
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    info = BundleInfo(
        "test", "task", "soft-moa", asdict(options), LABELS, "tiny", base.sha256,
        metrics={"test_accuracy": 0.5}, seed=3,
    )  # fmt: skip
    path = tmp_path / "test.safetensors"
    bundle.save(path, trained_state(model), info)
    return path, model.eval(), info


def test_round_trip_to_identical_logits_and_the_backbone_is_left_as_it_was(base, trained):
    path, model, info = trained
    before = {key: weight.clone() for key, weight in base.model.state_dict().items()}
    opened, read = bundle.load(path, base)
    assert read == info and bundle.read_info(path) == info
    mel = torch.randn(2, 64, 128)
    with torch.inference_mode():
        assert torch.equal(opened(mel), model(mel))
    after = base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_it_holds_what_was_trained_and_shares_the_rest(base, trained):
    path, _, _ = trained
    keys = load_file(path).keys()
    assert {key.partition(".")[0] for key in keys} == {"blocks", "ln", "head"}
    assert all("beside_attn" in key or "ln_attn" in key for key in keys if "blocks" in key)
    opened, _ = bundle.load(path, base)
    assert opened.blocks[0].mlp.up.weight is base.model.blocks[0].mlp.up.weight
    assert path.stat().st_size < 100_000


def refused(path, base) -> str:
    return refusal(BundleError, bundle.load, path, base)


def test_another_backbone_is_refused(base, trained):
    assert "trained on the backbone 'tiny'" in refused(trained[0], replace(base, sha256="ffff"))


def test_numbers_that_torch_cannot_read_are_refused(base, trained):
    path = trained[0]
    size = int.from_bytes(path.read_bytes()[:8], "little")
    entries = json.loads(path.read_bytes()[8 : 8 + size])
    name = "head.linear.weight"
    rows, columns = entries[name]["shape"]
    data = b""
    for key, entry in entries.items():
        if key == "__metadata__":
            continue
        start, stop = entry["data_offsets"]
        part = path.read_bytes()[8 + size + start : 8 + size + stop]
        if key == name:  # as many bytes as columns, each two numbers of four bits
            entry |= {"dtype": "F4", "shape": [rows, 2 * columns]}
            part = bytes(rows * columns)
        entry["data_offsets"] = [len(data), len(data) + len(part)]
        data += part
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    assert "head.linear.weight" in refused(path, base)
