"""The Explore tab: a sound in; its labels, routing and experts' contributions out.

The model runs once per sound. Its `Classification` stays on the server, in the visitor's session,
and every later choice of layer, expert or patch is drawn from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
import numpy as np

from softmoa import export, plots
from softmoa.audio import SAMPLE_RATE, AudioError
from softmoa.bundle import BundleError
from softmoa.classify import (
    DEFAULT_BUNDLE,
    FRESH,
    Classification,
    bundles,
    classify,
    open_classifier,
)
from softmoa.limits import LIMITS, LimitError
from softmoa.ui import hub_bundles
from softmoa.ui.backbones import (
    backbone_dropdown,
    bundle_choices,
    choose_backbone,
    opened_name,
)
from softmoa.ui.clicks import ON_CLICK, clicked
from softmoa.ui.comparing import bundle_of_key
from softmoa.ui.drawing import figures, real_frames
from softmoa.ui.examples import clip_name, example_clips
from softmoa.ui.explore_files import make_file
from softmoa.ui.explore_link import linked_clip, open_link
from softmoa.ui.figure import FOLLOWS, MATH, MODEL_QUEUE, Figure
from softmoa.ui.links import Linked
from softmoa.ui.over_time import OverTime
from softmoa.ui.playhead import PLAYHEAD
from softmoa.ui.texts import explore as texts
from softmoa.weights import WeightsError

WIDE = 64  # layers, experts or slots that a link may name; a run brings the true numbers


@dataclass(frozen=True)
class Explored:
    """What other tabs build on: the last Classification, where its sound comes from, the events
    that make a new one, and the choice of a bundle.

    own: this visitor's own bundles, a list of `backbones.Own` that `keep_own` changes in place.
    again: when it changes, the sound is classified anew.
    """

    result: gr.State
    sound: gr.Audio
    runs: tuple
    bundle: gr.Dropdown
    backbone: gr.Dropdown
    own: gr.State
    again: gr.State
    link: Linked


def build(tab: gr.Tab) -> Explored:
    """Lay out the tab and wire it, inside `tab`."""
    result = gr.State()
    own, again = gr.State([]), gr.State(0)
    token = gr.State()
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            sound = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label=texts.SOUND,
                waveform_options=gr.WaveformOptions(sample_rate=SAMPLE_RATE),
                buttons=["download"],
                elem_id="sound",
            )
            gr.Markdown(texts.SOUND_HELP.format(limits=LIMITS), elem_classes="quiet")
            gr.Examples(
                [[str(path)] for path in example_clips().values()],
                [sound],
                label=texts.EXAMPLES,
                example_labels=[name.replace("_", " ") for name in example_clips()],
                examples_per_page=30,
                elem_id="examples",
            )
            sound.keep_in_cache.update(sound.temp_files)  # the examples are copied there once
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                bundle = gr.Dropdown(
                    bundle_choices("ast-small"),
                    value=DEFAULT_BUNDLE,
                    label=texts.BUNDLE,
                    info=texts.BUNDLE_INFO,
                    elem_id="bundle",
                    min_width=240,
                )
                backbone = backbone_dropdown()
            loaded = hub_bundles.build(bundle, backbone, own)
            labels = gr.Label(num_top_classes=5, label=texts.LABELS, elem_id="labels")
            status = gr.Markdown(texts.EMPTY, elem_id="status", elem_classes="quiet")

    with gr.Column(visible=False) as heard:
        gr.Markdown(texts.HEARD)
        waveform = Figure(elem_id="waveform", elem_classes=FOLLOWS, js_on_load=PLAYHEAD)
        spectrogram = Figure(elem_id="spectrogram", elem_classes=FOLLOWS)
    over_time = OverTime()
    with gr.Column(visible=False) as inside:
        gr.Markdown(texts.WHERE)
        with gr.Row(equal_height=True):
            layer = gr.Slider(1, WIDE, 1, step=1, label=texts.LAYER, elem_id="layer", min_width=200)
            view = gr.Radio(
                list(texts.VIEWS.items()), value="dispatch", label=texts.VIEW, elem_id="view"
            )
            site = gr.Radio(
                list(texts.SITES.items()), value="mhsa", label=texts.SITE, elem_id="site"
            )
        with gr.Row(equal_height=True):
            expert = gr.Radio(_numbered(WIDE), value=0, label=texts.EXPERT, elem_id="expert")
            slot = gr.Radio(_numbered(WIDE), value=0, label=texts.SLOT, elem_id="slot")
        overlay = Figure(elem_id="overlay", elem_classes=FOLLOWS, js_on_load=ON_CLICK)
        view_note = gr.Markdown(elem_classes="quiet", latex_delimiters=MATH, elem_id="view-note")
        patch = Figure(elem_id="patch")
        gr.Markdown(texts.ALL_EXPERTS)
        mosaic = Figure(elem_id="experts", js_on_load=ON_CLICK)
        gr.Markdown(texts.WHO, latex_delimiters=MATH)
        contributions = Figure(elem_id="contributions", js_on_load=ON_CLICK)
        layer_bars = Figure(elem_id="layer-bars", js_on_load=ON_CLICK)
        gr.Markdown(texts.SHARE_NOTE, elem_classes="quiet")
        gr.Markdown(texts.TAKE_HOME)
        with gr.Row():
            downloads = {
                kind: (
                    gr.Button(label, size="md", elem_id=f"make-{kind}"),
                    gr.DownloadButton(visible="hidden", elem_id=f"file-{kind}"),
                )
                for kind, label in (
                    ("png", texts.PNG),
                    ("csv", texts.CSV),
                    ("json", texts.JSON),
                )
            }

    choice = [layer, site, view, expert, slot, token]
    drawn = [overlay, view_note, patch, mosaic, contributions, layer_bars]
    heard_outputs = [result, labels, status, heard, waveform, spectrogram, inside]
    every_output = [*heard_outputs, layer, site, expert, slot, token, *drawn]

    run = {
        "fn": run_model,
        "inputs": [sound, bundle, backbone, *choice],
        "outputs": every_output,
        "concurrency_id": MODEL_QUEUE,
        "concurrency_limit": 1,
        "show_progress_on": [labels],
        "trigger_mode": "always_last",
        "api_visibility": "private",
    }
    draw = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 4}
    runs = (
        sound.change(**run),
        bundle.input(**run),
        again.change(**run),
        choose_backbone(backbone, bundle, own).then(**run),
        loaded.then(**run),
    )
    over_time.follow(runs, result, layer, site)
    for control in (layer, site, view, expert, slot):
        control.input(draw_choice, [result, *choice], drawn, trigger_mode="always_last", **draw)
    overlay.select(pick_patch, [result, *choice], [token, *drawn], **draw)
    for figure in (mosaic, contributions, layer_bars):
        figure.select(pick_expert, [result, *choice], [layer, site, expert, slot, *drawn], **draw)
    for kind, (button, file) in downloads.items():
        button.click(
            lambda *state, kind=kind: make_file(kind, *state),
            [result, *choice],
            file,
            api_visibility="private",
        ).success(None, js=f"() => document.querySelector('#file-{kind}').click()")

    clip = gr.Textbox(visible="hidden", elem_id="clip")  # name of the example, for the link
    sound.change(clip_name, sound, clip, queue=False, api_visibility="private")
    parts = {
        "clip": clip,
        "bundle": bundle,
        "layer": layer,
        "site": site,
        "view": view,
        "expert": expert,
        "slot": slot,
    }
    opened = [backbone, bundle, layer, site, view, expert, slot]
    zero, last = ("expert", "slot"), (sound, linked_clip)
    link = Linked("explore", tab, parts, opened, open_link, zero, last)
    return Explored(result, sound, runs, bundle, backbone, own, again, link)


def _numbered(count: int) -> list[tuple[str, int]]:
    """The choices 1 to `count`, with the values 0 to `count` - 1."""
    return [(str(j + 1), j) for j in range(count)]


def warm_up() -> None:
    """Load the default model and run it once, so that the first visitor need not wait for it."""
    classify(open_classifier(), (SAMPLE_RATE, np.zeros(SAMPLE_RATE, np.float32)))


def run_model(path: str | None, bundle: str, backbone: str, *choice) -> list:
    """Classify a sound; all outputs of the tab, emptied with one sentence if that fails."""
    if not path:
        return _nothing(texts.EMPTY)
    if bundle not in (*bundles(), FRESH):
        # A caller may not name any file on this machine.
        own = bundle_of_key(bundle) or hub_bundles.name_of_key(bundle)
        if own is None:
            return _nothing(texts.NO_BUNDLE)
        bundle = str(own)
    try:
        LIMITS.check_upload(path)
        result = classify(open_classifier(bundle, opened_name(backbone)), path)
    except FileNotFoundError:
        gr.Warning(texts.GONE)
        return _nothing(texts.GONE)
    except (AudioError, BundleError, LimitError, WeightsError) as error:
        gr.Warning(str(error))
        return _nothing(str(error))
    clip, timing = result.clip, result.timing
    status = (
        f"{clip.seconds:.2f} s of sound · decode {timing.decode:.0f} ms · features "
        f"{timing.features:.0f} ms · model {timing.forward:.0f} ms · {result.classifier.backbone}"
    )
    notes = [
        status,
        *[texts.SEVERAL_TRUE] * result.classifier.multilabel,
        *clip.notes,
        *[texts.NO_MIXTURE] * (not result.records),
    ]
    shown = [
        result,
        dict(result.top(5)),
        "\n\n".join(notes),
        gr.Column(visible=True),
        plots.waveform(clip.waveform, SAMPLE_RATE),
        plots.spectrogram(result.mel, real_frames=real_frames(result)),
        gr.Column(visible=bool(result.records)),
    ]
    if not result.records:
        return shown + [gr.skip()] * 11
    layer, site, view, expert, slot, _ = choice
    first = result.records[0]
    layers = sorted({record.layer + 1 for record in result.records})
    sites = sorted({record.site for record in result.records}, reverse=True)
    n, p = export.weights_of(first)[0].shape[:2]
    layer, expert, slot = (
        min(max(layer, layers[0]), layers[-1]),
        min(expert, n - 1),
        min(slot, p - 1),
    )
    site = site if site in sites else sites[0]
    return [
        *shown,
        gr.Slider(minimum=layers[0], maximum=layers[-1], value=layer),
        gr.Radio(value=site, visible=len(sites) > 1),
        gr.Radio(_numbered(n), value=expert),
        gr.Radio(_numbered(p), value=slot, visible=p > 1),
        None,
        *draw_choice(result, layer, site, view, expert, slot, None),
    ]


def _nothing(message: str) -> list:
    hidden = gr.Column(visible=False)
    return [None, None, message, hidden, "", "", hidden, *[gr.skip()] * 4, None, *[gr.skip()] * 6]


def draw_choice(result: Classification | None, *choice) -> list:
    """Everything that depends on the choice of layer, site, picture, expert, slot and patch."""
    return [gr.skip()] * 6 if result is None else figures(result, *choice)


def pick_patch(result, layer, site, view, expert, slot, token, event: gr.EventData) -> list:
    """A click on a patch: show its exact weights."""
    token = clicked(event, "token")
    return [token, *draw_choice(result, layer, site, view, expert, slot, token)]


def pick_expert(result, layer, site, view, expert, slot, token, event: gr.EventData) -> list:
    """A click on an expert's picture or bar: choose it, and the bar's layer."""
    if result is None:
        return [gr.skip()] * 10
    row = clicked(event, "layer")
    if row is not None and 0 <= row < len(result.records):
        layer, site = result.records[row].layer + 1, result.records[row].site
    n, p = export.weights_of(result.records[0])[0].shape[:2]
    expert = min(clicked(event, "expert") or 0, n - 1)
    slot = min(clicked(event, "slot") or 0, p - 1)
    drawn = draw_choice(result, layer, site, view, expert, slot, token)
    return [layer, site, expert, slot, *drawn]
