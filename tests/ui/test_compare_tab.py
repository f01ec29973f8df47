"""A real race in the real app: curves move, a stop stops, a winner goes to Explore."""

import csv
import re
import zipfile

import pytest
from playwright.sync_api import Page, expect
from test_app import download

from softmoa.methods import METHODS

LONG = 280_000  # milliseconds a busy machine may take


def open_compare(
    page: Page, methods: list[str], shots: str = "5", epochs: int = 1, task: str = "Mandarin tones"
) -> None:
    """Fill in the form of the tab."""
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#task input")).to_have_value("Mandarin initials")
    page.locator("#task input").click()
    page.get_by_role("option", name=task).click()
    page.locator("#choose").get_by_text("Choose methods").click()
    boxes = page.locator("#methods label")
    expect(boxes).to_have_count(len(METHODS))  # they come when the accordion opens
    for box in boxes.all():
        wanted = box.text_content().strip() in methods
        if box.locator("input").is_checked() != wanted:
            box.click()
    page.locator("#more").get_by_text("More settings").click()
    page.locator("#shots").get_by_label(shots, exact=True).check()
    number = page.locator("#amount input[type=number]")
    number.fill(str(epochs))
    number.press("Enter")


CURVES = """() => (document.querySelector('#curves .js-plotly-plot')?.data ?? [])
  .filter(trace => trace.name).map(trace => [trace.name, trace.x.length])"""


def points(page: Page) -> dict[str, int]:
    """Number of points of every method's curve."""
    return dict(page.evaluate(CURVES))


def wait_for_points(page: Page, method: str, most: int) -> None:
    page.wait_for_function(
        f"([method, most]) => Object.fromEntries(({CURVES})())[method] >= most",
        arg=[method, most],
        timeout=LONG,
    )


def chart(page: Page, name: str):
    """What a figure of the page was drawn from."""
    drawn = page.locator(f"#{name} .js-plotly-plot")
    expect(drawn.locator(".main-svg").first).to_be_attached(timeout=LONG)
    return drawn.evaluate("plot => plot.data")


ROWS = """name => [...document.querySelectorAll(`#${name} [role=row]`)]
  .map(row => [...row.querySelectorAll('[role=gridcell]')].map(cell => cell.innerText.trim()))
  .filter(row => row[0])"""


def rows(page: Page, count: int, name: str = "results") -> list[list[str]]:
    """The table as texts, once it has so many rows."""
    there = f"([name, count]) => ({ROWS})(name).length === count"
    page.wait_for_function(there, arg=[name, count], timeout=LONG)
    return page.evaluate(ROWS, name)


def choose_run(page: Page, name: str) -> None:
    page.locator("#run input").click()
    page.get_by_role("option", name=name).click()


def forgive_leaving(problems: list[str]) -> None:
    """A page that is left while it is told something says so to its console."""
    left = ("abort", "connection errored out")
    assert [said for said in problems if not any(word in said.lower() for word in left)] == []
    problems.clear()


def test_the_tab_opens_on_the_recorded_race(page):
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#progress")).to_contain_text("Done: 35 of 35", timeout=LONG)
    expect(page.locator("#progress")).to_contain_text("Recorded race: Mandarin initials.")
    table = rows(page, 8)[:-1]  # the probe is in no lane
    lanes = chart(page, "lanes")
    assert [lane["name"] for lane in lanes] == [row[0] for row in table]
    assert [f"{lane['x'][1]:.1%}" for lane in lanes] == [row[1] for row in table]
    expect(page.locator("#verdict h3")).to_contain_text(
        "16 is 7.0 ± 2.7 points above the linear probe"
    )
    page.locator("#across input").click()
    page.get_by_role("option", name="step memory, MB").click()
    of_costs = "document.querySelector('#costs .js-plotly-plot')"
    page.wait_for_function(f"{of_costs}.layout.xaxis.title.text === 'step memory, MB'")
    points = {of["name"]: of["x"][0] for of in chart(page, "costs") if of["mode"] == "markers"}
    assert {name: f"{x:.0f} MB" for name, x in points.items()} == {r[0]: r[5] for r in table}
    expect(page.locator("#worst")).to_be_visible()  # its sounds are on the server
    expect(page.locator("#send")).to_be_enabled()  # the run that is shown has its weights
    choose_run(page, "Soft-MoA, fold 1, seed 0")
    expect(page.locator("#send")).to_be_enabled()
    page.locator("#send").click()
    page.locator("#model > button").click()
    expect(page.locator("#bundle input")).to_have_value(re.compile("yours: Soft-MoA, seed 0"))
    page.wait_for_function("location.search.includes('tab=explore')")
    assert "bundle=" not in page.url  # its key would open the comparison


