"""The real app in a real server process, driven in a real browser."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from gradio.route_utils import delete_files_created_by_app
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Page, expect

from softmoa import collection
from softmoa.classify import DEFAULT_BUNDLE, classify, open_classifier
from softmoa.ui import comparing, explore, explore_files, live, sweeper
from softmoa.ui import page as the_page
from softmoa.ui.backbones import bundle_choices
from softmoa.ui.examples import clip_name, example_clips
from softmoa.ui.texts import explore as texts
from softmoa.weights import ASSETS

ROOT = Path(__file__).parents[1]
EXAMPLES = ASSETS / "examples"
TONE_HZ = 1234


def pick_example(page: Page, name: str) -> None:
    page.locator("#examples button", has_text=name).click()
    expect(page.locator("#overlay [data-token]").first).to_be_attached(timeout=60_000)


def upload(page: Page, path: Path) -> None:
    page.locator("#sound").get_by_label("Upload file").click()
    page.locator("#sound input[type=file]").set_input_files(path)


def test_an_example_shows_labels_heatmaps_and_bars(page):
    pick_example(page, "dog bark")
    result = classify(open_classifier(), EXAMPLES / "dog_bark.ogg")
    expect(page.locator("#labels")).to_contain_text(result.top(1)[0][0])
    expect(page.locator("#waveform svg")).to_be_visible()
    expect(page.locator("#spectrogram img")).to_be_visible()
    patches = result.grid.bands * result.grid.columns
    assert page.locator("#overlay .moa-cells [data-token]").count() == patches
    assert page.locator("#experts button[data-expert]").count() == 7
    assert page.locator("#contributions [data-layer='5']").count() == 7
    assert page.locator("#layer-bars [data-expert]").count() == 7


@pytest.mark.parametrize(("bundle", "times"), [(DEFAULT_BUNDLE, 1), ("esc10-soft-moa", 0)])
def test_probabilities_of_labels_that_may_all_be_true_are_explained(bundle, times):
    choice = (1, "mhsa", "dispatch", 0, 0, None)
    outputs = explore.run_model(str(EXAMPLES / "dog_bark.ogg"), bundle, "ast-small", *choice)
    assert outputs[2].count(texts.SEVERAL_TRUE) == times


def test_what_the_bars_say_is_what_the_command_line_says(page):
    pick_example(page, "rooster")
    command = [sys.executable, "-m", "softmoa", "classify", EXAMPLES / "rooster.ogg", "--json"]
    report = json.loads(subprocess.run(command, capture_output=True, cwd=ROOT).stdout)
    shown = page.locator("#contributions [data-layer='2'][data-expert='3']").get_attribute("title")
    expected = 100 * report["experts"][2]["contribution"][3]
    assert float(re.search(r"([\d.]+) %", shown)[1]) == pytest.approx(expected, abs=0.006)


def test_a_patch_shows_its_exact_weights(page):
    pick_example(page, "dog bark")
    result = classify(open_classifier(), EXAMPLES / "dog_bark.ogg")
    token = result.grid.token(4, 6)
    page.locator(f"#overlay [data-token='{token}']").click()
    row = page.locator("#patch tbody tr").nth(2)
    expect(row).to_be_visible()
    routing = result.records[0].routing
    assert row.locator("td").nth(1).text_content() == (
        f"{routing.dispatch_weights[0, token, 2, 0]:.5f}"
    )
    assert row.locator("td").nth(2).text_content() == (
        f"{routing.combine_weights[0, token, 2, 0]:.5f}"
    )
    start, end = result.grid.seconds(6)
    expect(page.locator("#patch")).to_contain_text(f"{start:.2f}–{end:.2f} s")


def test_layer_view_and_expert_change_the_pictures_without_running_the_model(page):
    pick_example(page, "dog bark")
    status = page.locator("#status").text_content()
    title = page.locator("#overlay b")
    page.locator("#experts button[data-expert='4']").click()
    expect(title).to_have_text("Dispatch of expert 5, layer 1, beside MHSA")
    page.locator("#contributions [data-layer='3'][data-expert='1']").click()
    expect(title).to_have_text("Dispatch of expert 2, layer 4, beside MHSA")
    expect(page.locator("#layer input[type=number]")).to_have_value("4")
    page.locator("#view label", has_text="Combine").click()
    expect(title).to_have_text("Combine of expert 2, layer 4, beside MHSA")
    page.locator("#expert label", has_text="7").click()
    expect(title).to_have_text("Combine of expert 7, layer 4, beside MHSA")
    page.locator("#layer input[type=number]").fill("6")
    page.locator("#layer input[type=number]").press("Enter")
    expect(title).to_have_text("Combine of expert 7, layer 6, beside MHSA")
    assert page.locator("#status").text_content() == status


@pytest.mark.parametrize("kind", ["png", "csv", "json"])
def test_downloads(page, kind, tmp_path):
    pick_example(page, "bell")
    with page.expect_download() as download:
        page.locator(f"#make-{kind}").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.suffix == f".{kind}"
    content = path.read_bytes()
    if kind == "png":
        assert content.startswith(b"\x89PNG") and len(content) > 50_000
    elif kind == "csv":
        assert content.startswith(b"layer,site,expert,slot,token")
    else:
        assert len(json.loads(content)["mixtures"]) == 6


def test_the_microphone_is_recorded_and_classified(page, server):
    before = set(server[1].rglob("*.wav"))
    page.locator("#sound .record-button").click()
    page.wait_for_timeout(2500)
    page.locator("#sound .stop-button:visible").first.click()
    expect(page.locator("#overlay [data-token]").first).to_be_attached(timeout=60_000)
    expect(page.locator("#status")).to_contain_text("s of sound")
    [recorded] = set(server[1].rglob("*.wav")) - before
    samples, rate = soundfile.read(recorded)
    assert rate == 16_000 and samples.ndim == 1 and len(samples) > rate
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    peak = spectrum.argmax() * rate / (8 * len(samples))
    assert abs(peak - TONE_HZ) < 2


def test_an_uploaded_clip_is_classified(page):
    upload(page, EXAMPLES / "speech.flac")
    expect(page.locator("#overlay [data-token]").first).to_be_attached(timeout=60_000)
    expect(page.locator("#contributions")).to_contain_text("All layers")


def test_a_bad_upload_gets_one_sentence(page, problems, tmp_path):
    pick_example(page, "dog bark")
    page.locator("#sound").get_by_label("Clear").click()
    expect(page.locator("#status")).to_contain_text("Record or upload a sound")
    expect(page.locator("#overlay")).to_have_count(0)
    fake = tmp_path / "song.wav"
    fake.write_text("this is a text")
    upload(page, fake)
    sentence = "This is not a sound file that can be read"
    expect(page.locator("#status")).to_contain_text(sentence)
    expect(page.locator(".toast-body")).to_contain_text(sentence)
    expect(page.locator("#overlay")).to_have_count(0)
    page.wait_for_timeout(500)
    # The browser's own player cannot read the file either, and says so.
    assert set(problems) <= {"Waveform load error: MediaError"}
    problems.clear()


def test_it_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    pick_example(page, "train")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390


@pytest.fixture(scope="module")
def client(server):
    return Client(server[0], verbose=False)


def test_http_classify(client):
    report = client.predict(
        file=handle_file(EXAMPLES / "dog_bark.ogg"),
        bundle="esc10-soft-moa",
        top_k=2,
        api_name="/classify",
    )
    assert report["labels"][0]["label"] == "dog bark" and len(report["labels"]) == 2
    assert [row["layer"] for row in report["experts"]] == list(range(6))


def test_http_routing(client):
    routing = client.predict(
        file=handle_file(EXAMPLES / "dog_bark.ogg"), layer=3, expert=5, api_name="/routing"
    )
    record = classify(open_classifier(), EXAMPLES / "dog_bark.ogg").records[3]
    expected = record.routing.dispatch_weights[0, :, 5, 0].tolist()
    flat = routing["special"]["dispatch"] + sum(routing["dispatch"], [])
    assert flat == pytest.approx(expected, abs=1e-6)
    assert len(routing["hertz"]) == 8 and len(routing["seconds"]) == len(routing["dispatch"][0])


@pytest.mark.parametrize(
    "values, words",
    [
        ({"bundle": "../../etc/passwd"}, "no bundle of that name"),
        ({"top_k": 0}, "top_k"),
    ],
)
def test_http_refuses_bad_values_with_one_sentence(client, values, words):
    with pytest.raises(AppError, match=words):
        client.predict(file=handle_file(EXAMPLES / "bell.ogg"), api_name="/classify", **values)


def test_http_contract(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    names = {
        name: [p["parameter_name"] for p in endpoint["parameters"]]
        for name, endpoint in endpoints.items()
    }
    assert names == {
        "/classify": ["file", "bundle", "top_k"],
        "/routing": ["file", "bundle", "layer", "expert", "slot", "site"],
        "/ablate": [
            "file",
            "bundle",
            "layer",
            "experts",
            "mode",
            "site",
            "dispatch",
            "combine",
            "seed",
        ],
        "/compare": ["task", "methods", "shots", "epochs", "seeds"],
    }
    for endpoint in endpoints.values():
        assert len(endpoint["returns"]) == 1 and endpoint["description"]


def test_http_compare_streams_and_ends_with_a_table(client):
    job = client.submit(
        task="tones", methods="linear,lora", shots=2, epochs=1, seeds="0", api_name="/compare"
    )
    last = job.result(timeout=280)
    assert last["status"] == "done" and last["test_clips"] > 100 and last["failed"] == []
    assert [row["method"] for row in last["rows"]] == ["linear", "lora"]
    assert all(0 < row["test_accuracy"] <= 1 for row in last["rows"])
    assert "Linear probe" in last["conclusion"]
    running = job.outputs()[:-1]
    assert {answer["status"] for answer in running} == {"running"}
    shares = [answer["progress"] for answer in running]
    assert shares == sorted(shares) and shares[-1] <= 1


@pytest.mark.parametrize(
    "values, words",
    [
        ({"task": "birds"}, "no such task; there are"),
        ({"task": "../../etc"}, "no such task"),
        ({"methods": "linear,magic"}, "no method 'magic'"),
        ({"methods": "linear,linear"}, "named twice"),
        ({"methods": ""}, "no method"),
        ({"methods": "linear", "seeds": ",".join(map(str, range(50)))}, "50 runs; at most 12"),
        ({"seeds": "one"}, "whole numbers"),
        ({"seeds": "-1"}, "whole numbers"),
        ({"shots": 0}, "shots must be from 1"),
        ({"shots": 1e300}, "shots must be from 1"),
        ({"epochs": 0.5}, "epochs must be a whole number"),
        ({"epochs": 10**9}, "epochs must be from 1 to 1000"),
        ({"task": "tones", "shots": 1000}, "fewer than"),
    ],
)
def test_http_compare_refuses_bad_values_with_one_sentence(client, values, words):
    with pytest.raises(AppError, match=words):
        client.predict(api_name="/compare", **values)


def test_a_change_of_layer_sends_little():
    """A 10 s clip: all figures that a choice redraws, as JSON, stay under 150 kB."""
    noise = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    result = classify(open_classifier(), (16_000, noise))
    drawn = explore.draw_choice(result, 3, "mhsa", "dispatch", 2, 0, 40)
    assert len(json.dumps(drawn)) < 150_000


@pytest.fixture
def taken():
    """A port that something else serves on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield str(other.getsockname()[1])


