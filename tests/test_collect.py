"""The tab "Your sounds" in a real browser with a real (fake-device) microphone; its handlers."""

import time
import zipfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import soundfile
from conftest import launch
from playwright.sync_api import Page, expect

from softmoa import collection
from softmoa.bundle import read_info
from softmoa.tasks import own
from softmoa.ui import collect, collect_train

PITCH = {"low": 300, "high": 2500}
TAKES = 5


def sound(label: str, take: int, seconds: float = 6.0) -> np.ndarray:
    """Beeps of a class at 48 kHz, a little different in every take, with a faint background."""
    time_axis = np.arange(int(48_000 * seconds)) / 48_000
    beeps = np.sin(2 * np.pi * PITCH[label] * (1 + 0.02 * take) * time_axis)
    beeps *= np.sin(2 * np.pi * 2 * time_axis) > 0
    return 0.4 * beeps + np.random.default_rng(take).normal(0, 0.003, len(time_axis))


@pytest.fixture
def microphone(tmp_path) -> Path:
    """What the microphone hears; may be written anew between recordings."""
    path = tmp_path / "microphone.wav"
    soundfile.write(path, sound("low", 0), 48_000)
    return path


@pytest.fixture
def tab(browser, server, microphone):
    """The tab in a browser of its own, with `microphone`."""
    own_browser = launch(browser.browser_type, microphone)
    page = own_browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(server[0])
    page.get_by_role("tab", name="Your sounds").click()
    yield page
    own_browser.close()
    assert complaints == []


def add_class(page: Page, label: str) -> None:
    page.locator("#class-name").get_by_role("textbox").fill(label)
    page.locator("#add-class").click()
    expect(page.locator("#take-class label", has_text=label)).to_be_visible(timeout=30_000)


def take(page: Page, label: str, number: int):
    return page.locator(f"#takes button[aria-label='{label}, take {number}']")


@pytest.fixture
def beeps(tmp_path) -> Path:
    """A zip of two classes, each of five clips of 0.6 s."""
    path = tmp_path / "beeps.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for label in PITCH:
            for k in range(TAKES):
                clip = tmp_path / "clip.wav"
                soundfile.write(clip, sound(label, k, 0.6), 48_000)
                zipped.write(clip, f"Beeps/{label}/{k}.WAV")
    return path


def test_two_classes_of_five_takes_become_a_live_classifier_in_two_minutes(
    tab, microphone, tmp_path
):
    began = time.monotonic()
    for label in PITCH:
        add_class(tab, label)
        for k in range(1, TAKES + 1):
            soundfile.write(microphone, sound(label, k), 48_000)
            tab.locator("#record-take").click()
            expect(take(tab, label, k)).to_be_visible(timeout=60_000)
    expect(tab.locator("#division")).to_contain_text("low311")
    tab.locator("#train").click()
    expect(tab.locator("#test-sound")).to_be_visible(timeout=120_000)
    assert time.monotonic() - began < 120
    expect(tab.locator("#training")).to_contain_text("Soft-MoA")
    expect(tab.locator("#training")).to_contain_text("2 test clips")

    for label in PITCH:
        soundfile.write(microphone, sound(label, 7), 48_000)
        tab.locator("#test-sound .record-button").click()
        tab.wait_for_timeout(2000)
        tab.locator("#test-sound .stop-button:visible").first.click()
        expect(tab.locator("#test-answer h2")).to_have_text(label, timeout=60_000)
        tab.locator("#test-sound").get_by_label("Clear").click()

    soundfile.write(microphone, sound("high", 8), 48_000)
    tab.locator("#live .record-button").click()
    expect(tab.locator("#live-answer h2")).to_have_text("high", timeout=60_000)
    tab.locator("#live .stop-button:visible").first.click()

    for button, name in (("#save-takes", "takes.zip"), ("#take-home", "home.safetensors")):
        with tab.expect_download() as download:
            tab.locator(button).click()
        download.value.save_as(tmp_path / name)
    assert read_info(tmp_path / "home.safetensors").labels == ("high", "low")
    with own.opened(tmp_path / "takes.zip") as mine:
        assert mine.task.counts == {"train": (3, 3), "valid": (1, 1), "test": (1, 1)}