def test_the_form(page, tmp_path):
    """Presets fill in the methods; what cannot be run or opened gets one sentence; a phone."""
    page.get_by_role("tab", name="Compare").click()
    page.locator("#choose").get_by_text("Choose methods").click()
    chosen = page.locator("#methods input:checked")
    expect(chosen).to_have_count(4)
    page.locator("#preset").get_by_label("All methods").check()
    expect(chosen).to_have_count(len(METHODS))
    toasts = page.locator(".toast-body")
    for box in page.locator("#methods label:has(input:checked)").all()[::-1]:
        box.click()
    expect(chosen).to_have_count(0)
    page.locator("#start").click()
    expect(toasts.filter(has_text="Choose at least one method")).to_be_visible()
    expect(page.locator("#start")).to_be_enabled()

    (tmp_path / "events.jsonl").write_text("nothing\nof the kind\n")
    page.locator("#saved").get_by_text("Open a saved comparison").first.click()
    page.locator("#reopen input[type=file]").set_input_files(tmp_path / "events.jsonl")
    expect(toasts.filter(has_text="holds no comparison that can be read")).to_be_visible()
    page.locator("#reopen").get_by_label("Clear").click()

    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    rows(page, 8)
    test = page.locator("#results [role=row]").last.locator("[role=gridcell]").nth(2).bounding_box()
    assert test["x"] + test["width"] <= 390
    page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.timeout(900)
