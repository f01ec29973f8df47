"""A real race in the real app: curves move, a stop stops, a winner goes to Explore."""

import csv
import re
import zipfile

import pytest
from playwright.sync_api import Page, expect

from softmoa.ui import comparing

LONG = 280_000  # milliseconds a busy machine may take
INSTRUMENTS = "keyboard mallet organ guitar bass string vocal brass reed flute synth_lead".split()


def open_compare(page: Page, methods: list[str], shots: str = "5", epochs: int = 1) -> None:
    """Fill in the form of the tab."""
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#task input")).to_have_value("Mandarin tones")
    page.locator("#task input").click()
    page.get_by_role("option", name="Instrument families").click()
    for box in page.locator("#methods label").all():
        wanted = box.text_content().strip() in methods
        if box.locator("input").is_checked() != wanted:
            box.click()
    page.locator("#shots").get_by_label(shots, exact=True).check()
    number = page.locator("#amount input[type=number]")
    number.fill(str(epochs))
    number.press("Enter")


def points(page: Page) -> list[int]:
    """Number of points of every accuracy curve."""
    return page.locator("#accuracy polyline").evaluate_all(
        "lines => lines.map(line => line.points.numberOfItems)"
    )


def wait_for_points(page: Page, most: int) -> None:
    page.wait_for_function(
        "most => [...document.querySelectorAll('#accuracy polyline')]"
        ".some(line => line.points.numberOfItems >= most)",
        arg=most,
        timeout=LONG,
    )


def choose_run(page: Page, name: str) -> None:
    page.locator("#run input").click()
    page.get_by_role("option", name=name).click()


def download(page: Page, button: str, folder):
    with page.expect_download() as waiting:
        page.locator(button).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def forgive_leaving(problems: list[str]) -> None:
    """A page that is left while it is told something says so to its console."""
    assert all("abort" in said.lower() or "Connection errored out" in said for said in problems)
    problems.clear()


@pytest.mark.timeout(900)
def test_a_race_from_start_to_explore(page, go, tmp_path):
    names = ["Linear probe", "Bottleneck adapter", "Soft-MoA"]
    open_compare(page, names, epochs=2)
    expect(page.locator("#task input")).to_have_value("Instrument families")
    expect(page.locator("#estimate")).to_contain_text("Soft-MoA 133,758", timeout=LONG)
    page.locator("#start").click()
    wait_for_points(page, 1)
    early = points(page)
    expect(page.locator("#start")).to_be_disabled()
    wait_for_points(page, 3)
    assert sum(points(page)) > sum(early)  # curves move
    expect(page.locator("#accuracy .race-labels")).to_contain_text("Soft-MoA")

    expect(page.locator("#progress")).to_contain_text("Done: 3 of 3", timeout=LONG)
    assert points(page) == [3, 3, 3]
    rows = page.locator("#results tbody tr")
    assert [row.locator("td").first.text_content() for row in rows.all()] == names
    for row in rows.all():
        accuracy = float(row.locator("td").nth(6).text_content().rstrip(" %"))
        assert 15 < accuracy <= 100  # chance is 9 %
    assert rows.nth(2).locator("td").nth(1).text_content() == "133,758 (1.2 %)"
    expect(page.locator("#verdict")).to_contain_text(re.compile("clear|ahead"))
    expect(page.locator("#balance .race-panel")).to_have_count(6)
    expect(page.locator("#by-size .race-dot")).to_have_count(3)
    expect(page.locator("#by-time .race-dot")).to_have_count(3)

    page.locator("#axis").get_by_label("seconds of training").check()
    expect(page.locator("#accuracy .race-x-title")).to_contain_text("seconds")
    assert points(page) == [3, 3, 3]

    choose_run(page, "Soft-MoA")
    expect(page.locator("#confusion")).to_contain_text("Soft-MoA, seed 0")
    cells = page.locator("#confusion tbody td").all_text_contents()
    assert len(cells) == 121 and sum(int(cell or 0) for cell in cells) == 264
    page.locator("#worst button").first.click()
    expect(page.locator("#clip audio, #clip [data-testid*=waveform]").first).to_be_attached()

    with download(page, "#table-file", tmp_path).open() as table:
        assert {row["method"] for row in csv.DictReader(table)} == {"linear", "adapter", "soft-moa"}
    assert download(page, "#make-figures", tmp_path).read_bytes().startswith(b"\x89PNG")
    assert download(page, "#bundle-file", tmp_path).name == "instruments-soft-moa-seed0.safetensors"
    everything = download(page, "#make-all", tmp_path)
    assert len([n for n in zipfile.ZipFile(everything).namelist() if "safetensors" in n]) == 3

    page.locator("#send").click()
    expect(page.locator("#examples")).to_be_visible()
    expect(page.locator("#bundle input")).to_have_value(re.compile("yours: Soft-MoA, seed 0"))
    page.locator("#examples button", has_text="trumpet").click()
    expect(page.locator("#overlay [data-token]").first).to_be_attached(timeout=60_000)
    assert any(name in page.locator("#labels").text_content() for name in INSTRUMENTS)

    # The saved comparison opens again, on a page that knows nothing of it.
    table = page.locator("#results table").text_content()
    page = go("")
    page.wait_for_function("window.softmoaLinkOpened")
    page.get_by_role("tab", name="Compare").click()
    page.locator("#more").get_by_text("More settings").click()
    page.locator("#reopen input[type=file]").set_input_files(everything)
    expect(page.locator("#results table")).to_have_text(table, timeout=60_000)
    assert points(page) == [3, 3, 3]
    expect(page.locator("#confusion tbody tr")).to_have_count(11)
    # Another one takes its place as a whole, though its best run may have the same name.
    page.locator("#reopen button[aria-label*=Remove], #reopen [aria-label*=Clear]").first.click()
    page.locator("#reopen input[type=file]").set_input_files(comparing.EXAMPLE)
    expect(page.locator("#confusion tbody tr")).to_have_count(10)
    expect(page.locator("#confusion")).to_contain_text("seven")


