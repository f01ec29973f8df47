"""Choosing a backbone in the app: fetched from the Hub, or the embedded one with the reason."""

from dataclasses import asdict

import gradio as gr
import pytest
import torch
from hub_server import COMMIT, HubServer, point_at
from playwright.sync_api import Page, expect
from test_app import pick_example
from test_hub import NAME, TINY, checkpoint

from softmoa.data import hub
from softmoa.data.hub import Repository
from softmoa.data.limits import Limits
from softmoa.methods import METHODS, attach, bundle, share
from softmoa.methods.bundle import BundleInfo
from softmoa.model import weights
from softmoa.model.weights import WeightsError
from softmoa.ui import backbones, explore, hub_bundles


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    return checkpoint(tmp_path_factory.mktemp("checkpoint"), **TINY)


def name_backbone(page: Page, name: str) -> None:
    if not page.locator("#backbone").is_visible():
        page.locator("#model > button").click()
    box = page.locator("#backbone input")
    box.fill(name)
    box.press("Enter")


def test_a_visitor_names_a_model_of_the_hub(page, hub_server, files):
    hub_server.repositories[NAME] = files
    pick_example(page, "dog bark")
    name_backbone(page, NAME)
    expect(page.locator("#stage h2")).to_contain_text("sound", timeout=60_000)
    expect(page.locator("#backbone")).to_contain_text("2 blocks, 6 labels of its own")
    expect(page.locator("#status")).to_contain_text(NAME)
    expect(page.locator("#stage .experts button").first).to_be_visible()
    name_backbone(page, "ast-small")
    expect(page.locator("#stage h2")).to_contain_text("Bow-wow", timeout=60_000)


def test_a_model_that_cannot_be_had_leaves_the_embedded_one_with_the_reason(
    page, hub_server, files
):
    pick_example(page, "dog bark")
    name_backbone(page, "lab/nothing")
    notice = page.locator("#backbone")
    expect(notice).to_contain_text("There is no 'lab/nothing' on the Hub", timeout=60_000)
    expect(notice).to_contain_text("The embedded backbone is used instead.")
    expect(page.locator("#stage h2")).to_contain_text("Bow-wow")
    # Nor is the token of the server lent to visitors.
    hub_server.repositories["owner/secret"] = files
    hub_server.private.add("owner/secret")
    hub_server.tokens["hf_owner"] = "owner"
    name_backbone(page, "owner/secret")
    expect(page.locator("#backbone")).to_contain_text("or it is private", timeout=60_000)


def last(name: object) -> tuple[str, str]:
    """Value and info of the dropdown after a choice."""
    with gr.Blocks():
        model = backbones.ModelChoice()
    *_, said = model.follow_choice(name)
    assert said[model.bundle].value
    return said[model.backbone]["value"], said[model.backbone]["info"]


def test_offline_the_embedded_backbone_is_used(monkeypatch, tmp_path):
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    monkeypatch.setattr(backbones.gr, "Warning", lambda *_: None)  # no page to show it on
    for name in ("ast-base", "lab/tiny"):
        value, info = last(name)
        assert value == "ast-small" and "cannot be reached" in info and "instead" in info


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "softmoa", None, ["a"], "a\nb/c"])
def test_only_names_of_the_hub_are_taken(monkeypatch, name):
    monkeypatch.setattr(backbones.gr, "Warning", lambda *_: None)
    value, info = last(name)
    assert value == "ast-small" and "is written user/name" in info
    with pytest.raises(WeightsError, match="is written user/name"):
        backbones.opened_name(name)


def test_a_folder_of_the_server_is_not_a_backbone(monkeypatch, tmp_path):
    """softmoa/ui is a folder here, and reads like a name of the Hub."""
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    for name in ("softmoa/ui", "ast-base"):
        with pytest.raises(WeightsError, match="so that it is fetched first"):
            backbones.opened_name(name)


def test_a_server_fetches_so_many_models(monkeypatch, tmp_path):
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    monkeypatch.setattr(backbones.gr, "Warning", lambda *_: None)
    monkeypatch.setattr(backbones, "limits", lambda: Limits(models=1))
    monkeypatch.setattr(backbones, "_fetched", {Repository("lab/first")})
    _, info = last("lab/second")
    assert "fetched its 1 models" in info and "lab/first" in info
    assert hub.cached(Repository("lab/second"), ["config.json"]) is None


@pytest.fixture
def no_memory():
    """What other tests have loaded is forgotten, and what this one loads."""
    caches = backbones.first_model, weights.load_backbone, explore.opening
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_with_a_gpu_the_page_opens_on_the_first_published_bundle_of_the_base(
    files, monkeypatch, tmp_path, no_memory
):
    base = weights.BACKBONES["ast-base"].hub
    with HubServer({base: files}) as server:
        point_at(monkeypatch, server.endpoint, tmp_path / "cache")
        monkeypatch.setattr(backbones.device, "default", lambda: torch.device("cuda"))
        monkeypatch.setattr(weights.device, "place", lambda model, name: model)
        first = backbones.first_model()  # none is published
        assert (first.backbone, first.key) == ("ast-small", "tags")
        assert "No bundle of AST base is published yet" in first.about
        loaded = weights.load_backbone("ast-base")
        model = share(loaded.model)
        attach(model, "soft-moa", METHODS["soft-moa"].options(), 2)
        info = BundleInfo("moa", "toy", "soft-moa", asdict(METHODS["soft-moa"].options()),
                          ("cat", "dog"), "ast-base", loaded.sha256)  # fmt: skip
        bundle.save(tmp_path / "bundle.safetensors", model, info)
        content = (tmp_path / "bundle.safetensors").read_bytes()
        server.repositories["lab/moa"] = {"bundle.safetensors": content}
        monkeypatch.setattr(backbones.classifier, "FOR_GPU", ("lab/none", "lab/moa"))
        backbones.first_model.cache_clear()
        first = backbones.first_model()
        assert (first.backbone, first.key) == ("ast-base", f"hub/lab/moa@{COMMIT}")
        assert explore.opening().classifier.labels == ("cat", "dog")
        with gr.Blocks():
            model = backbones.ModelChoice()
            hub_bundles.HubBundles(model)
        assert model.bundle.value == first.key and model.backbone.value == "ast-base"
        assert hub_bundles.name_of_key(first.key) == f"lab/moa@{COMMIT}"
