"""The view in the address: read at load, kept up to date, copied."""

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from softmoa.ui.links import Query


def query_of(page: Page) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def wait_for_query(page: Page, **wanted: str) -> None:
    page.wait_for_function(
        """wanted => Object.entries(wanted).every(
          ([key, value]) => new URLSearchParams(location.search).get(key) === value)""",
        arg=wanted,
    )


def test_bad_values_are_ignored_with_a_sentence_and_the_address_follows_choices(go):
    page = go("?tab=lesson&step=99&seed=5&clip=../etc&layer=99")
    expect(page.locator("#lesson-1")).to_be_visible()
    toast = page.locator(".toast-body")
    expect(toast).to_contain_text("step was ignored: it must be a whole number from 1 to 8")
    expect(toast).to_contain_text("clip was ignored")
    expect(toast).to_contain_text("layer was ignored: it must be a whole number from 1 to 6")
    page.wait_for_function("window.softmoaLinkOpened")
    page.locator("#lesson-next").click()
    wait_for_query(page, tab="lesson", step="2", seed="5")
    page.get_by_role("tab", name="Explore").click()
    wait_for_query(page, tab="explore")
    assert "seed" not in query_of(page) and "bundle" in query_of(page)


def test_a_link_keeps_the_theme_and_the_large_type_and_can_be_copied(go):
    page = go("?__theme=dark&present=1&tab=lesson&step=6")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    expect(page.locator("#lesson-6")).to_be_visible()
    page.wait_for_function("window.softmoaLinkOpened")
    page.locator("#copy-link").click()
    expect(page.locator("#copy-link")).to_have_text("Copied")
    copied, asked = page.evaluate("navigator.clipboard.readText()"), query_of(page)
    assert copied == page.url and (asked["__theme"], asked["present"]) == ("dark", "1")
    assert (asked["step"], asked["seed"]) == ("6", "8")


@pytest.mark.parametrize("text", ["0", "9", "1.5", "٣", ""])
def test_a_number_out_of_place_is_a_problem(text):
    query = Query({"step": text})
    assert query.whole("step", 1, 8) is None and len(query.problems) == 1
