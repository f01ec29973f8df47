"""A followed microphone: what is kept of it, when it is answered, and what it never holds up."""

import gradio as gr
import numpy as np
import soundfile

from softmoa.ui import microphone
from softmoa.ui.microphone import Recent, listen, received


def test_no_stream_holds_the_queue_of_the_model(demo):
    streams = [event for event in demo.fns.values() if event.connection == "stream"]
    ticks = [event for event in demo.fns.values() if event.name == "update"]
    assert len(streams) == len(ticks) == 2
    assert not {of.concurrency_id for of in streams} & {of.concurrency_id for of in ticks}


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


def test_what_is_sent_is_read_by_the_one_decoder(demo, tmp_path):
    """Gradio's own reader runs ffmpeg over whatever comes, without a bound."""
    streamed = [b for b in demo.blocks.values() if isinstance(b, gr.Audio) and b.streaming]
    assert len(streamed) == 2 and all(b.type == "filepath" for b in streamed)
    soundfile.write(tmp_path / "chunk.wav", np.full(400_000, 0.25), 8000)
    recent = received(str(tmp_path / "chunk.wav"), Recent())
    assert recent.rate == 8000 and len(recent.samples) == 8000 * microphone.SECONDS
    (tmp_path / "chunk.wav").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/secret.aac\n")
    assert received(str(tmp_path / "chunk.wav"), recent) is recent


def test_few_components_show_progress(demo):
    """At every event gradio's page looks through all that have shown some, and what is in them; ten
    pieces of a microphone come in a second."""
    shown = [
        place
        for event in demo.fns.values()
        for place in (event.outputs if event.show_progress_on is None else event.show_progress_on)
    ]
    assert 10 < len(shown) < 30
    holders = gr.Tabs, gr.Tab, gr.Row, gr.Column, gr.Group, gr.Accordion
    assert not [place for place in shown if isinstance(place, holders)]