@pytest.mark.timeout(600)
def test_stop_keeps_what_was_finished(page, problems):
    open_compare(page, ["Linear probe", "Full fine-tuning"], epochs=30)
    page.locator("#more").get_by_text("More settings").click()
    page.locator("#turns input").uncheck()  # the probe is over before the other one begins
    page.locator("#start").click()
    probe = page.locator("#results tbody tr").first
    expect(probe).to_contain_text("done", timeout=LONG)
    page.reload()  # it is still this browser's to stop
    expect(probe).to_contain_text("done", timeout=LONG)
    page.wait_for_function("window.softmoaLinkOpened")
    forgive_leaving(problems)
    page.locator("#stop").click()
    expect(page.locator("#progress")).to_contain_text("Stopped: 1 of 2", timeout=20_000)
    expect(page.locator("#start")).to_be_enabled()
    expect(page.locator("#confusion")).to_contain_text("Linear probe, seed 0")
    page.get_by_role("tab", name="Explore").click()
    page.locator("#examples button", has_text="bell").click()
    expect(page.locator("#overlay [data-token]").first).to_be_attached(timeout=60_000)


@pytest.mark.timeout(900)
def test_two_visitors_a_reload_and_a_closed_page(page, server, problems):
    open_compare(page, ["Bottleneck adapter"], epochs=30)
    page.locator("#start").click()
    expect(page.locator("#results tbody tr")).to_contain_text("Bottleneck adapter", timeout=LONG)
    for _ in range(2):  # the address must survive what the page makes of it
        page.reload()
        expect(page.locator("#results tbody tr")).to_contain_text("Bottleneck", timeout=LONG)
        page.wait_for_function("window.softmoaLinkOpened")
        page.get_by_role("tab", name="Lesson").click()
        page.wait_for_function("location.search.includes('tab=lesson')")
        assert "run=" not in page.url
        page.get_by_role("tab", name="Compare").click()
        page.wait_for_function("/tab=compare&run=[\\w-]{12}/.test(location.search)")
    expect(page.locator("#stop")).to_be_enabled()
    wait_for_points(page, 1)  # it goes on

    other = page.context.new_page()
    other.goto(server[0])
    other.wait_for_selector("#examples button")
    open_compare(other, ["Linear probe"])
    expect(other.locator("#results tbody tr")).to_have_count(0)  # nothing of the first visitor's
    other.locator("#start").click()
    expect(other.locator("#progress")).to_contain_text("Waiting: 1 before", timeout=LONG)
    page.close()  # nobody watches the first one any more
    expect(other.locator("#progress")).to_contain_text("Done: 1 of 1", timeout=LONG)
    forgive_leaving(problems)


def test_a_recorded_comparison_can_be_looked_at_without_waiting(page):
    page.get_by_role("tab", name="Compare").click()
    page.locator("#example").click()
    expect(page.locator("#progress")).to_contain_text("Done: 18 of 18", timeout=60_000)
    said = "Free Spoken Digit Dataset, 50 training clips per class."
    expect(page.locator("#progress")).to_contain_text(said)
    expect(page.locator("#example")).to_be_hidden()
    expect(page.locator("#results tbody tr")).to_have_count(6)
    expect(page.locator("#results")).to_contain_text("±")  # three seeds
    expect(page.locator("#balance .race-row")).to_have_count(3)
    expect(page.locator("#verdict")).to_contain_text("500 test clips and 3 seeds")
    choose_run(page, "Soft-MoA, seed 1")  # of which the weights were not recorded
    expect(page.locator("#send")).to_be_disabled()
    choose_run(page, "Soft-MoA, seed 0")
    expect(page.locator("#confusion tbody tr")).to_have_count(10)
    page.locator("#send").click()
    expect(page.locator("#bundle input")).to_have_value(re.compile("yours: Soft-MoA, seed 0"))
    page.wait_for_function("location.search.includes('tab=explore')")
    assert "bundle=" not in page.url  # its key would open the comparison


def test_nothing_chosen_gets_one_sentence(page):
    open_compare(page, [])
    page.locator("#start").click()
    expect(page.locator(".toast-body")).to_contain_text("Choose at least one method")
    expect(page.locator("#start")).to_be_enabled()


def test_a_file_that_is_no_comparison_gets_one_sentence(page, tmp_path):
    (tmp_path / "events.jsonl").write_text("nothing\nof the kind\n")
    page.get_by_role("tab", name="Compare").click()
    page.locator("#more").get_by_text("More settings").click()
    page.locator("#reopen input[type=file]").set_input_files(tmp_path / "events.jsonl")
    expect(page.locator(".toast-body")).to_contain_text("holds no comparison that can be read")


def test_it_fits_a_phone(page):
    page.get_by_role("tab", name="Compare").click()  # on a phone it may be in the overflow menu
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#start")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
