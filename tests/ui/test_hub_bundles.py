"""Bundles of the Hub on the page: fetched for a visitor, published with the visitor's own token."""

from dataclasses import replace

import gradio as gr
import pytest
from gradio import oauth
from gradio.oauth import OAuthToken
from hub_server import COMMIT
from safetensors.torch import load_file

from softmoa.data.limits import Limits
from softmoa.lens.classifier import bundles, open_classifier
from softmoa.methods import bundle, sharing
from softmoa.ui import hub_bundles, page
from softmoa.ui.backbones import ModelChoice, Own

ESC10 = bundles()["esc10-soft-moa"]
NAME = "ann/barks"


@pytest.fixture
def quiet(monkeypatch):
    """Outside of a request there is no page to warn."""
    monkeypatch.setattr(hub_bundles.gr, "Warning", lambda *_: None)
    monkeypatch.setattr(hub_bundles, "_fetched", set())


@pytest.fixture
def box(quiet):
    with gr.Blocks():
        return hub_bundles.HubBundles(ModelChoice())


def last(box, name: object, own: list[Own] | None = None) -> dict:
    *_, outputs = box.load_bundle(name, [] if own is None else own)
    return outputs


def test_the_token_of_the_server_is_not_lent(remote, box, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    sharing.push(ESC10, NAME, "hf_ann", private=True)
    assert "or it is private" in last(box, NAME)[box.status]
    key = f"hub/{NAME}@{COMMIT}"
    open_classifier(NAME)  # the owner's, and in the cache now
    assert hub_bundles.name_of_key(key) is None
    for token in (None, OAuthToken("hf_bob", "write", 2**40)):
        with pytest.raises(gr.Error):
            hub_bundles.publish("esc10-soft-moa", "ann/stolen", False, "mit", token)
    assert remote.repositories.keys() == {NAME}


def test_a_loaded_bundle_is_pinned(remote, box):
    sharing.push(ESC10, NAME, "hf_ann")
    own = []
    said = last(box, f"{NAME}@v1", own)
    assert said[box.status].startswith(f"{NAME}@v1 is loaded")
    assert said[box.model.backbone] == "ast-small"
    [(_, key, _)] = own
    assert key == f"hub/{NAME}@{COMMIT}"
    assert hub_bundles.name_of_key(key) == f"{NAME}@{COMMIT}"


@pytest.mark.parametrize("name", ["", "/etc/passwd", None, "a\nb/c"])
def test_only_names_of_the_hub_are_taken(remote, box, name):
    try:
        words = last(box, name)[box.status]
    except gr.Error as error:
        words = str(error.message)
    assert words.endswith(".") and "\n" not in words
    assert remote.log == [] and hub_bundles.name_of_key(f"hub/{name}") is None


def test_a_bundle_that_names_a_strange_backbone(remote, box, tmp_path):
    info = replace(bundle.read_info(ESC10), base="softmoa/ui", base_sha256="x")  # a folder here
    bundle.save(file := tmp_path / "bundle.safetensors", load_file(ESC10), info)
    remote.repositories[NAME] = {file.name: file.read_bytes()}
    assert "'softmoa/ui', which cannot be had here" in last(box, NAME)[box.status]
    bundle.save(file, load_file(ESC10), replace(info, base="ast-small"))
    remote.repositories["ann/lies"] = {file.name: file.read_bytes()}
    assert "not on these weights" in last(box, "ann/lies")[box.status]


def test_a_server_fetches_so_many_bundles(remote, box, monkeypatch):
    sharing.push(ESC10, NAME, "hf_ann")
    monkeypatch.setattr(hub_bundles, "limits", lambda: Limits(bundles=0))
    assert "its 0 bundles" in last(box, NAME)[box.status]


def test_publishing_takes_the_visitors_own_bundle_and_token(remote, box, monkeypatch):
    monkeypatch.setattr(hub_bundles, "bundle_of_key", {"run/1/soft-moa": ESC10}.get)
    token = OAuthToken("hf_bob", "contribute-repos", 2**40)
    for key, to, licence, words in (
        ("esc10-soft-moa", "bob/x", "mit", "bundle of your own"),
        ("run/1/soft-moa", "bob/x", "none", "licence"),
        ("run/1/soft-moa", "bob", "mit", "is written user/name"),
        ("run/1/soft-moa", "ann/x", "mit", "check the token"),
    ):
        with pytest.raises(gr.Error, match=words):
            hub_bundles.publish(key, to, False, licence, token)
    assert remote.repositories == {}
    address = hub_bundles.publish("run/1/soft-moa", "bob/x", True, "mit", token)
    assert address.endswith("/bob/x") and remote.private == {"bob/x"}


SPACE = {"SYSTEM": "spaces", "SPACE_ID": "ann/lab"}
SIGN_IN = {
    "OAUTH_CLIENT_ID": "x",
    "OAUTH_CLIENT_SECRET": "y",
    "OAUTH_SCOPES": "openid profile contribute-repos",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
}


@pytest.mark.parametrize("variables, offered", [(SPACE, False), (SPACE | SIGN_IN, True)])
def test_signing_in_is_offered_where_it_can_work(monkeypatch, variables, offered):
    """Not on a Space whose README lacks `hf_oauth: true`, which the page must outlive."""
    pytest.importorskip("authlib", reason="what Spaces install as gradio[oauth] is not installed")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
        if name in SIGN_IN:
            monkeypatch.setattr(oauth, name, value)  # gradio reads them on import
    assert page.build().expects_oauth == offered