ELSEWHERE = "choose another address with --host or port with --port."


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--port", "99999"], "app.py: error: argument --port: 99999 is not from 1 to 65535"),
        (["--port", "TAKEN"], "Cannot serve on port TAKEN: choose another one with --port."),
        (
            ["--host", "127.0.0.1", "--port", "TAKEN"],
            f"Cannot serve on 127.0.0.1, port TAKEN: {ELSEWHERE}",
        ),
        (
            ["--host", "192.0.2.1"],  # of documentation, nobody's
            f"Cannot serve on 192.0.2.1, any port from 7860: {ELSEWHERE}",
        ),
        (
            ["-m", "softmoa", "app", "--port", "TAKEN"],
            "Error: Cannot serve on port TAKEN: choose another one with --port.",
        ),
    ],
)
def test_where_it_cannot_serve_is_one_sentence(taken, arguments, words):
    front = arguments if arguments[0] == "-m" else ["app.py", *arguments]
    command = [sys.executable, *(a.replace("TAKEN", taken) for a in front)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)
    *usage, said = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said == words.replace("TAKEN", taken)
    assert not usage or usage[0].startswith("usage: app.py") and len(usage) == 1


def test_the_examples_outlive_the_sweep_of_what_was_sent():
    demo = the_page.build()
    [sound] = [block for block in demo.blocks.values() if block.elem_id == "sound"]
    copies = [Path(path) for path in sound.temp_files]
    assert len(copies) == len(example_clips()) and all(path.exists() for path in copies)
    delete_files_created_by_app(demo, 0)
    assert all(path.exists() for path in copies)