def test_a_race_from_start_to_explore(new_page, page_of_file, tmp_path):
    page = new_page
    names = {"Linear probe", "Bottleneck adapter", "Soft-MoA"}
    open_compare(page, list(names), epochs=2)
    expect(page.locator("#estimate")).to_contain_text("Soft-MoA 133,758", timeout=LONG)
    expect(page.locator("#progress")).to_contain_text("Done: 35 of 35", timeout=LONG)
    page.locator("#start").click()
    expect(page.locator("#verdict")).to_contain_text("race is on", timeout=LONG)
    wait_for_points(page, "Soft-MoA", 1)
    expect(page.locator("#start")).to_be_disabled()
    drawn = page.locator("#curves .main-svg").first.element_handle()
    page.locator("#curves .legendtoggle").first.click()
    wait_for_points(page, "Soft-MoA", 3)

    expect(page.locator("#progress")).to_contain_text("Done: 3 of 3", timeout=LONG)
    assert points(page) == dict.fromkeys(names, 3)
    # The same picture grew, and what was hidden stays so.
    assert drawn.evaluate("svg => svg.isConnected")
    traces = chart(page, "curves")
    hidden = [trace.get("name") for trace in traces if trace.get("visible") is not True]
    assert "Linear probe" in hidden
    *table, probe = rows(page, 4)
    assert {row[0] for row in table} == names and probe[0].startswith("Not ranked: the linear")
    assert [float(row[1].rstrip("%")) for row in table] == sorted(
        (float(row[1].rstrip("%")) for row in table), reverse=True
    )
    assert all(40 < float(row[2].partition("%")[0]) <= 100 for row in table)  # chance is 25 %
    assert ["Soft-MoA", "133,758 (1.2%)"] in [[row[0], row[3]] for row in table]
    expect(page.locator("#verdict")).to_contain_text(re.compile("clear|ahead"))
    expect(page.locator("#reasons")).to_contain_text("What would decide it")
    choose_run(page, "Soft-MoA")
    expect(page.locator("#worst-clip")).to_be_visible()
    [matrix] = chart(page, "confusion")
    assert sum(int(cell or 0) for row in matrix["text"] for cell in row) == 160
    page.locator("#worst [role=gridcell]").first.click()
    expect(
        page.locator("#worst-clip audio, #worst-clip [data-testid*=waveform]").first
    ).to_be_attached()

    with download(page, "#table-file", tmp_path).open() as table:
        assert {row["method"] for row in csv.DictReader(table)} == {"linear", "adapter", "soft-moa"}
    assert download(page, "#make-figures", tmp_path).read_bytes().startswith(b"\x89PNG")
    assert download(page, "#bundle-file", tmp_path).name == "tones-soft-moa-seed0.safetensors"
    everything = download(page, "#make-all", tmp_path)
    assert len([n for n in zipfile.ZipFile(everything).namelist() if "safetensors" in n]) == 3

    # The saved comparison opens again, on a page that knows nothing of it.
    table = rows(page, 4)
    [*_, (clip, _, said, _)] = page.evaluate(ROWS, "worst")
    page.locator("#worst").get_by_text(clip, exact=True).first.click()  # it comes along
    page.locator("#send").click()
    page.locator("#model > button").click()
    expect(page.locator("#bundle input")).to_have_value(re.compile("yours: Soft-MoA, seed 0"))
    expect(page.locator("#stage")).to_contain_text(said, timeout=LONG)  # as in the race
    page = page_of_file
    page.get_by_role("tab", name="Compare").click()
    page.locator("#reopen input[type=file]").set_input_files(everything)
    expect(page.locator("#progress")).to_contain_text("Done: 3 of 3", timeout=LONG)
    assert rows(page, 4) == table and len(chart(page, "confusion")[0]["text"]) == 4


@pytest.mark.timeout(600)
def test_a_reload_a_second_visitor_and_a_stop_that_keeps_what_was_finished(new_page, go, problems):
    page = new_page
    # As long as can be asked for: a busy browser needs its time, and a stop ends it anyway.
    other = go(f"?tab=compare&run={'A' * 12}")  # of a comparison that is no longer kept
    open_compare(other, ["Linear probe"])
    expect(other.locator("#progress")).to_contain_text("Done: 35 of 35", timeout=LONG)
    open_compare(page, ["Linear probe", "Full fine-tuning"], "all", 30, "Mandarin initials")
    page.locator("#turns input").uncheck()  # the probe is over before the other one begins
    page.locator("#start").click()
    probe = page.locator("#results [role=row]", has_text=re.compile("Linear probe"))
    expect(probe).to_contain_text("1 of 1", timeout=LONG)
    page.reload()  # the address must survive what the page makes of it
    expect(probe).to_contain_text("1 of 1", timeout=LONG)
    page.wait_for_function("window.softmoaLinkOpened")
    forgive_leaving(problems)
    page.get_by_role("tab", name="Lesson").click()
    page.wait_for_function("location.search.includes('tab=lesson')")
    assert "run=" not in page.url
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_function("/tab=compare&run=[\\w-]{12}/.test(location.search)")
    wait_for_points(page, "Full fine-tuning", 1)  # it goes on

    other.locator("#start").click()
    expect(other.locator("#progress")).to_contain_text("Waiting: 1 before", timeout=LONG)
    page.locator("#stop").click()  # it is still this browser's to stop
    expect(page.locator("#progress")).to_contain_text("Stopped: 1 of 2", timeout=LONG)
    expect(page.locator("#start")).to_be_enabled()
    expect(page.locator("#run input")).to_have_value("Linear probe, seed 0")
    expect(other.locator("#progress")).to_contain_text("Done: 1 of 1", timeout=LONG)
