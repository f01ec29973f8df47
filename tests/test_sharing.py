"""Bundles on the Hub: pushed and loaded by the real client, against a server of its protocol."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import COMMIT, HubServer
from huggingface_hub import ModelCard, constants
from test_hub import environment, point_at

from softmoa import bundle, hub, sharing
from softmoa.bundle import BundleError
from softmoa.card import card
from softmoa.classify import bundles, classify, open_classifier
from softmoa.hub import HubError, Repository
from softmoa.weights import ASSETS

ROOT = Path(__file__).parents[1]
DOG = ASSETS / "examples" / "dog_bark.ogg"
ESC10 = bundles()["esc10-soft-moa"]
NAME = "ann/barks"


@pytest.fixture
def server(monkeypatch, tmp_path):
    with HubServer(tokens={"hf_ann": "ann", "hf_bob": "bob"}) as server:
        point_at(monkeypatch, server.endpoint, tmp_path / "cache")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # not spoken by that server
        yield server


def refusal(act, kind: type[ValueError] = HubError) -> str:
    with pytest.raises(kind) as error:
        act()
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and "Error" not in message
    return message


def test_push_and_load_back(server):
    address = sharing.push(ESC10, NAME, "hf_ann")
    assert address == f"{server.endpoint}/{NAME}"
    files = server.repositories[NAME]
    assert files.keys() == {"bundle.safetensors", "README.md"} and NAME not in server.private
    assert files["bundle.safetensors"] == ESC10.read_bytes()
    opened = open_classifier(NAME)
    assert opened.name == NAME and opened.info == bundle.read_info(ESC10)
    [here, there] = (classify(c, DOG).logits for c in (open_classifier(), opened))
    assert here.equal(there)


def test_the_card_says_what_it_is(server):
    sharing.push(ESC10, NAME, "hf_ann", licence="cc-by-4.0")
    text, info = server.repositories[NAME]["README.md"].decode(), bundle.read_info(ESC10)
    data = ModelCard(text).data  # the Hub's own parser
    assert (data.license, data.library_name) == ("cc-by-4.0", "softmoa")
    assert data.pipeline_tag == "audio-classification" and "soft-moa" in data.tags
    measured = {result.metric_name: result.metric_value for result in data.eval_results}
    assert measured["test accuracy"] == info.metrics["test_accuracy"]
    assert json.loads(text.split("```json\n")[1].split("```")[0]) == list(info.labels)
    for words in ("## Data", "## Method", "## Metrics", "## Licence", "## Citation", "@inproc",
                  f"--bundle {NAME}", info.base_sha256, "`experts` | 7"):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("path", bundles().values(), ids=lambda path: path.stem)
def test_every_bundle_has_a_card_that_can_be_parsed(path):
    info = bundle.read_info(path)
    data = ModelCard(card(info, "a/b")).data
    assert data.model_name == "b" and len(data.eval_results or ()) <= len(info.metrics)


def test_a_private_repository_needs_the_token(server, monkeypatch):
    sharing.push(ESC10, NAME, "hf_ann", private=True)
    assert server.private == {NAME}
    assert "or it is private" in refusal(lambda: open_classifier(NAME), BundleError)
    path = sharing.fetch(Repository(NAME), 10, token="hf_ann")
    assert path.read_bytes() == ESC10.read_bytes()


def test_a_second_push_is_what_is_loaded_next(server):
    sharing.push(ESC10, NAME, "hf_ann")
    assert open_classifier(NAME).info.task == "esc10"
    server.commit_id = "f" * 40
    sharing.push(bundles()["tones-soft-moa"], NAME, "hf_ann")
    assert open_classifier(NAME).info.task == "tones"
    assert open_classifier(f"{NAME}@{COMMIT}").info.task == "esc10"  # pinned, and in the cache


def test_who_may_not_push_is_told(server):
    server.repositories["bob/model"] = {"bundle.safetensors": ESC10.read_bytes()}
    for token in (None, ""):
        assert "HF_TOKEN" in refusal(lambda token=token: sharing.push(ESC10, NAME, token))
    wrong = refusal(lambda: sharing.push(ESC10, NAME, "hf_nobody"))
    others = refusal(lambda: sharing.push(ESC10, "bob/model", "hf_ann"))
    nowhere = refusal(lambda: sharing.push(ESC10, "bob/new", "hf_ann"))
    assert all("check the token" in words for words in (wrong, others, nowhere))
    assert server.repositories.keys() == {"bob/model"} and server.uploads == {}


def test_other_repositories_are_left_alone(server):
    server.repositories[NAME] = {"README.md": b"mine", "model.safetensors": b"also mine"}
    before = dict(server.repositories[NAME])
    assert "holds other files" in refusal(lambda: sharing.push(ESC10, NAME, "hf_ann"))
    assert server.repositories[NAME] == before


def test_what_is_no_bundle_is_not_pushed(server, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x04K\x01.")
    for path in (tmp_path / "x.safetensors", tmp_path / "none", ASSETS / "ast-small.safetensors"):
        refusal(lambda path=path: sharing.push(path, NAME, "hf_ann"), BundleError)
    for name in ("barks", "ann/barks@v1", "../x/y"):
        refusal(lambda name=name: sharing.push(ESC10, name, "hf_ann"))
    assert server.log == []


@pytest.mark.parametrize(
    "content, words",
    [
        (b"\x80\x04cposix\nsystem\n(S'true'\ntR.", "cannot be read as a safetensors file"),
        (ESC10.read_bytes()[:3000], "cannot be read as a safetensors file"),
        (ESC10.read_bytes()[:-1], "cannot be read as a safetensors file"),
        (b"", "cannot be read as a safetensors file"),
        ((ASSETS / "ast-small.safetensors").read_bytes()[:3000], "cannot be read"),
    ],
    ids=["a pickle", "cut", "cut by a byte", "empty", "another file"],
)
def test_a_repository_with_a_corrupt_bundle(server, content, words):
    server.repositories[NAME] = {"bundle.safetensors": content}
    assert words in refusal(lambda: open_classifier(NAME), BundleError)


def test_what_is_on_the_hub_but_no_bundle(server):
    server.repositories[NAME] = {"pytorch_model.bin": b"\x80\x04K\x01."}
    assert "lacks a file" in refusal(lambda: open_classifier(NAME), BundleError)
    assert "There is no 'ann/nothing'" in refusal(
        lambda: open_classifier("ann/nothing"), BundleError
    )
    assert "There is no bundle 'nothing'" in refusal(
        lambda: open_classifier("nothing"), BundleError
    )
    server.repositories[NAME] = {"bundle.safetensors": ESC10.read_bytes()}
    assert "at most 0.1 MB" in refusal(lambda: sharing.fetch(Repository(NAME), 0.1))


def test_offline(server, monkeypatch):
    sharing.push(ESC10, NAME, "hf_ann")
    open_classifier(NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "_silent_until", 0.0)
    assert open_classifier(NAME).info.task == "esc10"  # from the cache
    assert "cannot be reached" in refusal(lambda: open_classifier("ann/other"), BundleError)
    assert "cannot be reached" in refusal(lambda: sharing.push(ESC10, NAME, "hf_ann"))


def test_a_hub_that_fails_in_mid_push(server):
    server.status = 500
    assert "answered 500" in refusal(lambda: sharing.push(ESC10, NAME, "hf_ann"))


def run(arguments: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "softmoa", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, cwd=ROOT)


def test_on_the_command_line(server, tmp_path):
    variables = environment(server, tmp_path / "cache") | {"HF_HUB_DISABLE_XET": "1"}
    variables |= {"HF_HOME": str(tmp_path)}  # no token that lies on this machine
    push = ["push", "esc10-soft-moa", NAME, "--private"]
    refused = run(push, variables)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "HF_TOKEN" in refused.stderr
    variables["HF_TOKEN"] = "hf_ann"
    pushed = run(push, variables)
    assert (pushed.returncode, pushed.stdout) == (0, f"{server.endpoint}/{NAME}\n"), pushed.stderr
    named = run(["classify", os.fspath(DOG), "--bundle", NAME, "--json"], variables)
    report = json.loads(named.stdout)
    assert (report["bundle"], report["backbone"]) == (NAME, "ast-small")
    assert report["labels"][0]["label"] == "dog bark"
