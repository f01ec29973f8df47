"""Bundles on the Hub: pushed and loaded by the real client, against a server of its protocol."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from gradio.oauth import OAuthToken
from hub_server import COMMIT, HubServer
from huggingface_hub import ModelCard, constants
from playwright.sync_api import expect
from safetensors.torch import load_file, save
from test_app import pick_example
from test_hub import environment, point_at

from softmoa import bundle, hub, sharing
from softmoa.bundle import BundleError
from softmoa.card import card
from softmoa.classify import bundles, classify, open_classifier
from softmoa.hub import HubError, Repository
from softmoa.limits import Limits
from softmoa.ui import hub_bundles
from softmoa.ui.backbones import Own, keep_own
from softmoa.ui.texts import hub_bundles as texts
from softmoa.weights import ASSETS

ROOT = Path(__file__).parents[1]
DOG = ASSETS / "examples" / "dog_bark.ogg"
ESC10 = bundles()["esc10-soft-moa"]
NAME = "ann/barks"


@pytest.fixture
def remote(monkeypatch, tmp_path):
    with HubServer(tokens={"hf_ann": "ann", "hf_bob": "bob"}) as remote:
        point_at(monkeypatch, remote.endpoint, tmp_path / "cache")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # not spoken by that server
        yield remote


def refusal(act, kind: type[ValueError] = HubError) -> str:
    with pytest.raises(kind) as error:
        act()
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and "Error" not in message
    return message


def test_push_and_load_back(remote):
    address = sharing.push(ESC10, NAME, "hf_ann")
    assert address == f"{remote.endpoint}/{NAME}"
    files = remote.repositories[NAME]
    assert files.keys() == {"bundle.safetensors", "README.md"} and NAME not in remote.private
    assert files["bundle.safetensors"] == ESC10.read_bytes()
    opened = open_classifier(NAME)
    assert opened.name == NAME and opened.info == bundle.read_info(ESC10)
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


@pytest.mark.parametrize("path", bundles().values(), ids=lambda path: path.stem)
def test_every_bundle_has_a_card_that_can_be_parsed(path):
    info = bundle.read_info(path)
    data = ModelCard(card(info, "a/b")).data
    assert data.model_name == "b" and len(data.eval_results or ()) <= len(info.metrics)


def test_a_private_repository_needs_the_token(remote, monkeypatch):
    sharing.push(ESC10, NAME, "hf_ann", private=True)
    assert remote.private == {NAME}
    assert "or it is private" in refusal(lambda: open_classifier(NAME), BundleError)
    path = sharing.fetch(Repository(NAME), 10, token="hf_ann")
    assert path.read_bytes() == ESC10.read_bytes()


def test_a_second_push_is_what_is_loaded_next(remote):
    sharing.push(ESC10, NAME, "hf_ann")
    assert open_classifier(NAME).info.task == "esc10"
    remote.commit_id = "f" * 40
    sharing.push(bundles()["tones-soft-moa"], NAME, "hf_ann")
    assert open_classifier(NAME).info.task == "tones"
    assert open_classifier(f"{NAME}@{COMMIT}").info.task == "esc10"  # pinned, and in the cache


def test_who_may_not_push_is_told(remote):
    remote.repositories["bob/model"] = {"bundle.safetensors": ESC10.read_bytes()}
    for token in (None, ""):
        assert "HF_TOKEN" in refusal(lambda token=token: sharing.push(ESC10, NAME, token))
    wrong = refusal(lambda: sharing.push(ESC10, NAME, "hf_nobody"))
    others = refusal(lambda: sharing.push(ESC10, "bob/model", "hf_ann"))
    nowhere = refusal(lambda: sharing.push(ESC10, "bob/new", "hf_ann"))
    assert all("check the token" in words for words in (wrong, others, nowhere))
    assert remote.repositories.keys() == {"bob/model"} and remote.uploads == {}


def test_other_repositories_are_left_alone(remote):
    remote.repositories[NAME] = {"README.md": b"mine", "model.safetensors": b"also mine"}
    before = dict(remote.repositories[NAME])
    assert "holds other files" in refusal(lambda: sharing.push(ESC10, NAME, "hf_ann"))
    assert remote.repositories[NAME] == before


def test_what_is_no_bundle_is_not_pushed(remote, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x04K\x01.")
    for path in (tmp_path / "x.safetensors", tmp_path / "none", ASSETS / "ast-small.safetensors"):
        refusal(lambda path=path: sharing.push(path, NAME, "hf_ann"), BundleError)
    for name in ("barks", "ann/barks@v1", "../x/y"):
        refusal(lambda name=name: sharing.push(ESC10, name, "hf_ann"))
    assert remote.log == []


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
def test_a_repository_with_a_corrupt_bundle(remote, content, words):
    remote.repositories[NAME] = {"bundle.safetensors": content}
    assert words in refusal(lambda: open_classifier(NAME), BundleError)


def test_what_is_on_the_hub_but_no_bundle(remote):
    remote.repositories[NAME] = {"pytorch_model.bin": b"\x80\x04K\x01."}
    assert "lacks a file" in refusal(lambda: open_classifier(NAME), BundleError)
    assert "There is no 'ann/nothing'" in refusal(
        lambda: open_classifier("ann/nothing"), BundleError
    )
    assert "There is no bundle 'nothing'" in refusal(
        lambda: open_classifier("nothing"), BundleError
    )
    remote.repositories[NAME] = {"bundle.safetensors": ESC10.read_bytes()}
    assert "at most 0.1 MB" in refusal(lambda: sharing.fetch(Repository(NAME), 0.1))


def test_offline(remote, monkeypatch):
    sharing.push(ESC10, NAME, "hf_ann")
    open_classifier(NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "_silent_until", 0.0)
    assert open_classifier(NAME).info.task == "esc10"  # from the cache
    assert "cannot be reached" in refusal(lambda: open_classifier("ann/other"), BundleError)
    assert "cannot be reached" in refusal(lambda: sharing.push(ESC10, NAME, "hf_ann"))


def test_a_hub_that_fails_in_mid_push(remote):
    remote.status = 500
    assert "answered 500" in refusal(lambda: sharing.push(ESC10, NAME, "hf_ann"))


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


# In the app


@pytest.fixture
def quiet(monkeypatch):
    """Outside of a request there is no page to warn."""
    monkeypatch.setattr(hub_bundles.gr, "Warning", lambda *_: None)
    monkeypatch.setattr(hub_bundles, "_fetched", set())


def last(name: object, own: list[Own] | None = None) -> list:
    *_, outputs = hub_bundles.load_bundle(name, [] if own is None else own)
    return outputs


def test_a_visitor_loads_a_bundle_in_the_browser(page, hub_server):
    hub_server.repositories["lab/pitches"] = {
        "bundle.safetensors": bundles()["tones-soft-moa"].read_bytes()
    }
    pick_example(page, "dog bark")
    page.get_by_text(texts.TITLE).click()
    page.locator("#hub-bundle textarea, #hub-bundle input").fill("lab/pitches")
    page.locator("#load-bundle").click()
    expect(page.locator("#hub-status")).to_contain_text("lab/pitches is loaded", timeout=60_000)
    tone = bundle.read_info(bundles()["tones-soft-moa"]).labels[0].split()[0]
    expect(page.locator("#labels")).to_contain_text(tone, timeout=60_000)
    expect(page.locator("#bundle input")).to_have_value(re.compile("lab/pitches"))
    page.locator("#hub-bundle textarea, #hub-bundle input").fill("lab/none")
    page.locator("#load-bundle").click()
    expect(page.locator("#hub-status")).to_contain_text("There is no 'lab/none'", timeout=60_000)


def test_the_token_of_the_server_is_not_lent(remote, quiet, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    sharing.push(ESC10, NAME, "hf_ann", private=True)
    assert "or it is private" in last(NAME)[0]
    key = f"hub/{NAME}@{COMMIT}"
    open_classifier(NAME)  # the owner's, and in the cache now
    assert hub_bundles.name_of_key(key) is None
    for token in (None, OAuthToken("hf_bob", "write", 2**40)):
        with pytest.raises(gr.Error):
            hub_bundles.publish("esc10-soft-moa", "ann/stolen", False, "mit", token)
    assert remote.repositories.keys() == {NAME}


def test_a_loaded_bundle_is_pinned(remote, quiet):
    sharing.push(ESC10, NAME, "hf_ann")
    own = []
    words, _, base = last(f"{NAME}@v1", own)
    assert words.startswith(f"{NAME}@v1 is loaded") and base == "ast-small"
    [(_, key, _)] = own
    assert key == f"hub/{NAME}@{COMMIT}"
    assert hub_bundles.name_of_key(key) == f"{NAME}@{COMMIT}"


def test_a_bundle_that_comes_while_another_is_fetched_stays(remote, quiet, monkeypatch):
    sharing.push(ESC10, NAME, "hf_ann")
    fetch = sharing.fetch_in_steps

    def slowly(*arguments):
        yield 0, 1
        return (yield from fetch(*arguments))

    monkeypatch.setattr(sharing, "fetch_in_steps", slowly)
    own: list[Own] = []
    steps = hub_bundles.load_bundle(NAME, own)
    next(steps)
    keep_own(own, ("yours", "run/1/soft-moa", "ast-small"))
    *_, (_, bundle, _) = steps
    keys = ["run/1/soft-moa", f"hub/{NAME}@{COMMIT}"]
    assert [key for _, key, _ in own] == [key for _, key in bundle.choices[-2:]] == keys
    assert bundle.value == keys[1]
    last(NAME, own)
    assert [key for _, key, _ in own] == keys


@pytest.mark.parametrize("name", ["", "x", "/etc/passwd", "../a", None, ["a"], "a\nb/c", "x" * 999])
def test_only_names_of_the_hub_are_taken(remote, quiet, name):
    try:
        words = last(name)[0]
    except gr.Error as error:
        words = str(error.message)
    assert words.endswith(".") and "\n" not in words
    assert remote.log == [] and hub_bundles.name_of_key(f"hub/{name}") is None


def test_a_bundle_that_names_a_strange_backbone(remote, quiet):
    info = replace(bundle.read_info(ESC10), base="softmoa/ui", base_sha256="x")  # a folder here
    content = save(load_file(ESC10), bundle.header(info))
    remote.repositories[NAME] = {"bundle.safetensors": content}
    assert "'softmoa/ui', which cannot be had here" in last(NAME)[0]
    lying = replace(info, base="ast-small")
    content = save(load_file(ESC10), bundle.header(lying))
    remote.repositories["ann/lies"] = {"bundle.safetensors": content}
    assert "not on these weights" in last("ann/lies")[0]


def test_a_server_fetches_so_many_bundles(remote, quiet, monkeypatch):
    sharing.push(ESC10, NAME, "hf_ann")
    monkeypatch.setattr(hub_bundles, "LIMITS", Limits(bundles=0))
    assert "its 0 bundles" in last(NAME)[0]


def test_publishing_takes_the_visitors_own_bundle_and_token(remote, quiet, monkeypatch):
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
def test_signing_in_is_offered_where_it_can_work(variables, offered):
    """Not on a Space whose README lacks `hf_oauth: true`, which the page must outlive."""
    pytest.importorskip("authlib", reason="what Spaces install as gradio[oauth] is not installed")
    script = "import app; print(app.build().expects_oauth)"
    built = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | variables, capture_output=True, text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert built.stdout == f"{offered}\n", built.stderr


def test_no_signing_in_elsewhere():
    with gr.Blocks() as demo:
        hub_bundles.build(gr.Dropdown(), gr.Dropdown(), gr.State([]))
    assert not demo.expects_oauth
