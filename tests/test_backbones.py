"""Choosing a backbone in the app: fetched from the Hub, or the embedded one with the reason."""

import pytest
from playwright.sync_api import Page, expect
from test_app import pick_example
from test_hub import NAME, TINY, checkpoint, point_at

from softmoa import hub
from softmoa.hub import Repository
from softmoa.limits import Limits
from softmoa.ui import backbones
from softmoa.weights import WeightsError


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    return checkpoint(tmp_path_factory.mktemp("checkpoint"), **TINY)


def name_backbone(page: Page, name: str) -> None:
    box = page.locator("#backbone input")
    box.fill(name)
    box.press("Enter")


def test_a_visitor_names_a_model_of_the_hub(page, hub_server, files):
    hub_server.repositories[NAME] = files
    pick_example(page, "dog bark")
    name_backbone(page, NAME)
    expect(page.locator("#labels")).to_contain_text("sound", timeout=60_000)
    expect(page.locator("#backbone")).to_contain_text("2 blocks, 6 labels of its own")
    expect(page.locator("#status")).to_contain_text(NAME)
    expect(page.locator("#overlay [data-token]").first).to_be_attached()
    name_backbone(page, "ast-small")
    expect(page.locator("#labels")).to_contain_text("Dog", timeout=60_000)


def test_a_model_that_cannot_be_had_leaves_the_embedded_one_with_the_reason(page, hub_server):
    pick_example(page, "dog bark")
    name_backbone(page, "lab/nothing")
    notice = page.locator("#backbone")
    expect(notice).to_contain_text("There is no 'lab/nothing' on the Hub", timeout=60_000)
    expect(notice).to_contain_text("The embedded backbone is used instead.")
    expect(page.locator("#labels")).to_contain_text("Dog")


def test_the_token_of_the_server_is_not_lent_to_visitors(page, hub_server, files):
    hub_server.repositories["owner/secret"] = files
    hub_server.private.add("owner/secret")
    hub_server.tokens["hf_owner"] = "owner"
    name_backbone(page, "owner/secret")
    expect(page.locator("#backbone")).to_contain_text("or it is private", timeout=60_000)


def last(name: object) -> tuple[str, str]:
    """Value and info of the dropdown after a choice."""
    *_, (backbone, bundle) = backbones.follow_choice(name)
    assert bundle.value
    return backbone["value"], backbone["info"]


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
    monkeypatch.setattr(backbones, "LIMITS", Limits(models=1))
    monkeypatch.setattr(backbones, "_fetched", {Repository("lab/first")})
    _, info = last("lab/second")
    assert "fetched its 1 models" in info and "lab/first" in info
    assert hub.cached(Repository("lab/second"), ["config.json"]) is None
