"""A followed microphone: what is kept of it, when it is answered, and what it never holds up."""

import gradio as gr
import numpy as np
import pytest

import app
from softmoa.ui import microphone
from softmoa.ui.figure import MODEL_QUEUE
from softmoa.ui.microphone import Heard, Shown, listen, update


@pytest.fixture(scope="module")
def demo():
    return app.build()


def test_no_stream_holds_the_queue_of_the_model(demo):
    streams = [event for event in demo.fns.values() if event.connection == "stream"]
    assert {event.concurrency_id for event in streams} == {"microphones"} and len(streams) == 2
    ticks = [event for event in demo.fns.values() if getattr(event.fn, "func", None) is update]
    assert [event.concurrency_id for event in ticks] == [MODEL_QUEUE] * 2


def test_no_sound_of_the_page_can_be_posted_to_the_hub(demo):
    sounds = [b for b in demo.blocks.values() if isinstance(b, gr.Audio) and b.elem_id]
    assert len(sounds) > 5
    assert all(sound.buttons == ["download"] for sound in sounds)


def test_only_the_last_seconds_are_kept():
    heard = Heard()
    for value in range(10):
        heard = listen((8000, np.full(8000, 1000 * value, np.int16)), heard)
    assert len(heard.samples) == int(microphone.SECONDS * 8000) and heard.chunks == 10
    seconds = heard.samples.reshape(-1, 8000)
    assert (seconds == seconds[:, :1]).all()
    assert seconds[:, 0].tolist() == pytest.approx([7000 / 2**15, 8000 / 2**15, 9000 / 2**15])
    rate, last = heard.last(1.5)
    assert rate == 8000 and (last == heard.samples[-12_000:]).all()


def test_another_rate_starts_anew_and_odd_chunks_are_left_out():
    heard = listen((8000, np.zeros(8000, np.int16)), Heard())
    assert listen(None, heard) is heard
    assert listen((8000, np.zeros(0, np.int16)), heard) is heard
    assert listen((7, np.zeros(7, np.int16)), heard) is heard
    again = listen((16_000, np.ones((100, 2), np.float32)), heard)
    assert again.rate == 16_000 and again.samples.tolist() == [1.0] * 100


def test_only_what_is_new_is_answered_and_being_off_is_said_last(monkeypatch):
    def answer(heard, shown, choice):
        return [f"{choice}: {heard.chunks}"]

    heard = listen((16_000, np.zeros(8000, np.int16)), Heard())
    shown, timer, says = update(answer, ["off"], heard, Shown(), True, "linear")
    assert says == "linear: 1" and shown.chunks == 1 and timer == gr.skip()
    assert update(answer, ["off"], heard, shown, True, "linear") == [gr.skip()] * 3
    more = listen((16_000, np.zeros(8000, np.int16)), heard)
    _, timer, says = update(answer, ["off"], more, shown, False, "linear")
    assert says == "off" and timer.active is False
    monkeypatch.setattr(microphone.time, "monotonic", lambda: more.at + microphone.SILENT + 1)
    _, timer, says = update(answer, ["off"], more, shown, True, "linear")
    assert says == "off" and timer.active is False


def test_updates_per_second():
    assert Shown().per_second == 0
    assert Shown(3, (10.0, 10.5, 11.0)).per_second == pytest.approx(2)
    assert len(Shown(3, tuple(range(10))).next(4).times) == 10
