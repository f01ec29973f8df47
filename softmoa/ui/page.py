"""The page: its tabs, its look, and how it is served, for `python app.py` and the command line."""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import gradio as gr
import torch
from gradio import route_utils, state_holder
from gradio.themes import Default

from softmoa.data import collection, folders
from softmoa.data.limits import limits
from softmoa.data.tasks import EMBEDDED
from softmoa.data.values import InputError
from softmoa.lens.hearing import hear
from softmoa.methods.card import CITATION
from softmoa.model import device
from softmoa.ui import (
    api,
    collect,
    compare_form,
    comparing,
    examples,
    experts,
    explore_files,
    favourites,
    jobs,
    links,
    live,
)
from softmoa.ui.compare import Compare
from softmoa.ui.explore import Explored
from softmoa.ui.figure import Note
from softmoa.ui.guard import Guard, Session, Upload, share_out
from softmoa.ui.lesson import tab as lesson
from softmoa.ui.links import Linked

SWEPT_EVERY = 60  # seconds
# Of Python's interpreter, a fiftieth of its own: every operation of torch lets go of it and asks
# for it again, so beside somebody's long loop a pass of the model waits that often.
TURN = 0.0001  # seconds
M_ARENA_MAX = -8  # of glibc's malloc.h


def build() -> gr.Blocks:
    """The whole app, not yet launched."""
    # Of gradio's cache: seconds between two sweeps, and the age of what goes.
    swept = SWEPT_EVERY, 60 * limits().upload_minutes
    with gr.Blocks(title="Soft-MoA Lab", analytics_enabled=False, delete_cache=swept) as demo:
        with gr.Row(elem_classes="head"):
            gr.Markdown("# Soft-MoA Lab\nSee which expert hears what.")
            copy = gr.Button(links.COPY, size="sm", elem_id="copy-link")
        with gr.Tabs() as tabs:
            with gr.Tab("Explore", id="explore") as tab:
                explored = Explored(tab)
            with gr.Tab("Experts", id="experts") as tab:
                looked = experts.build(explored, tab)
            with gr.Tab("Compare", id="compare") as race:
                raced = Compare(explored, tabs, race, demo)
            with gr.Tab("Your sounds", id="sounds") as sounds:
                collect.Sounds(raced)
            with gr.Tab("Live", id="live") as tab:
                listened = live.build(tab)
            with gr.Tab("Lesson", id="lesson") as tab:
                learned = lesson.build(tab)
        recorded = Linked("sounds", sounds, {})  # only the tab
        linked = [explored.link, looked, raced.link, recorded, listened, learned]
        links.wire(demo, tabs, linked, copy)
        _about()
        api.build()
    demo.queue(api_open=False)  # else a direct call need not wait for its turn
    share_out(demo._queue)
    route_utils.GradioUploadFile, state_holder.SessionState = Upload, Session
    return demo


def _about() -> None:
    """Below the tabs, folded: what becomes of sounds, the server's limits, how to cite."""
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


def warm_up() -> None:
    """What the first visitor of each tab would otherwise wait for."""
    opened = experts.opening()
    everything = torch.ones(opened.grid.bands, opened.grid.columns)
    hear(opened.clip.waveform, everything, opened.grid)  # librosa is slow to come
    favourites.of(opened.classifier)
    compare_form.warm_up()


def launch(demo: gr.Blocks, **options):
    """Start serving, with the settings every deployment shares."""
    package = Path(__file__).parents[1]
    sheets = [path for room in ("plots", "ui") for path in sorted((package / room).rglob("*.css"))]
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
        css_paths=sheets,
        js=(package / "ui" / "microphone.js").read_text(encoding="utf-8"),
        footer_links=["api", "settings"],
        run_history=False,
        enable_monitoring=False,
        max_file_size=int(1e6 * limits().upload_mb),
        state_session_capacity=limits().sessions,
        max_threads=limits().queue + 40,  # who watches a race has one; page loads need some too
        # Clips to try, and runs: each folder of those has a name that cannot be guessed.
        allowed_paths=[str(examples.EXAMPLES), str(EMBEDDED), str(comparing.runs())],
        ssr_mode=False,
        app_kwargs={"middleware": [(Guard, (), {})]},  # as starlette unpacks its own Middleware
        _frontend=False,  # its look at its own page fails on a busy machine, and ends the start
        **options,
    )


def serve(demo: gr.Blocks, host: str | None, port: int | None) -> None:
    """Launch the page, make it ready for its first visitors, and go on until interrupted.

    host: default this machine only. port: default the first free one from 7860. Raises InputError
    if it cannot be served there, or if comparisons cannot be kept.
    """
    _share_arenas()
    sys.setswitchinterval(TURN)
    comparing.claim()
    try:
        if host:  # one that this machine has not: gradio would try every port, five seconds each
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host.strip("[]"), 0), family=family).close()
        launch(demo, server_name=host, server_port=port, prevent_thread_lock=True)
    except (OSError, UnicodeError):  # gradio's message names settings that do not apply here
        where = f"port {port}" if port else "any port from 7860"
        instead = "another one with --port"
        if host:
            where = f"{host}, {where}"
            instead = "another address with --host or port with --port"
        raise InputError(f"Cannot serve on {where}: choose {instead}.") from None
    threading.Thread(target=warm_up, daemon=True).start()
    threading.Thread(target=_keep_sweeping, daemon=True).start()
    try:
        demo.block_thread()
    finally:
        jobs.close()


def sweep() -> None:
    """Remove the takes, downloads and comparisons that are kept no longer."""
    for remove in (
        partial(folders.sweep, collection.ROOT, limits().upload_minutes),
        partial(folders.sweep, explore_files.EXPORTS, limits().download_minutes),
        comparing.sweep,
    ):
        try:
            remove()
        except FileNotFoundError:  # none yet
            continue
        except OSError:  # the others go on, and this one next time
            logging.exception("a sweep failed")


def _keep_sweeping() -> None:
    """What visitors leave is deleted when its time is over, whether or not another one comes."""
    while True:
        time.sleep(SWEPT_EVERY)
        sweep()


def _share_arenas() -> None:
    """One arena of memory for every thread is glibc's way, and each keeps what is free."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError, OSError, TypeError):  # another C library
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
