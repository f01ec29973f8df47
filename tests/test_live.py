"""Live mode and long sounds in a real browser, with real clips in the microphone."""

import re

import numpy as np
import pytest
import soundfile
import soxr
import torch
from playwright.sync_api import expect

from analysis.running_app import browser_options
from softmoa.audio import load
from softmoa.ui import live
from softmoa.ui.microphone import Heard, Shown
from softmoa.ui.texts import live as texts
from softmoa.weights import ASSETS

SLOW = 60_000  # ms, on a busy machine


@pytest.fixture(scope="module")
def dog_then_rain(tmp_path_factory):
    """Barks for 6 s, then 6 s of rain, at 48 kHz as browsers want it."""
    dog, rain = (
        load(ASSETS / "examples" / f"{name}.ogg").waveform.numpy() for name in ("dog_bark", "rain")
    )
    sound = np.concatenate([np.tile(dog, 4)[: 6 * 16_000], np.tile(rain, 4)[: 6 * 16_000]])
    path = tmp_path_factory.mktemp("live") / "dog_then_rain.wav"
    soundfile.write(path, soxr.resample(sound, 16_000, 48_000), 48_000)
    return path


@pytest.fixture
def live_page(browser, server, dog_then_rain):
    """The Live tab in a browser whose microphone hears the clips, over and over."""
    own = browser.browser_type.launch(**browser_options(dog_then_rain))
    page = own.new_page()
    page.goto(server[0] + "?tab=live&bundle=esc10-soft-moa")
    yield page
    own.close()


def test_labels_and_bars_follow_the_microphone_until_it_stops(live_page):
    page = live_page
    page.locator("#live-sound .record-button").click(timeout=SLOW)
    labels = page.locator("#live-labels")
    best = labels.locator("h2, [data-testid='label-output-value']").first
    expect(best).to_contain_text("dog bark", timeout=SLOW)
    before = page.locator("#live-bars").inner_html()
    expect(page.locator("#live-bars [data-layer='5']")).to_have_count(7)
    expect(page.locator("#live-bars").get_by_text("Layer 1", exact=True)).to_be_visible()
    expect(best).to_contain_text("rain", timeout=SLOW)
    assert page.locator("#live-bars").inner_html() != before
    status = page.locator("#live-status")
    assert float(re.search(r"([\d.]+) updates per second", status.inner_text())[1]) > 0.1
    page.locator("#live-sound .stop-button:visible").first.click()
    expect(status).to_have_text(texts.IDLE, timeout=SLOW)
    page.wait_for_timeout(2000)
    expect(status).to_have_text(texts.IDLE)
    expect(best).to_be_visible()


def test_an_unknown_bundle_is_said():
    heard = Heard().with_chunk(16_000, np.zeros(8000, np.int16))
    assert live.answer(heard, Shown(), "none such")[-1] == texts.NO_BUNDLE


def test_a_long_sound_gets_a_timeline_and_a_playhead(page, tmp_path):
    rain = load(ASSETS / "examples" / "rain.ogg").waveform
    path = tmp_path / "long.wav"
    soundfile.write(path, torch.cat([rain, rain, rain])[: 12 * 16_000].numpy(), 16_000)
    expect(page.locator("#over-time")).to_have_count(0)
    page.locator("#sound").get_by_label("Upload file").click()
    page.locator("#sound input[type=file]").set_input_files(path)
    # 5 s windows every 2.5 s: 0, 2.5, 5 and the last, at 7.
    expect(page.locator("#share-lanes rect")).to_have_count(4 * 7, timeout=SLOW)
    expect(page.locator("#label-lanes .moa-first")).to_have_count(4)
    page.locator("#window label", has_text="10 s").click()
    expect(page.locator("#share-lanes rect")).to_have_count(2 * 7, timeout=SLOW)
    page.locator("#sound .play-pause-button").first.click()
    head = page.locator("#spectrogram .moa-playhead")
    expect(head).to_be_visible(timeout=SLOW)

    def place() -> float:
        return float(head.evaluate("head => head.style.left").removesuffix("%"))

    first = place()
    page.wait_for_timeout(1000)
    assert 100 / 12 * 0.3 < place() - first < 100 / 12 * 4
    page.locator("#examples button", has_text="bell").click()
    expect(page.locator("#over-time")).to_have_count(0, timeout=SLOW)