def test_a_zip_is_added_and_its_takes_chosen_recorded_again_and_deleted(
    tab, server, beeps, microphone
):
    with tab.expect_file_chooser() as chooser:
        tab.locator("#upload-zip").click()
    chooser.value.set_files(beeps)
    expect(take(tab, "high", 5)).to_be_visible(timeout=60_000)
    expect(tab.locator("#collect-status")).to_contain_text("Added 10 clips of 2 classes")
    assert not [path for path in server[1].rglob("*.zip") if path.name == beeps.name]
    take(tab, "low", 2).click()
    expect(take(tab, "low", 2)).to_have_attribute("aria-pressed", "true")
    expect(tab.locator("#player")).to_be_visible()
    tab.locator("#again").click()
    expect(tab.locator("#collect-status")).to_contain_text("Added take 5 of 'low'", timeout=60_000)
    expect(take(tab, "low", 6)).to_have_count(0)
    take(tab, "high", 5).click()
    expect(take(tab, "high", 5)).to_have_attribute("aria-pressed", "true")
    tab.locator("#delete-take").click()
    expect(take(tab, "high", 5)).to_have_count(0)
    expect(tab.locator("#division")).to_contain_text("high211")
    tab.locator("#race").click()
    expect(tab.locator("#task")).to_be_visible(timeout=30_000)
    tab.locator("#task input").click()
    expect(tab.get_by_role("option", name="Your sounds: high, low")).to_be_visible(timeout=30_000)
    tab.keyboard.press("Escape")
    tab.get_by_role("tab", name="Your sounds").click()
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.locator("#clear-takes").click()
    expect(tab.locator("#takes")).to_contain_text("No takes yet")


@pytest.fixture
def mine(beeps, tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "ROOT", tmp_path / "collections")
    return collection.new(30).add_zip(beeps, collect.DATA)


def test_stopping_a_training_ends_it_and_a_second_one_works(mine):
    first = collect_train.train_all(mine)
    shown = [next(first) for _ in range(3)]
    first.close()
    assert all('class="bar"' in step[0] for step in shown)
    *_, last = collect_train.train_all(mine)
    trained = last[3]
    assert set(trained.files) == set(collect_train.METHODS_TRAINED)
    assert last[2].value in trained.files
    clip = mine.rows[0]
    answer = collect_train.name_sound(trained, "soft-moa", str(clip.path))
    assert max(answer, key=answer.get) == clip.label and sum(answer.values()) == pytest.approx(1)


def test_the_live_window_is_the_last_moment_of_the_microphone(mine):
    *_, last = collect_train.train_all(mine)
    heard, answer = None, None
    for k in range(4):
        chunk = (48_000, (32767 * sound("high", k, 0.5)).astype(np.int16))
        heard, answer = collect_train.listen(last[3], "linear", chunk, heard)
    assert len(heard) == int(collect_train.WINDOW * 16_000)
    assert max(answer, key=answer.get) == "high"
    assert collect_train.listen(None, "linear", chunk, None)[1] is None


def test_a_refused_upload_does_not_stay(mine, tmp_path):
    bad = tmp_path / "bad.zip"
    bad.write_text("no zip")
    *_, says = collect.add_zip(mine, "low", str(bad))
    assert "not a zip" in says and not bad.exists()


def test_what_a_stranger_sends_is_checked(mine):
    with pytest.raises(gr.Error, match="Train first"):
        collect_train.name_sound(None, "soft-moa", "x.wav")
    [idle] = collect_train.train_all(None)
    assert idle[-2].visible and not idle[-1].visible
    assert all(value == gr.skip() for value in collect.drop(mine, "low", 99))
