"""The app as a person meets it, in Chromium: its start, an upload, a race, the live mode."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import soundfile
import soxr
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from analysis.bench.measure import Result, Setting
from analysis.bench.running_app import browser_options, running_app
from softmoa.data.audio import SAMPLE_RATE, load
from softmoa.model.weights import ASSETS

DOG, RAIN = (ASSETS / "examples" / f"{name}.ogg" for name in ("dog_bark", "rain"))
PATIENCE = 120_000  # ms
LOOKS = 2  # that the page takes at a running comparison, a second


def app(setting: Setting) -> list[Result]:
    """`make app` to its first page on a warm disk; an upload; a switch; two races; live mode."""
    with running_app():  # warms the disk
        pass
    with (
        running_app() as (_, address, started),
        sync_playwright() as playwright,
        chromium(playwright) as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        return [
            Result("start to the first page", 1000 * started, target=4_000),
            *uploads(browser, address, setting.rounds),
            switch(page, address, setting.rounds),
            *usual_comparison(page, address, "Mandarin tones"),
            *usual_comparison(page, address, "Instrument families"),
            live(page, address),
        ]


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """With barks in its microphone."""
    with TemporaryDirectory() as folder:
        heard = Path(folder) / "heard.wav"
        sound = load(DOG).waveform.numpy()
        soundfile.write(heard, soxr.resample(sound, SAMPLE_RATE, 48_000), 48_000)
        browser = playwright.chromium.launch(**browser_options(heard))
        yield browser
        browser.close()


def uploads(browser: Browser, address: str, rounds: int) -> list[Result]:
    """A 5 s clip to its label, each time on a new page."""
    labelled = []
    for _ in range(rounds + 1):
        page = browser.new_page()
        page.goto(address)
        page.locator("#examples button").first.wait_for(timeout=PATIENCE)
        page.locator("#sound").get_by_label("Upload file").click()
        began = time.perf_counter()
        page.locator("#sound input[type=file]").set_input_files(RAIN)
        expect(page.locator("#stage h2")).to_contain_text("Rain", timeout=PATIENCE)
        labelled.append(1000 * (time.perf_counter() - began))
        page.close()
    what = "upload of a 5 s clip to its label, ast-small, in the browser"
    return [
        Result(f"{what}, first", labelled[0], target=1_500),
        Result(f"{what}, later", median(labelled[1:]), target=1_500),
    ]


def switch(page: Page, address: str, rounds: int) -> Result:
    """An expert of the switchboard is switched, and the model has run again without it."""
    page.goto(address + "?tab=experts&clip=rain&bundle=esc10-soft-moa")
    expect(page.locator("#experts-status")).to_contain_text("esc10-soft-moa", timeout=PATIENCE)
    page.get_by_role("tab", name="Switchboard").click()
    page.locator("#board-answers .js-plotly-plot").wait_for(timeout=PATIENCE)
    drawn = "document.querySelector('#board-answers .js-plotly-plot').calcdata[1][0].s"
    times = []
    for k in range(rounds + 1):
        before = page.evaluate(drawn)
        began = time.perf_counter()
        page.locator("#board-off label").nth(k % 7).click()
        page.wait_for_function(f"before => {drawn} !== before", arg=before, timeout=PATIENCE)
        times.append(1000 * (time.perf_counter() - began))
    return Result(
        "switchboard, from a click to the answer without the expert", median(times[1:]), target=500
    )


CURVES = """(document.querySelector('#curves .js-plotly-plot')?.data ?? [])
  .filter(trace => trace.name)"""


def usual_comparison(page: Page, address: str, task: str) -> list[Result]:
    """The comparison of the Compare tab as it stands there: four methods, ten clips per class."""
    page.goto(address)
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#progress")).to_contain_text("Done", timeout=PATIENCE)  # the recorded one
    recorded = page.evaluate(f"{CURVES}.length")
    page.locator("#task input").click()
    page.get_by_role("option", name=task).click()
    expect(page.locator("#estimate")).to_contain_text("MB", timeout=PATIENCE)
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    received: list[int] = []
    wire.on("Network.dataReceived", lambda event: received.append(event["dataLength"]))
    began = time.perf_counter()
    page.locator("#start").click()
    page.wait_for_function(
        f"recorded => {CURVES}.length < recorded && {CURVES}.some(trace => trace.x.length)",
        arg=recorded,
        timeout=PATIENCE,
    )
    first = time.perf_counter() - began
    received.clear()
    drawn, kilobytes = first, 0.0  # what comes with the end is no update of the charts
    while "Done: 4 of 4" not in page.locator("#progress").inner_text():
        drawn, kilobytes = time.perf_counter() - began, sum(received) / 1000
        page.wait_for_timeout(200)
        assert drawn < 600, "the race does not end"
    took = time.perf_counter() - began
    looks = (drawn - first) * LOOKS
    what = f"race of four methods, {task}"
    return [
        Result(f"{what}, from the click to the first point", first, "s", target=5),
        Result(f"{what}, from the click to the end", took, "s", target=120),
        Result(
            f"{what}, received by the browser for each look at the charts",
            kilobytes / looks,
            "kB",
            target=20,
        ),
    ]


def live(page: Page, address: str) -> Result:
    """Pictures that the Live tab draws in ten seconds of sound."""
    page.goto(address + "?tab=live")
    plot = page.locator("#live-picture .js-plotly-plot")
    plot.wait_for(timeout=PATIENCE)  # the example; the page fetches its recorder meanwhile
    page.wait_for_timeout(5_000)
    page.locator("#live-sound .record-button").click(timeout=PATIENCE)
    expect(page.locator("#live-status")).to_contain_text("Listening", timeout=PATIENCE)
    plot.evaluate("plot => { plot.n = 0; plot.on('plotly_afterplot', () => plot.n++) }")
    page.wait_for_timeout(10_000)
    drawn = plot.evaluate("plot => plot.n")
    page.locator("#live-sound .stop-button:visible").first.click()
    return Result("live mode, from one update to the next", 10_000 / drawn, target=250)