def test_a_sound_that_was_swept_away_is_said(tmp_path):
    gone = str(tmp_path / "dog_bark.ogg")
    choice = 1, "mhsa", "dispatch", 0, 0, None
    assert explore.run_model(gone, DEFAULT_BUNDLE, "ast-small", *choice)[2] == texts.GONE
    assert clip_name(gone) == ""


def test_no_two_bundles_have_one_title():
    for offered in (bundle_choices("ast-small"), live.choices()):
        titles = [title for title, _ in offered]
        assert len(set(titles)) == len(titles) and "esc10: Top-2 MoA, 10 labels" in titles


def test_nothing_waits_for_another_visitor_to_be_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "ROOT", tmp_path / "takes")
    monkeypatch.setattr(explore_files, "EXPORTS", tmp_path / "exports")
    monkeypatch.setattr(comparing, "RUNS", tmp_path / "runs")
    sweeper.sweep()  # there is nothing yet
    for name in ("takes", "exports", "runs"):
        for age in ("old", "new"):
            (tmp_path / name / age).mkdir(parents=True)
            log = tmp_path / name / age / "events.jsonl"
            log.touch()
            if age == "old":
                os.utime(log, (0, 0))
                os.utime(log.parent, (0, 0))
    sweeper.sweep()
    assert {path.name for path in tmp_path.glob("*/*")} == {"new"}


def test_a_sweep_that_fails_does_not_keep_the_others(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(24, "Too many open files")

    swept = []
    monkeypatch.setattr(sweeper.folders, "sweep", fail)
    monkeypatch.setattr(comparing, "sweep", lambda: swept.append("runs"))
    sweeper.sweep()
    assert swept == ["runs"] and caplog.text.count("a sweep failed") == 2


def test_old_downloads_are_swept_away(tmp_path, monkeypatch):
    monkeypatch.setattr(explore_files, "EXPORTS", tmp_path)
    result = classify(open_classifier(), EXAMPLES / "dog_bark.ogg")
    old, new = (
        Path(explore_files.make_file("csv", result, 1, "mhsa", "dispatch", 0, 0, None))
        for _ in range(2)
    )
    assert old.exists() and new.exists()
    os.utime(old.parent, (0, 0))
    explore_files.make_file("json", result, 1, "mhsa", "dispatch", 0, 0, None)
    assert not old.parent.exists() and new.exists()
