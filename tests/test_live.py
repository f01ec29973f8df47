"""Live mode and long sounds in a real browser, with real clips in the microphone."""

import re

import numpy as np
import pytest
import soundfile
import soxr
import torch
from playwright.sync_api import expect

from softmoa.audio import load
from softmoa.ui import live
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
    own = browser.browser_type.launch(
        executable_path="/usr/bin/chromium",
        args=[
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={dog_then_rain}",
        ],
    )
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
    expect(best).to_contain_text("rain", timeout=SLOW)
    assert page.locator("#live-bars").inner_html() != before
    status = page.locator("#live-status")
    assert float(re.search(r"([\d.]+) updates per second", status.inner_text())[1]) > 0.1
    page.locator("#live-sound .stop-button:visible").first.click()
    page.wait_for_timeout(3000)
    stopped = status.inner_text()
    page.wait_for_timeout(2000)
    assert status.inner_text() == stopped


def test_only_the_last_seconds_are_kept():
    heard = live.Heard()
    for value in range(10):
        heard = live.listen((8000, np.full(8000, 1000 * value, np.int16)), heard)
    assert len(heard.samples) == int(live.SECONDS * 8000) and heard.chunks == 10
    seconds = heard.samples.reshape(-1, 8000)
    assert (seconds == seconds[:, :1]).all()
    assert seconds[:, 0].tolist() == pytest.approx([7000 / 2**15, 8000 / 2**15, 9000 / 2**15])


def test_another_rate_starts_anew_and_odd_chunks_are_left_out():
    heard = live.listen((8000, np.zeros(8000, np.int16)), live.Heard())
    assert live.listen(None, heard) is heard
    assert live.listen((8000, np.zeros(0, np.int16)), heard) is heard
    assert live.listen((7, np.zeros(7, np.int16)), heard) is heard
    again = live.listen((16_000, np.ones((100, 2), np.float32)), heard)
    assert again.rate == 16_000 and again.samples.tolist() == [1.0] * 100


def test_an_update_without_news_runs_no_model(monkeypatch):
    monkeypatch.setattr(live, "classify", None)
    heard = live.listen((16_000, np.zeros(8000, np.int16)), live.Heard())
    assert "active" not in live.update(heard, live.Shown(chunks=1), live.DEFAULT_BUNDLE)[-1]
    monkeypatch.setattr(live.time, "monotonic", lambda: heard.at + live.SILENT + 1)
    assert live.update(heard, live.Shown(chunks=1), live.DEFAULT_BUNDLE)[-1].active is False


def test_updates_per_second():
    assert live.Shown().per_second == 0
    assert live.Shown(3, (10.0, 10.5, 11.0)).per_second == pytest.approx(2)
    assert len(live.Shown(3, tuple(range(10))).next(4).times) == 10


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
