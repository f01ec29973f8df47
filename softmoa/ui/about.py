"""What stands below the tabs, folded: what becomes of sounds, the server's limits, how to cite."""

from __future__ import annotations

import gradio as gr

from softmoa.data.limits import limits
from softmoa.methods.card import CITATION
from softmoa.model import device
from softmoa.ui.figure import Note


def build() -> None:
    with gr.Row():
        with gr.Accordion("Privacy and limits", open=False, elem_id="limits"):
            gr.Markdown(f"Models compute on **{device.title(device.default())}** here.")
            gr.Markdown(
                "What you record or upload stays on this server, is read only to you and is "
                f"deleted about {limits().upload_minutes} minutes later. Nobody else is told what "
                "you do here."
            )
            gr.Markdown("\n".join(f"- {sentence}" for sentence in limits().sentences()))
            Note(
                "The limits keep the server usable for everybody. On your own machine they are "
                "yours to change, each by an environment variable such as "
                "`SOFTMOA_MAX_AUDIO_SECONDS=60`."
            )
        with gr.Accordion("Cite", open=False, elem_id="cite"):
            gr.Markdown(
                "The method is by Cappellazzo, Falavigna and Brutti: *Efficient Fine-tuning of "
                "Audio Spectrogram Transformers via Soft Mixture of Adapters*, Interspeech 2024 "
                "([arXiv 2402.00828](https://arxiv.org/abs/2402.00828))."
            )
            gr.Code(
                CITATION, label="BibTeX", interactive=False, elem_id="bibtex",
                wrap_lines=True,  # no box that only a pointer can scroll
            )  # fmt: skip
