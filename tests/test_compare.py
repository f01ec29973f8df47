"""A real race in the real app: curves move, a stop stops, a winner goes to Explore."""

import re

from playwright.sync_api import Page, expect

LONG = 240_000  # milliseconds a busy machine may take


def open_compare(page: Page, methods: list[str], shots: str, epochs: int) -> None:
    """Fill in the form of the tab."""
    page.get_by_role("tab", name="Compare").click()
    for box in page.locator("#methods label").all():
        wanted = box.text_content().strip() in methods
        if box.locator("input").is_checked() != wanted:
            box.click()
    page.locator("#shots").get_by_label(shots, exact=True).check()
    number = page.locator("#epochs input[type=number]")
    number.fill(str(epochs))
    number.press("Enter")


def test_a_race_ends_with_results_and_a_bundle_to_try(page):
    open_compare(page, ["Linear probe", "Bottleneck adapter", "Soft-MoA"], "5", 2)
    expect(page.locator("#task input")).to_have_value("Instrument families")
    page.locator("#start").click()
    expect(page.locator("#progress")).to_contain_text("seed 0", timeout=LONG)
    expect(page.locator("#progress")).to_contain_text("Done", timeout=LONG)
    rows = page.locator("#results tbody tr")
    expect(rows).to_have_count(3)
    names = {row.locator("td").first.text_content() for row in rows.all()}
    assert names == {"Linear probe", "Bottleneck adapter", "Soft-MoA"}
    for row in rows.all():
        accuracy = float(row.locator("td").nth(6).text_content().rstrip("%"))
        assert 15 < accuracy <= 100  # chance is 9 %
    expect(page.locator("#verdict")).to_contain_text(re.compile("clear"))
    legend = page.locator("#curve")
    for name in ("Linear probe", "Bottleneck adapter", "Soft-MoA"):
        expect(legend).to_contain_text(name)
    expect(page.locator("#confusion tbody tr")).to_have_count(11)

    page.locator("#run input").click()
    page.get_by_role("option", name="Soft-MoA").click()
    page.locator("#send").click()
    expect(page.locator("#examples")).to_be_visible()
    page.locator("#examples button", has_text="trumpet").click()
    expect(page.locator("#overlay [data-token]").first).to_be_attached(timeout=60_000)
    families = "keyboard mallet organ guitar bass string vocal brass reed flute synth".split()
    assert any(name in page.locator("#labels").text_content() for name in families)


def test_stop_keeps_the_page_alive_and_frees_the_model(page):
    open_compare(page, ["Soft-MoA", "Full fine-tuning"], "10", 30)
    page.locator("#start").click()
    expect(page.locator("#progress")).to_contain_text("seed 0", timeout=LONG)
    page.locator("#stop").click()
    expect(page.locator("#progress")).to_contain_text("Stopped", timeout=10_000)
    page.get_by_role("tab", name="Explore").click()
    page.locator("#examples button", has_text="bell").click()
    expect(page.locator("#overlay [data-token]").first).to_be_attached(timeout=60_000)


def test_a_reload_finds_the_comparison_again(page):
    open_compare(page, ["Soft-MoA"], "5", 30)
    page.locator("#start").click()
    expect(page.locator("#progress")).to_contain_text("seed 0", timeout=LONG)
    page.reload()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#progress")).to_contain_text("seed 0", timeout=LONG)
    page.locator("#stop").click()
    expect(page.locator("#progress")).to_contain_text("Stopped", timeout=10_000)


def test_nothing_chosen_is_one_sentence(page):
    open_compare(page, [], "5", 1)
    page.locator("#start").click()
    expect(page.locator(".toast-body")).to_contain_text("Choose at least one method")
