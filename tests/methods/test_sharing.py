"""Bundles on the Hub: pushed and loaded by the real client, against a server of its protocol."""

import json
import os
import subprocess
import sys
from pathlib import Path

from hub_server import point_at
from huggingface_hub import ModelCard
from refusals import refusal
from test_hub import environment

from softmoa.data.hub import HubError
from softmoa.lens.classifier import bundles, open_classifier
from softmoa.lens.classify import classify
from softmoa.methods import bundle, sharing
from softmoa.methods.bundle import BundleError
from softmoa.model.weights import ASSETS

ROOT = Path(__file__).parents[2]
DOG = ASSETS / "examples" / "dog_bark.ogg"
ESC10 = bundles()["esc10-soft-moa"]
NAME = "ann/barks"


def unpushed(path=ESC10, name: str = NAME, token: str | None = "hf_ann", kind=HubError) -> str:
    return refusal(kind, sharing.push, path, name, token)


def unopened(name: str = NAME) -> str:
    return refusal(BundleError, open_classifier, name)


def test_push_and_load_back(remote):
    address = sharing.push(ESC10, NAME, "hf_ann")
    assert address == f"{remote.endpoint}/{NAME}"
    files = remote.repositories[NAME]
    assert files.keys() == {"bundle.safetensors", "README.md"} and NAME not in remote.private
    assert files["bundle.safetensors"] == ESC10.read_bytes()
    opened = open_classifier(NAME)
    assert opened.name == NAME and repr(opened.info) == repr(bundle.read_info(ESC10))  # NaN
    [here, there] = (classify(c, DOG).logits for c in (open_classifier("esc10-soft-moa"), opened))
    assert here.equal(there)


def test_the_card_says_what_it_is(remote):
    sharing.push(ESC10, NAME, "hf_ann", licence="cc-by-4.0")
    text, info = remote.repositories[NAME]["README.md"].decode(), bundle.read_info(ESC10)
    data = ModelCard(text).data  # the Hub's own parser
    assert (data.license, data.library_name) == ("cc-by-4.0", "softmoa")
    assert data.pipeline_tag == "audio-classification" and "soft-moa" in data.tags
    measured = {result.metric_name: result.metric_value for result in data.eval_results}
    assert measured["test accuracy"] == info.metrics["test_accuracy"]
    assert json.loads(text.split("```json\n")[1].split("```")[0]) == list(info.labels)
    for words in ("## Data", "## Method", "## Metrics", "## Licence", "## Citation", "@inproc",
                  f"--bundle {NAME}", info.base_sha256, "`experts` | 7"):  # fmt: skip
        assert words in text, words


def test_what_is_public_is_not_published_as_private(remote):
    sharing.push(ESC10, NAME, "hf_ann")
    before = dict(remote.repositories[NAME])
    tones = bundles()["tones-soft-moa"]
    assert "is public" in refusal(HubError, sharing.push, tones, NAME, "hf_ann", True)
    assert remote.repositories[NAME] == before


def test_who_may_not_push_is_told(remote):
    remote.repositories["bob/model"] = {"bundle.safetensors": ESC10.read_bytes()}
    for token in (None, ""):
        assert "HF_TOKEN" in unpushed(token=token)
    wrong = unpushed(token="hf_nobody")
    others = unpushed(name="bob/model")
    nowhere = unpushed(name="bob/new")
    assert all("check the token" in words for words in (wrong, others, nowhere))
    assert remote.repositories.keys() == {"bob/model"} and remote.uploads == {}


def test_other_repositories_are_left_alone(remote):
    remote.repositories[NAME] = {"README.md": b"mine", "model.safetensors": b"also mine"}
    before = dict(remote.repositories[NAME])
    assert "holds other files" in unpushed()
    assert remote.repositories[NAME] == before


def test_a_repository_with_a_corrupt_bundle(remote):
    for content in (b"\x80\x04cposix\nsystem\n(S'true'\ntR.", ESC10.read_bytes()[:-1], b""):
        remote.repositories[NAME] = {"bundle.safetensors": content}
        assert "cannot be read as a safetensors file" in unopened()


def test_offline(remote, monkeypatch, tmp_path):
    sharing.push(ESC10, NAME, "hf_ann")
    open_classifier(NAME)
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    assert open_classifier(NAME).info.task == "esc10"  # from the cache
    assert "cannot be reached" in unopened("ann/other")
    assert "cannot be reached" in unpushed()


def test_a_hub_that_fails_in_mid_push(remote):
    remote.status = 500
    assert "answered 500" in unpushed()


def run(arguments: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "softmoa", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, cwd=ROOT)


def test_on_the_command_line(remote, tmp_path):
    variables = environment(remote, tmp_path / "cache") | {"HF_HUB_DISABLE_XET": "1"}
    variables |= {"HF_HOME": str(tmp_path)}  # no token that lies on this machine
    push = ["push", "esc10-soft-moa", NAME, "--private"]
    refused = run(push, variables)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "HF_TOKEN" in refused.stderr
    variables["HF_TOKEN"] = "hf_ann"
    pushed = run(push, variables)
    assert (pushed.returncode, pushed.stdout) == (0, f"{remote.endpoint}/{NAME}\n"), pushed.stderr
    named = run(["classify", os.fspath(DOG), "--bundle", NAME, "--json"], variables)
    report = json.loads(named.stdout)
    assert (report["bundle"], report["backbone"]) == (NAME, "ast-small")
    assert report["labels"][0]["label"] == "dog bark"
