"""The page for those who use no pointer or see little: axe in both themes, and the keyboard."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from test_app import pick_example

from softmoa.ui.texts import about

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


def violations(page: Page) -> list[str]:
    found = Axe().run(page, options=WCAG).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['html'][:200]}"
        for rule in found
        for node in rule["nodes"]
        if 'aria-label="Empty value"' not in node["html"]  # gradio's own empty player
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_any_tab(go, theme):
    page = go(f"?__theme={theme}")
    page.wait_for_selector("#examples button")
    page.wait_for_function("window.softmoaLinkOpened")
    for box in ("#tour", "#cite", "#limits"):
        page.locator(f"{box} > button").click()
    pick_example(page, "dog bark")
    page.locator("#overlay [data-token]").nth(20).click()
    expect(page.locator("#patch table")).to_be_visible()
    for tab in page.get_by_role("tab").all():
        tab.click()
        for _ in range(20):  # gradio fades tabs, and figures that are computed: pale text meanwhile
            page.wait_for_timeout(1000)
            if not (found := violations(page)):
                break
        assert found == [], tab.text_content()


def test_a_patch_is_reached_with_the_keyboard(page):
    pick_example(page, "dog bark")
    page.locator("#overlay .moa-cells").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)  # the first one enters at the top left patch
    here = page.locator("#overlay :focus")
    title = here.get_attribute("title")
    assert here.get_attribute("aria-label") == title
    page.keyboard.press("Enter")
    expect(page.locator("#patch table")).to_be_visible()
    expect(page.locator("#overlay .moa-on")).to_have_attribute("title", title)
    page.keyboard.press("ArrowRight")  # the place was kept though the figure was drawn anew
    expect(page.locator("#overlay .moa-on + i:focus")).to_be_attached()


def test_an_expert_is_reached_with_the_keyboard(page):
    pick_example(page, "dog bark")
    page.locator("#contributions [data-walk]").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    page.keyboard.press(" ")
    # It enters at the chosen one, expert 1 of layer 1, and goes two layers down.
    expect(page.locator("#overlay b")).to_have_text("Dispatch of expert 1, layer 3, beside MHSA")
    page.locator("#experts button[data-expert='4']").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#overlay b")).to_have_text("Dispatch of expert 5, layer 3, beside MHSA")
    expect(page.locator("#experts button[data-expert='4']")).to_be_focused()


def test_tour_cite_and_limits_are_there(page, server):
    expect(page.locator("#tour")).to_contain_text(about.TOUR_TITLE)
    expect(page.get_by_text("Give it a sound.")).to_be_hidden()
    page.locator("#tour > button").click()
    expect(page.get_by_text("Give it a sound.")).to_be_visible()
    page.locator("#limits > button").click()
    expect(page.locator("#limits")).to_contain_text("30 s of a sound are used")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server[0])
    page.locator("#cite > button").click()
    page.locator("#bibtex button").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == about.BIBTEX and copied.startswith("@inproceedings{")
