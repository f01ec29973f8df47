"""The page for those who use no pointer or see little: axe in both themes, and the keyboard."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from test_app import pick_example

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}


def violations(page: Page, rules: dict = WCAG) -> list[str]:
    found = Axe().run(page, options=rules).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['html'][:200]}"
        for rule in found
        for node in rule["nodes"]
        if 'aria-label="Empty value"' not in node["html"]  # gradio's own empty player
    ]


@pytest.mark.parametrize(("theme", "rules"), [("light", WCAG), ("dark", COLOURS)])
def test_axe_finds_nothing_in_any_tab(go, theme, rules):
    page = go(f"?__theme={theme}")
    page.wait_for_selector("#examples button")
    page.wait_for_function("window.softmoaLinkOpened")
    for box in ("#cite", "#limits"):
        page.locator(f"{box} > button").click()
    expect(page.locator("#limits")).to_contain_text("30 s of a sound are used")
    expect(page.locator("#limits")).to_contain_text("is deleted about 30 minutes later")
    expect(page.locator("#bibtex")).to_contain_text("@inproceedings{")
    pick_example(page, "dog bark")
    for box in ("#model", "#reading", "#numbers"):
        page.locator(f"{box} > button").click()
    page.locator("#stage .area").click()
    expect(page.locator("#patch-place")).to_contain_text("Patch at")
    for tab in page.get_by_role("tab").all():
        tab.click()
        for _ in range(20):  # gradio fades tabs, and figures that are computed: pale text meanwhile
            page.wait_for_timeout(1000)
            if not (found := violations(page, rules)):
                break
        assert found == [], tab.text_content()
