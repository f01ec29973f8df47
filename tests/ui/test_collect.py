"""The tab "Your sounds" in a real browser with a real (fake-device) microphone; its handlers."""

import asyncio
import re
import shutil
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import soundfile
from gradio.state_holder import SessionState
from playwright.sync_api import Page, Route, expect
from test_accessibility import violations
from test_app import download
from test_collection import add_zip
from test_compare_tab import rows
from test_guard import apart
from test_hostile import call, sent, upload

from softmoa.data import archive, collection, own
from softmoa.data.collection import Current
from softmoa.lens.evaluation import Prediction
from softmoa.methods.bundle import read_info
from softmoa.model.weights import ASSETS
from softmoa.ui import collect, collect_train, comparing, take_next
from softmoa.ui.examples import example_clips, gallery
from softmoa.ui.microphone import Recent, listen

PITCH = {"low": 300, "high": 2500}
TAKES = 5


def sound(label: str, take: int, seconds: float = 6.0) -> np.ndarray:
    """Beeps of a class at 48 kHz, a little different in every take, with a faint background."""
    time_axis = np.arange(int(48_000 * seconds)) / 48_000
    beeps = np.sin(2 * np.pi * PITCH[label] * (1 + 0.02 * take) * time_axis)
    beeps *= np.sin(2 * np.pi * 2 * time_axis) > 0
    return 0.4 * beeps + np.random.default_rng(take).normal(0, 0.003, len(time_axis))


@pytest.fixture
def tab(page: Page) -> Page:
    """Of a page whose tests leave nothing in it."""
    page.get_by_role("tab", name="Your sounds").click()
    return page


def add_class(page: Page, label: str) -> None:
    page.locator("#class-name").get_by_role("textbox").fill(label)
    page.locator("#add-class").click()
    expect(page.locator("#take-class label", has_text=label)).to_be_visible()


def take(page: Page, label: str, number: int):
    return page.locator("#takes button", has_text=f"{label} {number}")


def record(page: Page, where: str, seconds: float = 1.2) -> None:
    """With the player's own buttons."""
    page.locator(f"{where} .record-button").click()
    stop = page.locator(f"{where} .stop-button:visible").first
    stop.wait_for()
    page.wait_for_timeout(1000 * seconds)
    stop.click()


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


def test_a_zip_is_added_and_its_takes_chosen_recorded_and_deleted(tab, server, beeps):
    with tab.expect_file_chooser() as chooser:
        tab.locator("#upload-zip").click()
    chooser.value.set_files(beeps)
    expect(take(tab, "high", 5)).to_be_visible()
    expect(tab.locator("#collect-status")).to_contain_text("Added 10 clips of 2 classes")
    assert not [path for path in server[1].rglob("*.zip") if path.name == beeps.name]
    take(tab, "low", 2).click()
    expect(tab.locator("#player")).to_be_visible()
    tab.locator("#take .record-button").click()
    expect(tab.locator("#collect-status")).to_contain_text("Recording take 6")
    tab.wait_for_timeout(1000)
    waveforms: list[Route] = []
    tab.route(re.compile(r"/file=.*audio\.wav"), lambda route: waveforms.append(route))
    tab.locator("#take .stop-button:visible").first.click()
    expect(tab.locator("#collect-status")).to_contain_text("Added take 6 of 'low'")
    [late] = waveforms
    assert late.fetch().ok  # the page of a busy machine asks for it so late
    late.continue_()
    take(tab, "high", 5).click()
    expect(tab.locator("#collect-status")).to_contain_text("Take high 5")
    tab.locator("#delete-take").click()
    expect(take(tab, "high", 5)).to_have_count(0)
    assert ["high", "2", "1", "1"] in rows(tab, 2, "division")
    tab.locator("#race").click()  # takes the task along
    expect(tab.locator("#task input")).to_have_value("Your sounds: high, low")
    expect(tab.locator("#preset").get_by_label("My sounds")).to_be_checked()
    tab.get_by_role("tab", name="Your sounds").click()
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.locator("#take-class").get_by_text("low").click()
    tab.locator("#remove-class").click()
    expect(tab.locator("#remove-class")).to_have_text("Yes, remove 'low' (takes: 6)")
    tab.locator("#take-class").get_by_text("high").click()
    expect(tab.locator("#remove-class")).to_have_text("Remove this class")
    tab.locator("#clear-takes").click()
    expect(tab.locator("#clear-takes")).to_have_text("Yes, delete all classes (takes: 10)")
    expect(take(tab, "low", 5)).to_be_visible()
    tab.mouse.move(0, 0)
    tab.evaluate("Promise.allSettled(document.getAnimations().map(one => one.finished))")  # colours
    assert not [found for found in violations(tab) if "remove-class" in found or "clear" in found]
    tab.locator("#clear-takes").click()
    expect(tab.locator("#takes img")).to_have_count(0)
    expect(tab.locator("#take")).to_be_hidden()


