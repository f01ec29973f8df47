"""What a link to the Explore tab asks for."""

from __future__ import annotations

import gradio as gr

from softmoa.bundle import BundleError
from softmoa.classify import DEFAULT_BUNDLE, bundles, open_classifier
from softmoa.moa import SoftRouter
from softmoa.recording import mixtures
from softmoa.ui.backbones import bundle_choices
from softmoa.ui.examples import example_clips
from softmoa.ui.links import Query
from softmoa.ui.texts import explore as texts
from softmoa.weights import WeightsError


def linked_clip(query: Query):
    """The sound that a link asks for; without one it stays as it is."""
    clip = query.one_of("clip", example_clips())
    return str(example_clips()[clip]) if clip else gr.skip()


def open_link(query: Query) -> list:
    """Bundle and choice that a link asks for; what it does not name stays as it is."""
    query.one_of("clip", example_clips())  # said here if there is none; `linked_clip` opens it
    bundle = query.one_of("bundle", bundles())
    site = query.one_of("site", texts.SITES.values())
    view = query.one_of("view", texts.VIEWS.values())
    try:
        classifier = open_classifier(bundle or DEFAULT_BUNDLE)
    except (BundleError, WeightsError) as error:
        query.problems.append(str(error))
        return [gr.skip()] * 7
    layer = expert = slot = gr.skip()
    if found := mixtures(classifier.model):
        layers = [place[0] + 1 for place in found]
        moa = next(iter(found.values()))
        n = moa.experts.down.shape[0]
        p = moa.router.phi.shape[2] if isinstance(moa.router, SoftRouter) else 1
        layer = query.whole("layer", min(layers), max(layers)) or layer
        expert = (query.whole("expert", 1, n) or 1) - 1
        slot = (query.whole("slot", 1, p) or 1) - 1
    return [
        classifier.backbone,
        gr.Dropdown(bundle_choices(classifier.backbone), value=bundle or DEFAULT_BUNDLE),
        layer,
        site or gr.skip(),
        view or gr.skip(),
        expert,
        slot,
    ]
