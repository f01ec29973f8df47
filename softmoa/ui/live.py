"""The Live tab: the microphone's last seconds, classified up to four times a second."""

from __future__ import annotations

import gradio as gr

from softmoa.data.limits import limits
from softmoa.data.values import InputError
from softmoa.lens.classifier import DEFAULT_BUNDLE, bundles, open_classifier
from softmoa.lens.classify import classify
from softmoa.lens.headline import Headline
from softmoa.plots.live import listening
from softmoa.ui.backbones import EMBEDDED, bundle_choices
from softmoa.ui.drawing import overall_contribution
from softmoa.ui.examples import example_clips
from softmoa.ui.figure import ON_MODEL, Note, Stream, growing, growth
from softmoa.ui.links import Linked, Query
from softmoa.ui.microphone import SECONDS, Recent, follow, received

IDLE = "Not listening."
EXAMPLE = "trumpet"
TRUMPET = "Not listening: this is a trumpet of the gallery. Press *Record* for your own sounds."
PLACES = 6  # labels that have a bar
REMEMBERED = 5  # labels before the one that is heard; guesses come and go too fast to read

Places = tuple[str, ...]


def build(tab: gr.Tab) -> Linked:
    """Lay out the tab and wire it, inside `tab`; what a link to it holds."""
    gr.Markdown(
        "Press *Record*, make a noise, and watch: the microphone's last "
        f"{SECONDS:g} seconds go through the model up to four times a second. Only those are used; "
        "what the server stores on the way is deleted about "
        f"{limits().upload_minutes} minutes later."
    )
    places, past = gr.State(()), gr.State(())
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            microphone = Stream(label="Microphone", elem_id="live-sound")
            bundle = gr.Dropdown(
                bundle_choices(EMBEDDED), value=DEFAULT_BUNDLE, label="Trained adapters (bundle)",
                elem_id="live-bundle",
            )  # fmt: skip
            sure = gr.Slider(
                0.1, 0.9, 0.4, step=0.05, label="Sure from this probability on", elem_id="live-sure"
            )
            status = Note(IDLE, elem_id="live-status")
        with gr.Column(scale=5, min_width=320):
            said = gr.Markdown(
                "### Press *Record* and make a noise", container=True, elem_id="live-said"
            )
            picture = growing("live-picture")

    def answer(recent: Recent, name: str, sure: float, shown: Places, before: Places) -> dict:
        """What was heard last, drawn."""
        if name not in bundles():
            return {status: "Choose a bundle from the list."}
        try:
            result = classify(open_classifier(name), recent.last(SECONDS))
        except InputError as error:
            return {status: str(error)}
        probabilities = dict(result.top(len(result.classifier.labels)))
        shown = in_place(shown, probabilities)
        headline = result.headline(sure)
        now, before = str(headline), remembered(before, headline)
        bars = {label: probabilities[label] for label in shown}
        share = overall_contribution(result).tolist() if result.records else []
        seconds = result.clip.seconds
        return {
            said: f"### {now}\n{' → '.join(before[:-1] if before[-1:] == (now,) else before)}",
            picture: growth(listening(result.mel.numpy(), seconds, bars, share, sure, SECONDS)),
            status: f"● Listening: the last {seconds:.1f} s · model {result.timing.forward:.0f} ms",
            places: shown,
            past: before,
        }

    def example(name: str, sure: float, shown: Places) -> dict:
        """What the tab shows until the microphone is heard: a sound of the gallery."""
        if shown:
            return {status: gr.skip()}
        heard = answer(received(str(example_clips()[EXAMPLE]), Recent()), name, sure, (), ())
        return heard | {status: TRUMPET, places: (), past: ()}

    outputs = [said, picture, status, places, past]
    tab.select(example, [bundle, sure, places], outputs, **ON_MODEL)
    follow(microphone, answer, [bundle, sure, places, past], outputs, {status: IDLE})

    def open_link(query: Query) -> dict:
        chosen = query.one_of("bundle", [name for _, name in bundle_choices(EMBEDDED)])
        return {bundle: chosen} if chosen else {}

    return Linked("live", tab, {"bundle": bundle}, [bundle], open_link)


def remembered(before: Places, headline: Headline) -> Places:
    """The last sounds that were named surely, each once in a row."""
    now = str(headline)
    if not (headline.sure and headline.labels) or before[-1:] == (now,):
        return before
    return (*before, now)[-REMEMBERED - 1 :]


def in_place(shown: Places, probabilities: dict[str, float]) -> Places:
    """The most probable labels; those that were shown keep their places, a new one takes that of
    the least probable."""
    best = list(probabilities)[:PLACES]
    new = iter([label for label in best if label not in shown])
    kept = [label if label in best else next(new) for label in shown if label in probabilities]
    return tuple([*kept, *new])
