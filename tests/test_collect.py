"""The tab "Your sounds" in a real browser with a real (fake-device) microphone; its handlers."""

import asyncio
import errno
import os
import shutil
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import soundfile
from gradio.state_holder import SessionState
from playwright.sync_api import Page, expect
from test_accessibility import violations
from test_collection import add_zip
from test_hostile import call, sent, upload

from analysis.running_app import browser_options
from softmoa import collection
from softmoa.bundle import read_info
from softmoa.collection import Current
from softmoa.tasks import own
from softmoa.ui import collect, collect_train
from softmoa.ui.examples import example_clips
from softmoa.ui.microphone import Heard, Shown
from softmoa.weights import ASSETS

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
    own_browser = browser.browser_type.launch(**browser_options(microphone))
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
    tab, server, microphone, tmp_path
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
    began = time.monotonic()  # who listens keeps nobody waiting
    dog = sent(upload(server[0], (ASSETS / "examples" / "dog_bark.ogg").read_bytes()))
    assert call(server[0], "classify", [dog, "esc10-soft-moa", 1])[0] == "complete"
    assert time.monotonic() - began < 10
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
    add_class(tab, "whistel")
    expect(tab.locator("#collect-status")).to_contain_text("'whistel' has no clips yet")
    tab.locator("#remove-class").click()
    expect(tab.locator("#takes")).not_to_contain_text("whistel")
    expect(tab.locator("#division")).to_contain_text("high211")
    tab.locator("#take-class").get_by_text("low").click()
    tab.locator("#remove-class").click()
    expect(tab.locator("#remove-class")).to_have_text("Yes, remove 'low' (takes: 5)")
    tab.locator("#take-class").get_by_text("high").click()
    expect(tab.locator("#remove-class")).to_have_text("Remove this class")
    tab.locator("#clear-takes").click()
    expect(tab.locator("#clear-takes")).to_have_text("Yes, delete all classes (takes: 9)")
    expect(take(tab, "low", 5)).to_be_visible()
    tab.locator("#remove-class").click()
    expect(tab.locator("#remove-class")).to_contain_text("Yes, remove 'high'")
    tab.mouse.move(0, 0)
    tab.evaluate("Promise.all(document.getAnimations().map(one => one.finished))")  # its colours
    assert not [found for found in violations(tab) if "remove-class" in found or "clear" in found]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.locator("#clear-takes").click()
    expect(tab.locator("#takes")).to_contain_text("No takes yet")
    expect(tab.locator("#remove-class")).to_have_count(0)
    add_class(tab, "again")


@pytest.fixture
def mine(beeps, tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "ROOT", tmp_path / "collections")
    return Current(add_zip(collection.new(30), beeps, collect.DATA))


def test_stopping_a_training_ends_it_and_a_second_one_works(mine):
    first = collect_train.train_all(mine)
    shown = [next(first) for _ in range(3)]
    first.close()
    assert all('class="bar"' in step[0] for step in shown)
    *_, last = collect_train.train_all(mine)
    trained = last[3]
    assert set(trained.files) == set(collect_train.METHODS_TRAINED)
    assert last[2].value in trained.files
    clip = mine.now.rows[0]
    answer = collect_train.name_sound(trained, "soft-moa", str(clip.path))
    assert max(answer, key=answer.get) == clip.label and sum(answer.values()) == pytest.approx(1)


def test_the_live_window_is_the_last_moment_of_the_microphone(mine):
    *_, last = collect_train.train_all(mine)
    heard = Heard()
    for label in ("low", "low", "low", "high", "high", "high"):
        chunk = (32767 * sound(label, 0, 0.5)).astype(np.int16)
        heard = heard.with_chunk(48_000, chunk)
    [answer] = collect_train.listen(heard, Shown(), last[3], "linear")
    assert max(answer, key=answer.get) == "high"
    assert collect_train.listen(heard, Shown(), None, "linear") == [None]


