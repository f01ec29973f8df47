"""The real app in a real server process, driven in a real browser."""

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import soundfile
from gradio.route_utils import delete_files_created_by_app
from playwright.sync_api import Page, expect

from softmoa.cli import main
from softmoa.data import collection
from softmoa.lens.classifier import DEFAULT_BUNDLE, bundles, open_classifier
from softmoa.lens.classify import classify
from softmoa.model.weights import ASSETS
from softmoa.ui import comparing, explore, explore_files
from softmoa.ui import page as the_page
from softmoa.ui.examples import clip_name, gallery
from softmoa.ui.texts import explore as texts

ROOT = Path(__file__).parents[2]
EXAMPLES = ASSETS / "examples"
TONE_HZ = 1234


def pick_example(page: Page, name: str) -> None:
    """Press an example and wait until the stage shows it; the page opens on the trumpet."""
    clip, stage = page.locator("#clip textarea"), page.locator("#stage .stage")
    expect(stage).to_have_attribute("data-opened", re.compile("[1-9]"))
    if clip.input_value() != name.replace(" ", "_"):
        with new_clip(page):
            page.locator("#examples button", has_text=name).click()


def download(page: Page, button: str, folder: Path) -> Path:
    """What a button has the browser keep."""
    with page.expect_download() as waiting:
        page.locator(button).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


@contextmanager
def new_clip(page: Page):
    """Wait until the stage shows another clip than before the block."""
    stage = page.locator("#stage .stage[data-empty=false]")
    before = page.locator("#stage .stage").get_attribute("data-opened")
    yield
    expect(stage).to_have_attribute("data-opened", re.compile(rf"^(?!{before}$)"))


def upload(page: Page, path: Path) -> None:
    page.locator("#sound").get_by_label("Upload file").click()
    page.locator("#sound input[type=file]").set_input_files(path)


def test_a_zip_is_told_where_to_go(new_page, tmp_path):
    (tmp_path / "sounds.zip").write_bytes(b"PK")
    new_page.locator("#sound").get_by_label("Clear").click()
    upload(new_page, tmp_path / "sounds.zip")
    expect(new_page.locator(".toast-body")).to_contain_text(texts.ZIP)


def test_the_page_opens_on_an_answer(page):
    result = classify(open_classifier(), EXAMPLES / "trumpet.ogg")
    expect(page.locator("#stage h2")).to_contain_text(str(result.headline()))
    expect(page.locator("#stage .experts button")).to_have_count(7)
    assert page.locator("#stage .area").bounding_box()["y"] < 500
    before = page.evaluate(
        "document.body.innerText.split(document.querySelector('#stage h2').innerText)[0]"
    )
    assert len(before.split()) < 80  # with the names of tabs and examples


def test_downloads(page, tmp_path):
    pick_example(page, "bell")
    content = {}
    for kind in ("png", "csv", "json"):
        path = download(page, f"#make-{kind}", tmp_path)
        content[path.suffix] = path.read_bytes()
    assert content[".png"].startswith(b"\x89PNG") and len(content[".png"]) > 50_000
    assert content[".csv"].startswith(b"layer,site,expert,slot,token")
    assert len(json.loads(content[".json"])["mixtures"]) == 6


def test_the_microphone_is_recorded_and_classified(page, server):
    before = set(server[1].rglob("*.wav"))
    page.locator("#sound").get_by_label("Clear").click()
    page.locator("#sound .record-button").click()
    page.wait_for_timeout(2500)
    with new_clip(page):
        page.locator("#sound .stop-button:visible").first.click()
    expect(page.locator("#status")).to_contain_text("s of sound")
    [recorded] = set(server[1].rglob("*.wav")) - before
    samples, rate = soundfile.read(recorded)
    assert rate == 16_000 and samples.ndim == 1 and len(samples) > rate
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    peak = spectrum.argmax() * rate / (8 * len(samples))
    assert abs(peak - TONE_HZ) < 2


