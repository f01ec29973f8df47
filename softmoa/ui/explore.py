"""The Explore tab: a sound in; its labels, the stage, and the experts' contributions out.

The model runs once per sound. Its `Classification` stays on the server, in the visitor's session;
the stage has all of its routing, so that choosing a layer, an expert or a view asks nobody.
"""

from __future__ import annotations

import time
from functools import lru_cache, partial
from typing import Any, get_args

import gradio as gr
from gradio.components import Component

from softmoa.data.audio import SAMPLE_RATE
from softmoa.data.limits import limits
from softmoa.data.values import InputError
from softmoa.lens.ablation import signed_contribution
from softmoa.lens.classifier import DEFAULT_BUNDLE, FRESH, bundles, open_classifier
from softmoa.lens.classify import Classification, classify
from softmoa.methods.bundle import BundleError
from softmoa.model.moa import SoftRouter
from softmoa.model.recording import expert_share, mixtures
from softmoa.model.weights import WeightsError
from softmoa.plots import explore as plots
from softmoa.ui.backbones import ModelChoice, bundle_choices, first_model, opened_name
from softmoa.ui.changed import Changed
from softmoa.ui.checks import refuse, refusing, warn
from softmoa.ui.comparing import bundle_of_key
from softmoa.ui.drawing import contributions, meter, patch_rows, truth
from softmoa.ui.examples import clip_name, example_clips, gallery, offered
from softmoa.ui.explore_files import make_file
from softmoa.ui.figure import MATH, ON_MODEL, PRIVATE, QUIET, Chart, Note, chart, progress_on
from softmoa.ui.flow import Flow
from softmoa.ui.hub_bundles import HubBundles, name_of_key
from softmoa.ui.links import Linked, Query
from softmoa.ui.over_time import OverTime
from softmoa.ui.stage import stage
from softmoa.ui.stage.stage import Choice
from softmoa.ui.texts import explore as texts

OPENING = "trumpet"  # the clip that the page opens on
GONE = "This sound is no longer on the server; please record or upload it again."
PICK = "Press a patch in the picture to read its exact weights."