@pytest.mark.timeout(600)
def test_two_classes_of_five_takes_become_a_live_classifier(tab, server, microphone, tmp_path):
    expect(tab.locator("#take")).to_be_hidden()  # nothing to record yet
    for button in ("#train", "#race", "#stop-training", "#add-class"):
        expect(tab.locator(button)).to_be_disabled()
    for label in PITCH:
        add_class(tab, label)
        for k in range(1, TAKES + 1):
            soundfile.write(microphone, sound(label, k), 48_000)
            record(tab, "#take")
            expect(take(tab, label, k)).to_be_visible()
    assert ["low", "3", "1", "1"] in rows(tab, 2, "division")
    expect(tab.locator("#train")).to_be_enabled()
    tab.locator("#train").click()
    expect(tab.locator("#stop-training")).to_be_enabled()
    expect(tab.locator("#test-sound")).to_be_visible(timeout=180_000)
    expect(tab.locator("#training-results")).to_contain_text("Soft-MoA")
    expect(tab.locator("#training-verdict")).to_contain_text("2 test clips")
    expect(tab.locator("#take-next")).to_contain_text(re.compile("Record more of (low|high)"))

    for label in PITCH:
        soundfile.write(microphone, sound(label, 7), 48_000)
        record(tab, "#test-sound", 2)
        expect(tab.locator("#test-answer h2")).to_have_text(label)
        tab.locator("#test-sound").get_by_label("Clear").click()

    soundfile.write(microphone, sound("high", 8), 48_000)
    tab.locator("#live .record-button").click()
    expect(tab.locator("#live-answer h2")).to_have_text("high")
    # Who listens keeps nobody waiting.
    dog = sent(upload(server[0], (ASSETS / "examples" / "dog_bark.ogg").read_bytes()))
    assert call(server[0], "classify", [dog, "esc10-soft-moa", 1])[0] == "complete"
    tab.locator("#live .stop-button:visible").first.click()

    tab.locator("#save-takes").click()
    assert read_info(download(tab, "#take-home", tmp_path)).labels == ("high", "low")
    with own.opened(download(tab, "#file-takes", tmp_path)) as mine:
        assert mine.task.counts == {"train": (3, 3), "valid": (1, 1), "test": (1, 1)}


@pytest.fixture
def mine(beeps, tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "ROOT", tmp_path / "collections")
    return Current(add_zip(collection.new(30), beeps, collect.data_limits()))


@pytest.fixture(scope="module")
def demo():  # of this tab only
    with gr.Blocks() as demo:
        raced = SimpleNamespace(own_tasks=gr.State([]), race=lambda own: {}, raced=[gr.State()])
        demo.sounds = collect.Sounds(raced)
        demo.own_tasks = raced.own_tasks
    return demo


@pytest.fixture
def sounds(demo):
    return demo.sounds


def trained(sounds, mine: Current) -> list[dict]:
    async def frames() -> list[dict]:
        return [frame async for frame in sounds.training.run(mine)]

    return apart(frames())


def test_a_training_names_sounds_and_can_be_stopped(sounds, mine):
    training = sounds.training
    first, *_, last = trained(sounds, mine)
    assert first[training.stop].interactive and not last[training.stop].interactive
    assert last[training.use].value and Path(last[training.home]).is_file()
    keys = [key for _, key in last[training.use].choices]
    assert len(keys) == 2
    clip = mine.now.rows[0]
    answer = collect_train.name_sound(keys[1], str(clip.path))
    assert max(answer, key=answer.get) == clip.label and sum(answer.values()) == pytest.approx(1)
    # Live, what counts is the last moment of the microphone.
    recent = Recent()
    for label in ("low", "low", "low", "high", "high", "high"):
        recent = listen((48_000, (32767 * sound(label, 0, 0.5)).astype(np.int16)), recent)
    answer = collect_train.listen(recent, keys[0])
    assert max(answer, key=answer.get) == "high" and collect_train.listen(recent, "none") is None
    job = comparing.find(last[training.job_id])
    collect_train.stop(job.id)  # it is over, which is no fault
    assert job.state == "finished"


def test_the_class_that_is_least_certain_is_to_be_recorded_next(mine, monkeypatch):
    task = mine.now.build().task
    said = {"high": ("high", 0.9), "low": ("low", 0.6)}
    monkeypatch.setattr(take_next, "open_classifier", lambda path: None)
    monkeypatch.setattr(
        take_next,
        "evaluate",
        lambda _, clips: [Prediction(path, label, *said[label]) for path, label in clips],
    )
    names = {file.path: file.path.stem for file in task.files}
    for answer, right in ((("low", 0.6), 2), (("high", 0.95), 0)):
        said["low"] = answer
        words = take_next.take_next(Path(), task, names)
        assert "Record more of **low**: of its 2 clips" in words
        assert f", {right} are named right" in words


