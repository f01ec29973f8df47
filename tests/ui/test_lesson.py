"""The Lesson in a real browser, its figures against the package's own numbers."""

import re

import torch
from playwright.sync_api import Page, expect
from test_links import wait_for_query

from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.model.recording import expert_share
from softmoa.model.weights import ASSETS
from softmoa.ui.lesson import steps
from softmoa.ui.lesson.by_hand import soft_by_hand
from softmoa.ui.lesson.quiz import QUESTIONS
from softmoa.ui.lesson.tab import START
from softmoa.ui.texts import lesson as texts


def shown(page: Page, plot: str, field: str, least: int = 1) -> torch.Tensor:
    """A field of every trace of a plotly figure, once it has so many values in the last one."""
    script = """([plot, field, least]) => {
      const data = document.querySelector(plot + ' .js-plotly-plot')?._fullData;
      const values = data?.map(one => Array.from(one[field], row => row.length ? [...row] : row));
      return values?.length && values.at(-1).length >= least ? values : null;
    }"""
    handle = page.wait_for_function(script, arg=[plot, field, least])
    return torch.tensor(handle.json_value())


def clip(name: str):
    return classify(open_classifier(), ASSETS / "examples" / f"{name}.ogg")


WATCH = """
window.seen = [];
const look = () => {
  const line = document.querySelector('#lesson-line-top-1');
  const step = line?.checkVisibility() ? /step (\\d+)/.exec(line.textContent)?.[1] : null;
  if (step && +step !== window.seen.at(-1)) window.seen.push(+step);
};
new MutationObserver(look).observe(
  document, {subtree: true, childList: true, characterData: true, attributes: true});
"""


def watch(context, address: str, by_tab: bool) -> Page:
    """The lesson, once its first training was watched: the picture grows to its end, once."""
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(address)
    page.wait_for_function("window.softmoaLinkOpened")
    if by_tab:
        page.get_by_role("tab", name="Lesson").click()
    page.wait_for_function("window.seen.at(-1) === 200")
    page.wait_for_timeout(3000)  # in which a second training would begin
    seen = page.evaluate("window.seen")
    assert seen[0] <= 50 and len(seen) > 8
    assert seen == sorted(set(seen))
    return page


def test_next_and_back_lead_through_all_steps_which_fit_a_phone(context, server):
    page = watch(context, server[0], by_tab=True)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#lesson-back")).to_be_disabled()
    for number in range(1, len(texts.STEPS) + 1):
        if number > 1:
            page.locator("#lesson-next").click()
            expect(page.locator(f"#lesson-{number}")).to_be_visible()
            expect(page.locator(f"#lesson-{number - 1}")).to_have_count(0)
            wait_for_query(page, step=str(number))
        expect(page.locator(f"#lesson-diagram .at-{number}")).to_be_visible()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, number
    expect(page.locator("#lesson-next")).to_be_disabled()
    page.locator("#lesson-back").click()
    expect(page.locator("#lesson-7")).to_be_visible()
    page.locator("#lesson-step input").nth(5).focus()
    page.keyboard.press("Space")
    expect(page.locator("#lesson-6")).to_be_visible()
    page.locator("#lesson-step input").first.focus()
    page.keyboard.press("Space")
    expect(page.locator("#lesson-1")).to_be_visible()
    drawn = page.locator("#lesson-1 .js-plotly-plot >> visible=true")
    expect(drawn).to_have_count(2)  # as at first, without the empty ones that bring plotly


def test_top_1_collapses_the_toggle_cures_it_and_every_step_can_be_looked_at(context, server):
    page = watch(context, server[0] + "?tab=lesson&step=1&seed=3", by_tab=False)
    top, soft = page.locator("#lesson-line-top-1"), page.locator("#lesson-line-soft")
    expect(top).to_contain_text("step 200")
    dead = int(re.search(r"(\d) dead", top.inner_text())[1])
    assert dead >= 2
    expect(soft).to_contain_text("step 200: 0 dead")
    shares = shown(page, "#lesson-shares-top-1", "y", 200)
    assert shares.shape == (6, 200) and torch.allclose(shares.sum(dim=0), torch.ones(200))

    at = page.locator("#lesson-at input[type=number]")
    at.fill("10")
    at.press("Enter")
    expect(soft).to_contain_text("step 10:")

    page.locator("#lesson-balanced input").check()
    expect(top).to_contain_text("top-1, balanced, step 200")
    assert int(re.search(r"(\d) dead", top.inner_text())[1]) < dead


def test_a_slider_the_balance_and_a_guess_are_what_the_package_computes(go):
    page = go("?tab=lesson&step=4&clip=rain&layer=4")
    page.locator("#lesson-token label").nth(2).click()
    slider = page.locator("#lesson-logit-1 input[type=number]")
    expect(slider).to_have_value("-1")
    slider.fill("4")
    slider.press("Enter")
    logits = torch.tensor(START)
    logits[2, 0] = 4.0
    seen = "[...document.querySelectorAll('#lesson-hand .js-plotly-plot')]"
    seen += ".map(one => Array.from(one._fullData[0].z, row => [...row]))"
    page.wait_for_function(f"{seen}[0][2][0] === 4")
    result, seen = soft_by_hand(logits), page.evaluate(seen)
    order = (result.dispatch, result.mixed, result.answers, result.combine, result.outputs)
    for values, expected in zip(seen[2:], order, strict=True):
        assert torch.allclose(torch.tensor(values), expected, atol=1e-5)
    part = page.locator("#lesson-diagram .combine")
    expect(part.locator("table")).to_be_hidden()
    part.hover()
    numbers = [f"{weight:.2f}" for weight in result.combine[2].tolist()]
    expect(part.locator("tr", has_text="rain")).to_have_text(re.compile("\\s+".join(numbers)))
    expect(part.locator("table")).to_be_visible()

    page.locator("#lesson-next").click()
    expect(page.locator("#lesson-even")).to_contain_text("rain, layer 4")
    share = expert_share(clip("rain").records[3])[0]
    assert torch.allclose(shown(page, "#lesson-bars", "x")[0], share, atol=1e-4)
    expect(page.locator("#lesson-even")).to_contain_text("1.0000 to 1.0000")

    for step in ("6", "7"):
        page.locator("#lesson-next").click()
        wait_for_query(page, step=step)
    verdict = page.locator("#lesson-verdict-tokens")
    expect(verdict).to_have_text(texts.REVEAL_FIRST)
    page.locator("#lesson-guess-tokens label").nth(2).click()
    question = next(q for q in QUESTIONS if q.name == "tokens")
    result = clip("rain")
    answer = question.answer(result, result.records[3])
    expect(verdict).to_contain_text(answer.sentence)
    expect(verdict).to_contain_text("Right." if answer.right == 2 else "Not this")
    assert len(shown(page, "#lesson-answer-tokens", "y")) == 7
    page.locator("#lesson-deal").click()  # another clip: all is to be guessed again
    expect(verdict).to_have_text(texts.REVEAL_FIRST)
    wait_for_query(page, clip=steps.next_that_matters("tags", "rain")[0])