class Explored:
    """The tab, laid out and wired inside its `gr.Tab`, and what other tabs build on.

    result: the last Classification. sound: where it comes from. bundle, backbone: the choice of a
    model. own: this visitor's own bundles, a list of `backbones.Own` that `keep_own` changes in
    place. run: the event that makes a new result; a change of `again` causes it. opens_on: the clip
    whose result is there at first.
    """

    opens_on = OPENING

    def __init__(self, tab: gr.Tab) -> None:
        first = opening()
        self.result = gr.State(first)
        self.again = gr.State(0)
        with gr.Row(elem_id="explore"):  # a grid, see explore.css
            with gr.Column(elem_classes="give"):
                self.sound = gr.Audio(
                    str(example_clips()[OPENING]),
                    sources=["microphone", "upload"],
                    type="filepath",
                    label="Your sound",
                    # The browser's own player, which the stage can follow; its own waveform goes.
                    waveform_options=gr.WaveformOptions(
                        sample_rate=SAMPLE_RATE, show_recording_waveform=False
                    ),
                    buttons=[],
                    elem_id="sound",
                )
            with gr.Column(elem_classes="answer"):
                with gr.Row(elem_id="stages"):
                    self.stage = stage.build("#sound", stage.clip_of(first), elem_id="stage")
                    self.changed = Changed(self.stage)
                self.status = Note(said(first), elem_id="status")
                self.over_time = OverTime()
            with gr.Column(elem_classes="more"):
                self.examples = gr.Dataset(
                    components=["textbox"],
                    samples=_names(DEFAULT_BUNDLE),
                    type="index",
                    label="Or try one of these",
                    samples_per_page=30,
                    elem_id="examples",
                )
                for clip in offered():
                    self.sound.move_resource_to_block_cache(clip)
                self.sound.keep_in_cache.update(self.sound.temp_files)  # copied there once
                with gr.Accordion("Model", open=False, elem_id="model"):
                    model = ModelChoice()
                    self.bundle, self.backbone, self.own = model.bundle, model.backbone, model.own
                    loaded = HubBundles(model).loaded
        with gr.Column() as self.inside:
            with gr.Accordion("From sound to label", elem_id="flow"):
                flow = Flow(first)
            plant = "Plant a sound in it: does any expert point there?"
            with gr.Accordion(plant, open=False, elem_id="plant"):
                self.changed.plant(self.result)
            with gr.Accordion("? How to read the picture", open=False, elem_id="reading"):
                gr.Markdown(texts.READING, latex_delimiters=MATH)
            with gr.Accordion("Exact numbers", open=False, elem_id="numbers"):
                gr.Markdown(texts.WHO, latex_delimiters=MATH)
                self.bars = Chart(_bars(first), elem_id="contributions")
                self.place = gr.Markdown(PICK, elem_id="patch-place")
                weights = ["Dispatch weight", "Combine weight"]
                columns = ["Expert", "Slot", *weights, "Length of what it adds"]
                self.patch = gr.Dataframe([], headers=columns, interactive=False, elem_id="patch")
            makers = gr.Row()
        self.clip = gr.Textbox(OPENING, visible="hidden", elem_id="clip")  # its name, for the link
        self.examples.click(example, [self.examples, self.bundle], self.sound, **QUIET)
        self.bundle.change(
            lambda bundle: gr.Dataset(samples=_names(bundle)), self.bundle, self.examples, **QUIET
        )
        self.sound.change(clip_name, self.sound, self.clip, queue=False, **QUIET)
        self.run = gr.on(
            [self.sound.change, self.bundle.input, self.again.change],
            self.run_model,
            [self.sound, self.bundle, self.backbone],
            [*self.answered(None)],
            trigger_mode="always_last",
            **ON_MODEL | progress_on(self.stage),
        )
        for chosen in (model.chosen, loaded):
            chosen.then(lambda: time.time(), None, self.again, **QUIET)
        self.over_time.follow(self.run, self.result, self.sound)
        flow.follow(self.run, self.result)
        shown = [self.result, self.stage]
        # "once" drops a press, and "always_last" sends the first one's event data again.
        every: dict[str, Any] = {"trigger_mode": "multiple"}
        self.stage.pick(self.pick_patch, shown, [self.place, self.patch], **QUIET | every)
        self.stage.explain(explain, self.result, self.stage, **ON_MODEL | every)
        self.stage.judge(judge, shown, self.stage, **ON_MODEL | every)
        self.stage.zip(refuse_zip, **QUIET)
        self.changed.follow(self.result, explain)
        files = {"png": "Figure (PNG)", "csv": "All weights (CSV)", "json": "Everything (JSON)"}
        file = gr.DownloadButton(visible="hidden", elem_id="file")
        for kind, label in files.items():
            with makers:
                button = gr.Button(label, size="sm", elem_id=f"make-{kind}")
            made = button.click(partial(make_file, kind), shown, file, **PRIVATE)
            made.success(None, js="() => document.querySelector('#file').click()")
        self.link = Linked(
            "explore",
            tab,
            {"clip": self.clip, "bundle": self.bundle, "choice": self.stage},
            [self.backbone, self.bundle, self.stage, self.again],
            self.open_link,
            last=(self.sound, linked_clip),
        )

    def run_model(self, path: str | None, bundle: str, backbone: str) -> dict:
        """Classify a sound; everything is emptied, with one sentence, if that fails."""
        if not path:
            return self.answered(None, texts.EMPTY)
        if bundle not in (*bundles(), FRESH):
            # A caller may not name any file on this machine.
            own = bundle_of_key(bundle) or name_of_key(bundle)
            if own is None:
                return self.answered(None, "Choose a bundle from the list.")
            bundle = str(own)
        try:
            limits().check_upload(path)
            result = classify(open_classifier(bundle, opened_name(backbone)), path)
        except FileNotFoundError:
            gr.Warning(GONE)
            return self.answered(None, GONE)
        except InputError as error:
            return self.answered(None, warn(str(error)))
        return self.answered(result)

    def answered(self, result: Classification | None, problem: str = "") -> dict:
        """What shows a classification; nothing but a sentence if there is none."""
        clip = stage.clip_of(result) if result else None
        inside = bool(result and result.records)
        return {
            self.result: result,
            self.stage: gr.HTML(clip=clip, signed=None),
            self.status: said(result) if result else problem,
            self.inside: gr.Column(visible=inside),
            self.bars: _bars(result) if result and inside else None,
            self.place: PICK,
            self.patch: [],
            **self.changed.nothing(),
        }

    def pick_patch(
        self, result: Classification | None, choice: object, event: gr.EventData
    ) -> dict:
        """A patch was pressed: its exact weights."""
        token = stage.sent(event, "token")
        if token is None or not (result and result.records):
            return {self.place: PICK, self.patch: []}
        row = Choice.of(choice).row(result)
        place, rows = patch_rows(result, row, min(max(token, 0), result.grid.tokens - 1))
        return {self.place: place, self.patch: rows}

    def open_link(self, query: Query) -> dict[Component, Any]:
        """Bundle and choice that a link asks for; what it does not name stays as it is."""
        clip = query.one_of("clip", example_clips())
        name = query.one_of("bundle", bundles())
        choice: dict[str, Any] = {
            "site": query.one_of("site", ("mhsa", "ffn")),
            "view": query.one_of("view", get_args(Choice.model_fields["view"].annotation)),
        }
        try:
            classifier = open_classifier(name or DEFAULT_BUNDLE)
        except (BundleError, WeightsError) as error:
            query.problems.append(str(error))
            return {}
        if found := mixtures(classifier.model):
            layers = [layer + 1 for layer, _ in found]
            router = next(iter(found.values())).router
            slots = router.phi.shape[2] if isinstance(router, SoftRouter) else 1
            choice |= {
                "layer": query.whole("layer", min(layers), max(layers)),
                "expert": query.whole("expert", 1, router.phi.shape[1]),
                "slot": query.whole("slot", 1, slots),
            }
        updates: dict[Component, Any] = {self.stage: {key: v for key, v in choice.items() if v}}
        if name:
            choices = bundle_choices(classifier.backbone)
            updates |= {
                self.backbone: classifier.backbone,
                self.bundle: gr.Dropdown(choices, value=name),
            }
            if name != DEFAULT_BUNDLE and clip in (None, OPENING):  # the sound is there: no change
                updates[self.again] = time.time()
        return updates


