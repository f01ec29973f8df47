"""The page for those who use no pointer or see little: axe in both themes, and the keyboard."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from test_app import pick_example

WCAG = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
COLOURS = {"type": "rule", "values": ["color-contrast"]}


def violations(page: Page, rules: dict = WCAG) -> list[str]:
    options = {"runOnly": rules, "resultTypes": ["violations"]}
    return [
        f"{rule['id']}: {node['target']} {node['html'][:200]}"
        for rule in Axe().run(page, options=options).response["violations"]
        for node in rule["nodes"]
        if 'aria-label="Empty value"' not in node["html"]  # gradio's own empty player
    ]


def test_axe_finds_nothing_in_any_tab(go):
    """All rules in the dark, then the colours in the light: gradio's themes are one class apart."""
    page = go("?__theme=dark")
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
        for rules in (WCAG, COLOURS):
            for _ in range(20):  # gradio fades tabs, and figures that are computed: pale meanwhile
                page.wait_for_timeout(1000)
                if not (found := violations(page, rules)):
                    break
            assert found == [], tab.text_content()
            assert page.evaluate("document.body.classList.toggle('dark')") == (rules is COLOURS)