def test_a_refused_upload_does_not_stay(mine, tmp_path):
    bad = tmp_path / "bad.zip"
    bad.write_text("no zip")
    *_, says = collect.add_zip(mine, str(bad))
    assert "not a zip" in says and not bad.exists()
    assert places(mine) == {"high": TAKES, "low": TAKES}


def test_what_a_stranger_sends_is_checked(mine):
    with pytest.raises(gr.Error, match="Train first"):
        collect_train.name_sound(None, "soft-moa", "x.wav")
    [idle] = collect_train.train_all(Current())
    assert idle[-2].visible and not idle[-1].visible
    for nobody in (mine, Current()):
        assert all(value == gr.skip() for value in collect.drop(nobody, "low", None))
    assert all(value == gr.skip() for value in collect.redraw(Current(), None, "", None))


def test_the_upload_of_a_take_does_not_stay_and_an_example_does(mine, tmp_path):
    clip = tmp_path / "clip.ogg"
    shutil.copy(example_clips()["bell"], clip)
    collect.add_take(mine, "low", str(clip), None, False)
    assert not clip.exists() and places(mine)["low"] == TAKES + 1
    example = Path(shutil.copy(example_clips()["bell"], tmp_path / "bell.ogg"))
    collect.add_take(mine, "low", str(example), None, False)
    collect.add_zip(mine, str(example))
    assert example.exists() and places(mine)["low"] == TAKES + 2


def places(mine: Current) -> dict[str, int]:
    return {label: len(mine.now.of(label)) for label in mine.now.labels}


def test_a_class_with_takes_goes_at_the_second_press_only(mine):
    before = mine.now.rows
    asked = collect.remove_class(mine, "low", "Remove this class")
    assert asked[0] == gr.skip() and all(row.path.exists() for row in before)
    question = asked[-3].value
    assert collect.remove_class(mine, "high", question)[0] == gr.skip()  # asked for another
    *_, says = collect.remove_class(mine, "low", question)
    assert places(mine) == {"high": TAKES} and "Removed 'low'" in says
    assert [row.path.exists() for row in before] == [row.label == "high" for row in before]


def test_everything_goes_at_the_second_press_only(mine):
    before = mine.now
    asked = collect.start_over(mine, "Delete everything")
    assert asked[0] == gr.skip() and before.folder.exists()
    collect.start_over(mine, asked[-2].value)
    assert not before.folder.exists() and not mine.now.labels
    *_, says = collect.add_class(mine, "bell")
    assert mine.now.labels == ("bell",) and mine.now.folder.is_dir() and says == ""


def test_takes_that_expired_are_said_and_the_next_one_begins_anew(mine, beeps, tmp_path):
    before = mine.now
    row = before.rows[3]
    collection.delete(before)
    [idle] = collect_train.train_all(mine)
    assert idle[-2].visible and not before.folder.exists()
    with pytest.raises(gr.Error, match="30 minutes"):
        collect.write_takes(mine)
    take = tmp_path / "take.wav"
    soundfile.write(take, sound("low", 0, 1.0), 48_000)
    *_, says = collect.add_take(mine, "low", str(take), row, True)
    assert places(mine) == {"high": 0, "low": 1} and mine.now.folder.is_dir()
    assert "30 minutes" in says and "Added take 1 of 'low'" in says
    mine.now = before
    *_, says = collect.drop(mine, "low", row)
    assert places(mine) == {"high": 0, "low": 0} and "30 minutes" in says
    mine.now = before
    *_, says = collect.add_zip(mine, str(beeps))
    assert places(mine) == {"high": TAKES, "low": TAKES} and "30 minutes" in says


