"""Models of the Hub in the app: a backbone, a bundle, or the embedded one with the reason."""

import re

import gradio as gr
import pytest
from hub_server import point_at
from playwright.sync_api import Page, expect
from test_app import pick_example
from test_hub import NAME, TINY, checkpoint

from softmoa.lens.classifier import bundles
from softmoa.methods import bundle
from softmoa.model.weights import WeightsError
from softmoa.ui import backbones


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    return checkpoint(tmp_path_factory.mktemp("checkpoint"), **TINY)


def open_model(page: Page) -> None:
    if not page.locator("#backbone").is_visible():
        page.locator("#model > button").click()


def name_backbone(page: Page, name: str) -> None:
    open_model(page)
    box = page.locator("#backbone input")
    box.fill(name)
    box.press("Enter")


def test_a_visitor_names_a_model_of_the_hub(page, hub_server, files):
    hub_server.repositories[NAME] = files
    pick_example(page, "dog bark")
    name_backbone(page, NAME)
    expect(page.locator("#stage h2")).to_contain_text("sound")
    expect(page.locator("#backbone")).to_contain_text("2 blocks, 6 labels of its own")
    expect(page.locator("#status")).to_contain_text(NAME)
    expect(page.locator("#stage .experts button").first).to_be_visible()
    name_backbone(page, "ast-small")
    expect(page.locator("#stage h2")).to_contain_text("Bark")


def test_a_model_that_cannot_be_had_leaves_the_embedded_one_with_the_reason(
    page, hub_server, files
):
    pick_example(page, "dog bark")
    name_backbone(page, "lab/nothing")
    notice = page.locator("#backbone")
    expect(notice).to_contain_text("There is no 'lab/nothing' on the Hub")
    expect(notice).to_contain_text("The embedded backbone is used instead.")
    expect(page.locator("#stage h2")).to_contain_text("Bark")
    # Nor is the token of the server lent to visitors.
    hub_server.repositories["owner/secret"] = files
    hub_server.private.add("owner/secret")
    hub_server.tokens["hf_owner"] = "owner"
    name_backbone(page, "owner/secret")
    expect(page.locator("#backbone")).to_contain_text("or it is private")


def test_a_visitor_loads_a_bundle_in_the_browser(page, hub_server):
    hub_server.repositories["lab/pitches"] = {
        "bundle.safetensors": bundles()["tones-soft-moa"].read_bytes()
    }
    pick_example(page, "dog bark")
    open_model(page)
    page.get_by_text("Bundles of the Hugging Face Hub").click()
    page.locator("#hub-bundle textarea, #hub-bundle input").fill("lab/pitches")
    page.locator("#load-bundle").click()
    expect(page.locator("#hub-status")).to_contain_text("lab/pitches is loaded")
    tone = bundle.read_info(bundles()["tones-soft-moa"]).labels[0].split()[0]
    expect(page.locator("#stage h2")).to_contain_text(tone)
    expect(page.locator("#bundle input")).to_have_value(re.compile("lab/pitches"))
    page.locator("#hub-bundle textarea, #hub-bundle input").fill("lab/none")
    page.locator("#load-bundle").click()
    expect(page.locator("#hub-status")).to_contain_text("There is no 'lab/none'")


def last(name: object) -> tuple[str, str]:
    """Value and info of the dropdown after a choice."""
    with gr.Blocks():
        model = backbones.ModelChoice()
    *_, said = model.follow_choice(name)
    assert said[model.bundle].value
    return said[model.backbone]["value"], said[model.backbone]["info"]


@pytest.mark.parametrize("name", ["/etc/passwd", "softmoa", None, "a\nb/c"])
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
