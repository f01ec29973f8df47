"""What stands around the tabs: a tour for first visitors, the server's limits, how to cite."""

from __future__ import annotations

import gradio as gr

from softmoa.limits import LIMITS
from softmoa.ui.texts import about as texts


def tour() -> None:
    """How to use the page, closed until someone asks."""
    with gr.Accordion(texts.TOUR_TITLE, open=False, elem_id="tour"):
        gr.Markdown(texts.TOUR)


def build() -> None:
    """The boxes below the tabs."""
    with gr.Row():
        with gr.Accordion(texts.CITE_TITLE, open=False, elem_id="cite"):
            gr.Markdown(texts.CITE)
            gr.Textbox(
                texts.BIBTEX,
                label=texts.BIBTEX_LABEL,
                lines=texts.BIBTEX.count("\n") + 1,
                interactive=False,
                buttons=["copy"],
                elem_id="bibtex",
            )
        with gr.Accordion(texts.LIMITS_TITLE, open=False, elem_id="limits"):
            gr.Markdown("\n".join(f"- {sentence}" for sentence in LIMITS.sentences()))
            gr.Markdown(texts.LIMITS, elem_classes="quiet")
