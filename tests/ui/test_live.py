"""Live mode and long sounds in a real browser, with real clips in the microphone."""

import time
from functools import reduce

import numpy as np
import pytest
import soundfile
import soxr
from playwright.sync_api import expect
from test_app import upload

from softmoa.data.audio import load
from softmoa.lens.headline import Headline
from softmoa.model.weights import ASSETS
from softmoa.plots.live import listening
from softmoa.ui import live


def test_only_what_was_named_surely_is_remembered():
    bark, guess = Headline(("Bark",), True), Headline(("Caw",), False)
    heard = (bark, guess, bark, Headline((), True, "Silence"), Headline(("Rain",), True))
    assert reduce(live.remembered, heard, ()) == ("Bark", "Rain")


def test_no_chart_stands_beside_another():
    drawn = listening(np.zeros((99, 128)), 1, {"Rain": 0.5}, [1], 0.5, 5)
    assert [axis.domain for axis in drawn.select_xaxes()] == [(0, 1)] * 3


def test_the_tab_opens_on_an_example(page):
    page.get_by_role("tab", name="Live").click()
    expect(page.locator("#live-status")).to_have_text(live.TRUMPET.replace("*", ""))
    assert bars(page)["Trumpet"] > 0.5
    expect(page.locator("#live-said h3")).to_have_text("Trumpet")


def test_labels_and_bars_follow_the_microphone_until_it_stops(go, visitor, microphone):
    """It hears barks for 6 s, then 6 s of rain, over and over."""
    clips = [load(ASSETS / "examples" / f"{name}.ogg").waveform for name in ("dog_bark", "rain")]
    sound = np.concatenate([clip.repeat(4)[: 6 * 16_000] for clip in clips])
    soundfile.write(microphone, soxr.resample(sound, 16_000, 48_000), 48_000)
    recorder = "**/module-*.js"  # gradio's, which comes late
    visitor.route(recorder, lambda route: (time.sleep(2), route.continue_()))
    page = go("?tab=live&bundle=esc10-soft-moa")
    page.locator("#live-sound .record-button").click()  # at once, and it is not lost
    said, status = page.locator("#live-said h3"), page.locator("#live-status")
    expect(said).to_have_text("dog bark")
    expect(status).to_contain_text("Listening")
    before = bars(page)
    drawn = page.locator("#live-picture .main-svg").first.element_handle()
    expect(said).to_have_text("rain")
    expect(page.locator("#live-said")).to_contain_text("dog bark")  # what was before
    while max(after := bars(page), key=after.get) != "rain":  # what is heard goes on meanwhile
        page.wait_for_timeout(200)
    assert before != after
    assert drawn.evaluate("svg => svg.isConnected")  # updated in place
    page.locator("#live-sound .stop-button:visible").first.click()
    expect(status).to_have_text(live.IDLE)
    expect(said).to_be_visible()
    visitor.unroute(recorder)


def bars(page) -> dict[str, float]:
    return page.locator("#live-picture .js-plotly-plot").evaluate(
        "plot => { const bars = plot.data[1];"
        " return Object.fromEntries(bars.hovertext.map((label, k) => [label, bars.x[k]])); }"
    )


@pytest.mark.parametrize(
    ("seconds", "windows", "said"),
    [
        (12, 4, ""),  # of 5 s, every 2.5 s: 0, 2.5, 5 and the last, at 7
        (40, 15, "All 0:40 min were heard."),  # it goes on behind what the stage shows
    ],
)
def test_a_long_sound_gets_a_timeline_and_is_heard_to_its_end(
    page, tmp_path, seconds, windows, said
):
    rain = load(ASSETS / "examples" / "rain.ogg").waveform
    path = tmp_path / "long.flac"
    soundfile.write(path, rain.repeat(20)[: seconds * 16_000].numpy(), 16_000)
    page.get_by_role("tab", name="Explore").click()
    expect(page.locator("#over-time")).to_be_hidden()
    page.locator("#sound").get_by_label("Clear").click()
    upload(page, path)
    expect(page.locator("#heard")).to_have_text(said)
    edges = "document.querySelector('#timeline .js-plotly-plot')?.data?.[0].x.length"
    page.wait_for_function(f"{edges} === {windows + 1}")
    page.locator("#examples button", has_text="bell").click()
    expect(page.locator("#over-time")).to_be_hidden()