def test_what_a_stranger_sends_is_checked(sounds, mine):
    for key in ("", "tags", "run/x/y", str(mine.now.rows[0].path)):
        with pytest.raises(gr.Error, match="Train first"):
            collect_train.name_sound(key, "x.wav")
    with pytest.raises(gr.Error, match="none was added"):
        trained(sounds, Current())
    for nobody in (mine, Current()):
        assert sounds.drop(nobody, "low", None) == {sounds.mine: nobody}
        outside = gr.SelectData(None, {"index": 9, "value": 1})
        assert list(sounds.choose(nobody, outside)) == [sounds.mine]


def test_no_upload_stays_and_an_example_does(sounds, mine, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "DRAWN", 0.2)
    bad = tmp_path / "bad.zip"
    bad.write_text("no zip")
    says = sounds.add_zip(mine, str(bad))[sounds.status]
    assert "not a zip" in says and not bad.exists()
    clip = tmp_path / "clip.ogg"
    shutil.copy(example_clips()["bell"], clip)
    sounds.add_take(mine, "low", str(clip))
    while clip.exists():  # the page may draw it for a moment
        time.sleep(0.05)
    assert places(mine)["low"] == TAKES + 1
    for offered in example_clips()["bell"], gallery("digits-soft-moa")["seven"]:
        example = Path(shutil.copy(offered, tmp_path / offered.name))
        sounds.add_take(mine, "low", str(example))
        sounds.add_zip(mine, str(example))
        assert example.exists()
    assert places(mine)["low"] == TAKES + 3


def places(mine: Current) -> dict[str, int]:
    return {label: len(mine.now.of(label)) for label in mine.now.labels}


def test_a_class_with_takes_goes_at_the_second_press_only(sounds, mine):
    before = mine.now.rows
    asked = sounds.remove_class(mine, "low", "Remove this class")
    assert list(asked) == [sounds.remove] and all(row.path.exists() for row in before)
    question = asked[sounds.remove].value
    assert list(sounds.remove_class(mine, "high", question)) == [sounds.remove]  # asked for another
    says = sounds.remove_class(mine, "low", question)[sounds.status]
    assert places(mine) == {"high": TAKES} and "Removed 'low'" in says
    assert [row.path.exists() for row in before] == [row.label == "high" for row in before]


def test_takes_that_expired_are_said_and_the_next_one_begins_anew(sounds, mine, beeps, tmp_path):
    before = mine.now
    collection.delete(before)
    with pytest.raises(gr.Error, match="30 minutes"):
        trained(sounds, mine)
    take = tmp_path / "take.wav"
    soundfile.write(take, sound("low", 0, 1.0), 48_000)
    says = sounds.add_take(mine, "low", str(take))[sounds.status]
    assert places(mine) == {"high": 0, "low": 1} and mine.now.folder.is_dir()
    assert "30 minutes" in says and "Added take 1 of 'low'" in says
    mine.now = before
    says = sounds.add_zip(mine, str(beeps))[sounds.status]
    assert places(mine) == {"high": TAKES, "low": TAKES} and "30 minutes" in says


def test_what_comes_while_a_zip_is_unpacked_stays(demo, beeps, tmp_path, monkeypatch):
    """Through gradio, which hands every event the State as it is at the event's start."""
    monkeypatch.setattr(collection, "ROOT", tmp_path / "collections")
    unpacking, enough, unpack = threading.Event(), threading.Event(), archive.unpack

    def slowly(*arguments):
        unpacking.set()
        assert enough.wait(60)
        return unpack(*arguments)

    monkeypatch.setattr(archive, "unpack", slowly)
    bells = [tmp_path / f"{k}.wav" for k in range(3)]
    for k, path in enumerate(bells):
        soundfile.write(path, sound("low", 6 + k, 1.0), 48_000)
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
        await event("show")
        await event("show", another)

    apart(visit())
    [task] = visitor[demo.own_tasks._id]
    assert task.labels == ("bell", "high", "low") and another[demo.own_tasks._id] == []
    assert sum(map(sum, task.counts.values())) == 2 * TAKES + 3
    assert len(list(collection.ROOT.rglob("*.[wW][aA][vV]"))) == 2 * TAKES + 3
    for component, value, _ in visitor.state_components:  # as gradio does when the visitor is gone
        component.delete_callback(value)
    assert list(collection.ROOT.iterdir()) == []


def test_ready_takes_can_be_trained_on_at_once(sounds, mine):
    before = {path for _, path in collect.ready_takes()}
    mine.now = None
    shown = sounds.add_ready(mine)
    assert mine.now.labels == collect.READY and {len(mine.now.of(x)) for x in collect.READY} == {9}
    assert all(path.is_file() for path in before)  # copied, not moved
    assert not shown[sounds.ready].visible and shown[sounds.training.buttons[0]].interactive
    [task] = shown[sounds.own_tasks]
    assert {len(files) > 2 for files in (task.train, task.valid, task.test)} == {True}


def test_a_take_that_went_meanwhile_takes_no_other_with_it(sounds, mine):
    first, second, *_ = mine.now.rows
    for _ in range(2):  # the second one was under way
        sounds.drop(mine, "low", first)
    assert mine.now.rows[0] == second and len(mine.now.rows) == 2 * TAKES - 1
