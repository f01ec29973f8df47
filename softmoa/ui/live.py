"""The Live tab: the microphone's last seconds, classified about twice a second."""

from __future__ import annotations

import gradio as gr
import torch

from softmoa import plots
from softmoa.audio import AudioError
from softmoa.bundle import BundleError, read_info
from softmoa.classify import DEFAULT_BUNDLE, Classification, bundles, classify, open_classifier
from softmoa.contribution import expert_contribution
from softmoa.limits import LIMITS
from softmoa.ui.backbones import bundle_title
from softmoa.ui.drawing import overall_contribution, row_names
from softmoa.ui.figure import Figure
from softmoa.ui.links import Linked, Query
from softmoa.ui.microphone import SECONDS, Heard, Shown, follow
from softmoa.ui.texts import live as texts
from softmoa.ui.texts.explore import SEVERAL_TRUE
from softmoa.weights import BACKBONES, WeightsError


def build(tab: gr.Tab) -> Linked:
    """Lay out the tab and wire it, inside `tab`; what a link to it holds."""
    gr.Markdown(texts.INTRO.format(seconds=SECONDS, minutes=LIMITS.upload_minutes))
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            microphone = gr.Audio(
                sources=["microphone"],
                streaming=True,
                type="numpy",
                buttons=["download"],
                label=texts.MICROPHONE,
                elem_id="live-sound",
            )
            bundle = gr.Dropdown(
                choices(), value=DEFAULT_BUNDLE, label=texts.BUNDLE, elem_id="live-bundle"
            )
            status = gr.Markdown(texts.IDLE, elem_id="live-status", elem_classes="quiet")
        with gr.Column(scale=3, min_width=320):
            labels = gr.Label(num_top_classes=5, label=texts.LABELS, elem_id="live-labels")
            bars = Figure(elem_id="live-bars")

    follow(microphone, answer, [bundle], [labels, bars, status], [gr.skip(), gr.skip(), texts.IDLE])
    return Linked("live", tab, {"bundle": bundle}, [bundle], open_link)


def choices() -> list[tuple[str, str]]:
    """Title and name of the bundles on embedded backbones."""
    infos = {name: read_info(path) for name, path in bundles().items()}
    return [
        (bundle_title(info), name)
        for name, info in infos.items()
        if info.base in BACKBONES and BACKBONES[info.base].embedded
    ]


def open_link(query: Query) -> list:
    return [query.one_of("bundle", [name for _, name in choices()]) or gr.skip()]


def answer(heard: Heard, shown: Shown, bundle: str) -> list:
    """Labels, bars and status of what was heard last."""
    if bundle not in bundles():
        return [gr.skip(), gr.skip(), texts.NO_BUNDLE]
    try:
        result = classify(open_classifier(bundle), heard.last(SECONDS))
    except (AudioError, BundleError, WeightsError) as error:
        return [gr.skip(), gr.skip(), str(error)]
    status = texts.STATUS.format(
        seconds=result.clip.seconds, milliseconds=result.timing.forward, rate=shown.per_second
    )
    notes = [status, *[SEVERAL_TRUE] * result.classifier.multilabel]
    return [dict(result.top(5)), expert_picture(result), "\n\n".join(notes)]


def expert_picture(result: Classification) -> str:
    """Contribution of the experts, layer by layer; empty without a mixture."""
    if not result.records:
        return ""
    return plots.contribution_bars(
        torch.cat([expert_contribution(record) for record in result.records]),
        overall=overall_contribution(result),
        layers=row_names(result),
        title=texts.BARS,
        unit="share of the added length",
    )
