"""A followed microphone: what is kept of it, when it is answered, and what it never holds up."""

import gradio as gr
import numpy as np
import pytest
import soundfile

from softmoa.data import audio
from softmoa.ui import microphone, page
from softmoa.ui.figure import MODEL_QUEUE
from softmoa.ui.microphone import Recent, due, listen, received


@pytest.fixture(scope="module")
def demo():
    return page.build()


def test_no_stream_holds_the_queue_of_the_model(demo):
    streams = [event for event in demo.fns.values() if event.connection == "stream"]
    assert {event.concurrency_id for event in streams} == {"microphones"} and len(streams) == 2
    assert {(event.time_limit, event.concurrency_limit) for event in streams} == {(None, None)}
    ticks = [event for event in demo.fns.values() if event.name == "update"]
    assert [event.concurrency_id for event in ticks] == [MODEL_QUEUE] * 2


def test_no_sound_of_the_page_can_be_posted_to_the_hub(demo):
    sounds = [b for b in demo.blocks.values() if isinstance(b, gr.Audio) and b.elem_id]
    assert len(sounds) > 5
    assert all(set(sound.buttons or ()) <= {"download"} for sound in sounds)


def test_only_the_last_seconds_are_kept():
    recent = Recent()
    for value in range(10):
        recent = listen((8000, np.full(8000, value, np.int16)), recent)
    assert len(recent.samples) == int(microphone.SECONDS * 8000) and recent.chunks == 10
    assert recent.samples.reshape(-1, 8000)[:, 0].tolist() == [7, 8, 9]
    rate, last = recent.last(1.5)
    assert rate == 8000 and (last == recent.samples[-12_000:]).all()


def test_another_rate_or_kind_starts_anew_and_nothing_changes_nothing():
    recent = listen((8000, np.zeros(8000, np.int16)), Recent())
    assert received(None, recent) is recent
    assert listen((8000, np.zeros(0, np.int16)), recent) is recent
    stereo = listen((16_000, np.ones((100, 2), np.float32)), recent)
    assert stereo.rate == 16_000 and stereo.samples.tolist() == [[1.0, 1.0]] * 100
    assert len(listen((16_000, np.ones((100, 2), np.float32)), stereo).samples) == 200


def test_what_is_sent_is_read_by_the_one_decoder(demo, tmp_path):
    """Gradio's own reader runs ffmpeg over whatever comes, without a bound."""
    streamed = [b for b in demo.blocks.values() if isinstance(b, gr.Audio) and b.streaming]
    assert len(streamed) == 2 and all(b.type == "filepath" for b in streamed)
    soundfile.write(tmp_path / "chunk.wav", np.full(400_000, 0.25), 8000)
    recent = received(str(tmp_path / "chunk.wav"), Recent())
    assert recent.rate == 8000 and len(recent.samples) == 8000 * microphone.SECONDS
    (tmp_path / "chunk.wav").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/secret.aac\n")
    assert received(str(tmp_path / "chunk.wav"), recent) is recent


def test_a_microphone_that_lies_about_its_rate_is_refused_by_the_one_decoder():
    recent = listen((7, np.zeros(7, np.int16)), Recent())
    with pytest.raises(audio.AudioError):
        audio.load(recent.last(1.5))


def test_only_what_is_new_is_answered_and_being_off_is_said_last(monkeypatch):
    recent = listen((16_000, np.zeros(8000, np.int16)), Recent())
    assert due(recent, 0, True) == "answer" and due(recent, 1, True) == "wait"
    assert due(recent, 0, False) == "stop" and due(Recent(), 0, True) == "wait"
    monkeypatch.setattr(microphone.time, "monotonic", lambda: recent.at + microphone.SILENT + 1)
    assert due(recent, 0, True) == "stop"
