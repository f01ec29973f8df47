"""Soft-MoA Lab, the web app: `python app.py [--host ADDRESS] [--port PORT]`."""

from __future__ import annotations

import argparse
import os
import threading

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from gradio.themes import Default

from softmoa import plots
from softmoa.plots.lesson import CSS as LESSON_CSS
from softmoa.plots.timeline import CSS as TIMELINE_CSS
from softmoa.ui import api, explore, lesson, links, live, texts
from softmoa.ui.texts.links import COPY

CSS = """
.quiet, .quiet p { font-size: .9rem; opacity: .9 }
#copy-link { width: fit-content; min-width: 12rem; margin-left: auto }
@media (max-width: 640px) {  /* steps of the lesson: numbers in a row, the chosen one in full */
  #lesson-step label { max-width: 2.4rem; overflow: hidden; white-space: nowrap }
  #lesson-step label.selected { max-width: 100% }
  #lesson-step label input { position: absolute; opacity: 0 }
}
.patch table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
.patch th, .patch td { text-align: right; padding: .15rem .6rem }
.patch th:first-child, .patch td:first-child { text-align: left }
"""


def build() -> gr.Blocks:
    """The whole app, not yet launched."""
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=(600, 1800)) as demo:
        gr.Markdown(texts.INTRO)
        copy = gr.Button(COPY, size="sm", elem_id="copy-link")
        with gr.Tabs() as tabs:
            with gr.Tab("Explore", id="explore") as tab:
                linked = [explore.build(tab)]
            with gr.Tab("Live", id="live") as tab:
                linked.append(live.build(tab))
            with gr.Tab("Lesson", id="lesson") as tab:
                linked.append(lesson.build(tab))
        links.wire(demo, tabs, linked, copy)
        gr.Markdown(texts.CITE, elem_classes="quiet")
        api.build()
    return demo.queue(max_size=20)


def launch(demo: gr.Blocks, **options):
    """Start serving, with the settings every deployment shares."""
    return demo.launch(
        # System fonts: the semi-bold faces that gradio 6.31 carries lack the Latin alphabet.
        theme=Default(
            primary_hue="blue",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=CSS + plots.CSS + LESSON_CSS + TIMELINE_CSS,
        footer_links=["api", "settings"],
        run_history=False,
        enable_monitoring=False,
        max_file_size="25mb",
        state_session_capacity=200,
        ssr_mode=False,
        **options,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Soft-MoA Lab")
    parser.add_argument("--host", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    arguments = parser.parse_args()
    threading.Thread(target=explore.warm_up, daemon=True).start()
    launch(build(), server_name=arguments.host, server_port=arguments.port)