def test_an_upload_is_classified_and_a_bad_one_gets_one_sentence(page, problems, tmp_path):
    with new_clip(page):
        upload(page, EXAMPLES / "speech.flac")
    expect(page.locator("#stage h2")).to_contain_text("Speech")
    page.locator("#numbers > button").click()
    expect(page.locator("#contributions")).to_contain_text("All layers")
    page.locator("#sound").get_by_label("Clear").click()
    expect(page.locator("#status")).to_contain_text("Record or upload a sound")
    expect(page.locator("#stage .area")).to_be_hidden()
    fake = tmp_path / "song.wav"
    fake.write_text("this is a text")
    upload(page, fake)
    sentence = "This is not a sound file that can be read"
    expect(page.locator("#status")).to_contain_text(sentence)
    expect(page.locator(".toast-body")).to_contain_text(sentence)
    expect(page.locator("#stage .area")).to_be_hidden()
    page.wait_for_timeout(500)
    # The browser's own player cannot read the file either, and says so.
    assert set(problems) <= {"Waveform load error: MediaError"}
    problems.clear()


@pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")  # gradio's
def test_a_command_that_cannot_serve_ends_with_that_sentence(capsys, tmp_path, monkeypatch):
    command = [sys.executable, "app.py", "--port", "99999"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert (ended.returncode, ended.stdout) == (2, "")
    words = "Invalid value for '--port': Input should be less than or equal to 65535"
    assert ended.stderr == f"Error: {words}\n"

    monkeypatch.setenv("SOFTMOA_RUNS", str(tmp_path))  # else another server is told of
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        assert main(["app", "--port", taken]) == 2
    words = f"Cannot serve on port {taken}: choose another one with --port."
    assert capsys.readouterr() == ("", f"Error: {words}\n")


def test_every_bundle_has_clips_of_its_own_to_try(go):
    page = go("?tab=explore&bundle=digits-soft-moa")
    names = page.locator("#examples button")
    expect(names.first).to_have_text("zero")
    assert names.all_inner_texts() == list(open_classifier("digits-soft-moa").labels)
    with new_clip(page):
        names.get_by_text("seven").click()
    expect(page.locator("#stage h2")).to_contain_text("seven")


def test_the_clips_to_try_are_what_their_bundles_hear_in_them():
    """Of the sounds and digits that are no part of the tasks' own folders."""
    for task, most in (("esc10", 9), ("digits", 8)):
        classifier = open_classifier(f"{task}-soft-moa")
        heard = [
            classify(classifier, path).top(1)[0][0] for path in gallery(f"{task}-soft-moa").values()
        ]
        assert sum(map(str.__eq__, heard, classifier.labels)) >= most
    for bundle in bundles():
        assert all(path.exists() for path in gallery(bundle).values())
    assert gallery("nobody's").keys() == gallery("tags").keys() >= {"dog bark", "rooster"}


def test_the_examples_outlive_the_sweep_of_what_was_sent(demo):
    [sound] = [block for block in demo.blocks.values() if block.elem_id == "sound"]
    copies = [Path(path) for path in sound.temp_files]
    clips = {clip for bundle in bundles() for clip in gallery(bundle).values()}
    assert len(copies) == len(clips) and all(path.exists() for path in copies)
    delete_files_created_by_app(demo, 0)
    assert all(path.exists() for path in copies)


def test_a_sound_that_was_swept_away_is_said(tmp_path):
    gone = str(tmp_path / "dog_bark.ogg")
    with gr.Blocks(), gr.Tab() as tab:
        view = explore.Explored(tab)
    said = view.run_model(gone, DEFAULT_BUNDLE, "ast-small")
    assert said[view.status] == explore.GONE and said[view.result] is None
    assert clip_name(gone) == ""


def test_nothing_waits_for_another_visitor_to_be_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "ROOT", tmp_path / "takes")
    monkeypatch.setattr(explore_files, "EXPORTS", tmp_path / "exports")
    monkeypatch.setattr(comparing, "runs", lambda: tmp_path / "runs")
    the_page.sweep()  # there is nothing yet
    for name in ("takes", "exports", "runs"):
        for age in ("old", "new"):
            (tmp_path / name / age).mkdir(parents=True)
            log = tmp_path / name / age / "events.jsonl"
            log.touch()
            if age == "old":
                os.utime(log, (0, 0))
                os.utime(log.parent, (0, 0))
    the_page.sweep()
    assert {path.name for path in tmp_path.glob("*/*")} == {"new"}


def test_a_sweep_that_fails_does_not_keep_the_others(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(24, "Too many open files")

    swept = []
    monkeypatch.setattr(the_page.folders, "sweep", fail)
    monkeypatch.setattr(comparing, "sweep", lambda: swept.append("runs"))
    the_page.sweep()
    assert swept == ["runs"] and caplog.text.count("a sweep failed") == 2