def linked_clip(query: Query):
    """The sound that a link asks for; without one it stays as it is."""
    clip = query.one_of("clip", example_clips())
    return str(example_clips()[clip]) if clip else gr.skip()


def _names(bundle: str) -> list[list[str]]:
    return [[name] for name in gallery(bundle)]


def example(number: int, bundle: str):
    """The clip of a bundle's gallery that was pressed."""
    clips = list(gallery(bundle).values())
    return str(clips[number]) if 0 <= number < len(clips) else gr.skip()


@lru_cache(maxsize=1)
def opening() -> Classification:
    """What the page opens on, computed once, so that no visitor waits for it."""
    return classify(open_classifier(first_model().name), example_clips()[OPENING])


def refuse_zip() -> None:
    raise refuse(texts.ZIP)


@refusing
def explain(result: Classification | None, event: gr.EventData) -> dict | gr.HTML:
    """A label was pressed: what every expert adds to its logit, patch by patch."""
    target = stage.sent(event, "label")
    if target is None or not (result and result.records):
        return gr.skip()
    target = min(max(target, 0), len(result.logits) - 1)
    tokens = signed_contribution(result.classifier.model, result.mel, target)
    label = result.classifier.labels[target]
    return gr.HTML(signed=stage.signed_of(tokens, target, label))


@refusing
def judge(result: Classification | None, choice: object, event: gr.EventData) -> gr.HTML | dict:
    """Whether the map that is shown is true: does the answer rest on what it marks?"""
    target, key = stage.sent(event, "label"), getattr(event, "key", "")
    if target is None or not (result and result.records):
        return gr.skip()
    target = min(max(target, 0), len(result.logits) - 1)
    patches = Choice.of(choice).patches(result, target)
    return gr.HTML(truth={"key": key, "text": truth(result, patches, target)})


def said(result: Classification) -> str:
    """How long the sound is, what took how long, and what to know about the answer."""
    clip, timing = result.clip, result.timing
    status = (
        f"{clip.seconds:.2f} s of sound · decode {timing.decode:.0f} ms · features "
        f"{timing.features:.0f} ms · model {timing.forward:.0f} ms · {result.classifier.name} on "
        f"{result.classifier.backbone}"
    )
    if shares := [expert_share(record) for record in result.records]:
        status = f"{meter(shares)} · {status}"
    notes = [texts.SEVERAL_TRUE] * result.classifier.multilabel + [*clip.notes]
    if not result.records:
        notes.append("This bundle holds no mixture of experts, so there is no routing to show.")
    return "\n\n".join([status, *notes])


def _bars(result: Classification):
    return chart(plots.contributions(**contributions(result)))
