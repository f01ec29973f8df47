"""The page: its tabs, its look, and how it is served, for `python app.py` and the command line."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from contextlib import suppress

M_ARENA_MAX = -8  # of glibc's malloc.h
if "MALLOC_ARENA_MAX" not in os.environ:
    # One arena for every thread is glibc's way, and each keeps memory that is free.
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)

from softmoa import zero  # noqa: F401, I001  (ZeroGPU's package must come before CUDA is touched)

import gradio as gr
from gradio.themes import Default

from softmoa import plots
from softmoa.limits import LIMITS
from softmoa.plots.lesson import CSS as LESSON_CSS
from softmoa.plots.timeline import CSS as TIMELINE_CSS
from softmoa.ui import (
    about,
    api,
    collect,
    compare,
    compare_form,
    comparing,
    explore,
    lens,
    lesson,
    links,
    live,
    sweeper,
    texts,
)
from softmoa.ui.links import Linked
from softmoa.ui.texts.links import COPY

CSS = """
.timestamps time, .playback span { color: var(--body-text-color-subdued) !important }
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
    # Seconds between two sweeps of gradio's cache, and the age of what goes.
    sweep = (int(sweeper.EVERY), 60 * LIMITS.upload_minutes)
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=sweep) as demo:
        gr.Markdown(texts.INTRO)
        about.tour()
        copy = gr.Button(COPY, size="sm", elem_id="copy-link")
        with gr.Tabs() as tabs:
            with gr.Tab(texts.EXPLORE, id="explore") as tab:
                explored = explore.build(tab)
            with gr.Tab(texts.EXPERTS, id="experts") as experts:
                lens.build(explored, experts)
            with gr.Tab(texts.COMPARE, id="compare") as race:
                own_tasks, raced = compare.build(explored, tabs, race, demo)
            with gr.Tab(texts.SOUNDS, id="sounds") as sounds:
                collect.build(own_tasks, tabs)
            with gr.Tab("Live", id="live") as tab:
                listened = live.build(tab)
            with gr.Tab("Lesson", id="lesson") as tab:
                learned = lesson.build(tab)
        looked = explored.link.beside("experts", experts, ["clip", "bundle"])
        recorded = Linked("sounds", sounds, {}, [], lambda query: [])  # only the tab
        links.wire(demo, tabs, [explored.link, looked, raced, recorded, listened, learned], copy)
        about.build()
        api.build()
    return demo.queue(max_size=LIMITS.queue)


def warm_up() -> None:
    """What the first visitor of each tab would otherwise wait for."""
    explore.warm_up()
    compare_form.warm_up()


def launch(demo: gr.Blocks, **options):
    """Start serving, with the settings every deployment shares."""
    return demo.launch(
        # System fonts: the semi-bold faces that gradio 6.31 carries lack the Latin alphabet.
        theme=Default(
            primary_hue="blue",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ).set(
            # Gradio's own greys and blues miss the contrast of 4.5 : 1 that small text needs.
            body_text_color_subdued="*neutral_500",
            body_text_color_subdued_dark="*neutral_400",
            block_info_text_color="*neutral_500",
            block_info_text_color_dark="*neutral_400",
            link_text_color_dark="*primary_300",
            button_primary_background_fill="*primary_600",
            button_primary_background_fill_hover="*primary_700",
            button_cancel_background_fill="#dc2626",  # red 600 and 700; the theme names no red
            button_cancel_background_fill_hover="#b91c1c",
        ),
        css=CSS + plots.CSS + LESSON_CSS + TIMELINE_CSS,
        footer_links=["api", "settings"],
        run_history=False,
        enable_monitoring=False,
        max_file_size=int(1e6 * LIMITS.upload_mb),
        state_session_capacity=LIMITS.sessions,
        allowed_paths=[str(comparing.RUNS)],  # each folder there has a name that cannot be guessed
        ssr_mode=False,
        _frontend=False,  # its look at its own page fails on a busy machine, and ends the start
        **options,
    )


class ServeError(Exception):
    """The page cannot be served where it was asked for; one sentence for the user."""


def serve(demo: gr.Blocks, host: str | None, port: int | None) -> None:
    """Launch the page, make it ready for its first visitors, and go on until interrupted.

    host: default this machine only. port: default the first free one from 7860. Raises ServeError.
    """
    try:
        if host:
            _check_host(host)
        launch(demo, server_name=host, server_port=port, prevent_thread_lock=True)
    except (OSError, UnicodeError):  # gradio's message names settings that do not apply here
        where = f"port {port}" if port else "any port from 7860"
        instead = "another one with --port"
        if host:
            where = f"{host}, {where}"
            instead = "another address with --host or port with --port"
        raise ServeError(f"Cannot serve on {where}: choose {instead}.") from None
    threading.Thread(target=warm_up, daemon=True).start()
    sweeper.start()
    demo.block_thread()


def _check_host(host: str) -> None:
    """Raises OSError, or UnicodeError, if this machine has no such address: gradio would try every
    port on it, five seconds each."""
    found = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)
    family, kind, _, _, address = found[0]
    with socket.socket(family, kind) as probe:
        probe.bind(address)