def test_what_comes_while_a_zip_is_unpacked_stays(beeps, tmp_path, monkeypatch):
    """Through gradio, which hands every event the State as it is at the event's start."""
    monkeypatch.setattr(collection, "ROOT", tmp_path / "collections")
    unpacking, enough, unpack = threading.Event(), threading.Event(), own.rows_of_zip

    def slowly(*arguments):
        unpacking.set()
        assert enough.wait(60)
        return unpack(*arguments)

    monkeypatch.setattr(own, "rows_of_zip", slowly)
    bells = [tmp_path / f"{k}.wav" for k in range(3)]
    for k, path in enumerate(bells):
        soundfile.write(path, sound("low", 6 + k, 1.0), 48_000)
    with gr.Blocks() as demo:
        own_tasks = gr.State([])
        collect.build(own_tasks, gr.Tabs())
    visitor, another = SessionState(demo), SessionState(demo)

    async def event(name, session=visitor, label=None, file=None):
        data = {"path": str(file), "meta": {"_type": "gradio.FileData"}}
        given = {"class-name": "bell", "take-class": label, "take": data, "upload-zip": data}
        of = next(of for of in demo.fns.values() if of.name == name)
        inputs = [given.get(block.elem_id) for block in of.inputs]
        await demo.process_api(of, inputs, state=session, explicit_call=True)

    async def visit():
        upload = asyncio.create_task(event("add_zip", file=beeps))
        await asyncio.to_thread(unpacking.wait, 60)
        await event("add_class")
        await asyncio.gather(*(event("add_take", label="bell", file=path) for path in bells))
        enough.set()
        await upload
        await event("tasks_of")
        await event("tasks_of", another)

    ThreadPoolExecutor(1).submit(asyncio.run, visit()).result()  # Playwright has a loop in this one
    [task] = visitor[own_tasks._id]
    assert task.labels == ("bell", "high", "low") and another[own_tasks._id] == []
    assert sum(map(sum, task.counts.values())) == 2 * TAKES + 3
    assert len(list(collection.ROOT.rglob("*.[wW][aA][vV]"))) == 2 * TAKES + 3
    for component, value, _ in visitor.state_components:  # as gradio does when the visitor is gone
        component.delete_callback(value)
    assert list(collection.ROOT.iterdir()) == []


def test_a_take_that_went_meanwhile_takes_no_other_with_it(mine):
    first, second, *_ = mine.now.rows
    for _ in range(2):  # the second one was under way
        collect.drop(mine, "low", first)
    assert mine.now.rows[0] == second and len(mine.now.rows) == 2 * TAKES - 1


def test_what_was_chosen_while_a_zip_was_unpacked_stays_chosen(mine):
    row = mine.now.rows[7]
    _, label, takes, chosen, replacing, *_ = collect.redraw(mine, "low", "Added.", row)
    assert label.value == "low" and chosen == row and replacing == gr.skip()
    assert 'data-take="7" aria-pressed="true"' in takes
    collect.drop(mine, "low", row)
    _, _, _, chosen, replacing, *_, says = collect.redraw(mine, "low", "Added.", row)
    assert chosen is None and replacing is False and says == "Added."


def test_a_server_without_room_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(collection, "ROOT", tmp_path / "file" / "collections")
    said = []
    monkeypatch.setattr(gr, "Warning", said.append)
    assert collect.add_class(Current(), "bell")[1] == gr.skip()
    assert collect.add_take(Current(), "bell", "take.wav", None, False)[1] == gr.skip()
    assert said == ["This server cannot store that now: Not a directory."] * 2


def test_a_zip_that_fills_the_disk_is_not_called_damaged(mine, beeps, monkeypatch):
    before = mine.now, sorted(mine.now.folder.rglob("*"))

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    *_, says = collect.add_zip(mine, str(beeps))
    assert says == "This server cannot store that now: No space left on device."
    assert (mine.now, sorted(mine.now.folder.rglob("*"))) == before


def test_adapters_that_went_with_the_takes_are_said(mine):
    trained = collect_train.Trained({}, {"linear": mine.now.folder / "gone.safetensors"})
    with pytest.raises(gr.Error, match="train again"):
        collect_train.bundle_file(trained, "linear")
