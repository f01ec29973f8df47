"""The Lesson and its links, in a real browser and against the package's own numbers."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from playwright.sync_api import Page, expect

from softmoa.by_hand import soft_by_hand
from softmoa.classify import classify, open_classifier
from softmoa.contribution import expert_norms, expert_share
from softmoa.moa import Experts
from softmoa.quiz import QUESTIONS
from softmoa.ui import lesson_steps as steps
from softmoa.ui.links import Query
from softmoa.ui.texts import lesson as texts
from softmoa.weights import ASSETS

SLOW = 60_000  # ms, on a busy machine


def query_of(page: Page) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def wait_for_query(page: Page, **wanted: str) -> None:
    for key, value in wanted.items():
        page.wait_for_function(
            "([key, value]) => new URLSearchParams(location.search).get(key) === value",
            arg=[key, value],
            timeout=SLOW,
        )


def cells(page: Page, selector: str) -> list[float]:
    return [float(text) for text in page.locator(selector).all_inner_texts()]


def test_next_and_back_lead_through_all_steps(go):
    page = go("?tab=lesson")
    expect(page.locator("#lesson-1")).to_be_visible(timeout=SLOW)
    expect(page.locator("#lesson-back")).to_be_disabled()
    for number in range(2, len(texts.STEPS) + 1):
        page.locator("#lesson-next").click()
        expect(page.locator(f"#lesson-{number}")).to_be_visible(timeout=SLOW)
        expect(page.locator(f"#lesson-{number - 1}")).to_have_count(0)
        wait_for_query(page, step=str(number))
    expect(page.locator("#lesson-next")).to_be_disabled()
    page.locator("#lesson-back").click()
    expect(page.locator("#lesson-7")).to_be_visible(timeout=SLOW)


def test_the_step_list_works_with_the_keyboard(go):
    page = go("?tab=lesson&step=2")
    expect(page.locator("#lesson-2")).to_be_visible(timeout=SLOW)
    page.locator("#lesson-step input").nth(1).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.locator("#lesson-3")).to_be_visible(timeout=SLOW)


def test_the_adapter_is_counted(go):
    page = go("?tab=lesson&step=1")
    page.locator("#lesson-narrow input[type=number]").fill("24")
    page.locator("#lesson-narrow input[type=number]").press("Enter")
    expected = sum(p.numel() for p in Experts(384, 1, 24).parameters())
    assert expected == 2 * 384 * 24 + 24 + 384
    expect(page.locator("#lesson-adapter")).to_contain_text(f"{expected:,}", timeout=SLOW)


def test_a_slider_moves_every_number_that_hangs_on_it(go):
    page = go("?tab=lesson&step=3")
    slider = page.locator("#lesson-logits input[data-row='2'][data-column='0']")
    slider.wait_for(timeout=SLOW)
    slider.fill("4")
    logits = torch.tensor(steps_start())
    logits[2, 0] = 4.0
    result = soft_by_hand(logits)
    cell = page.locator("#lesson-hand table").nth(1).locator("tbody tr").nth(2).locator("td").first
    expect(cell).to_have_text(f"{result.dispatch[2, 0]:.3f}", timeout=SLOW)
    tables = "#lesson-hand .moa-sheet:nth-child({}) td:not(.moa-sum)"
    for number, values in ((3, result.mixed), (5, result.combine), (6, result.outputs)):
        shown = torch.tensor(cells(page, tables.format(number)))
        assert torch.allclose(shown, values.flatten(), atol=0.0051)


def steps_start() -> list[list[float]]:
    from softmoa.ui.lesson import START

    return [list(row) for row in START]


WATCH = """
window.seen = [];
const look = () => {
  const line = document.querySelector("#lesson-shares [data-router='top-1'] p");
  const step = line?.checkVisibility() ? /step (\\d+)/.exec(line.textContent)?.[1] : null;
  if (step && +step !== window.seen.at(-1)) window.seen.push(+step);
};
new MutationObserver(look).observe(
  document, {subtree: true, childList: true, characterData: true, attributes: true});
"""


@pytest.mark.parametrize("step", ["3", "4"])
def test_the_reader_watches_one_training(page, go, step):
    """By Next and by a link: the picture is there and grows to its end, once."""
    page.context.add_init_script(WATCH)
    page = go(f"?tab=lesson&step={step}&seed=3")
    if step == "3":
        expect(page.locator("#lesson-3")).to_be_visible(timeout=SLOW)
        page.locator("#lesson-next").click()
    page.wait_for_function("window.seen.at(-1) === 200", timeout=2 * SLOW)
    page.wait_for_timeout(3000)  # in which a second training would begin
    seen = page.evaluate("window.seen")
    assert seen[0] <= 50 and len(seen) > 10
    assert seen == sorted(set(seen))


def test_top_1_collapses_on_the_page_and_the_toggle_cures_it(go):
    page = go("?tab=lesson&step=4&seed=3")
    top = page.locator("#lesson-shares [data-router='top-1'] p")
    expect(top).to_contain_text("step 200", timeout=2 * SLOW)
    dead = int(re.search(r"(\d) dead", top.inner_text())[1])
    assert dead >= 2
    soft = page.locator("#lesson-shares [data-router='soft'] p")
    expect(soft).to_contain_text("step 200: 0 dead")
    page.locator("#lesson-balanced input").check()
    cured = page.locator("#lesson-shares [data-router='top-1, balanced'] p")
    expect(cured).to_contain_text("step 200", timeout=2 * SLOW)
    assert int(re.search(r"(\d) dead", cured.inner_text())[1]) < dead
    assert page.locator("#lesson-shares polygon").count() == 12


def test_balance_on_a_real_clip_is_what_the_package_measures(go):
    page = go("?tab=lesson&step=5&clip=rain&layer=4")
    expect(page.locator("#lesson-even")).to_contain_text("rain, layer 4", timeout=SLOW)
    record = classify(open_classifier("esc10-soft-moa"), ASSETS / "examples" / "rain.ogg").records[
        3
    ]
    share = expert_share(record)[0]
    tips = [row.get_attribute("title") for row in page.locator("#lesson-even [data-expert]").all()]
    shown = [float(re.search(r"\(combine\) ([\d.]+) %", tip)[1]) for tip in tips]
    assert shown == pytest.approx((100 * share).tolist(), abs=0.006)
    expect(page.locator("#lesson-even")).to_contain_text("1.0000 to 1.0000")


def test_a_guess_is_answered_by_the_model(go):
    page = go("?tab=lesson&step=7&clip=dog_bark&layer=2")
    expect(page.locator("#lesson-7")).to_be_visible(timeout=SLOW)
    expect(page.locator("#lesson-layer input[type=number]")).to_have_value("2", timeout=SLOW)
    page.wait_for_timeout(1000)
    expect(page.locator("#lesson-verdict-tokens")).to_have_text(texts.REVEAL_FIRST)
    page.locator("#lesson-guess-tokens label").nth(2).click()
    verdict = page.locator("#lesson-verdict-tokens")
    question = next(q for q in QUESTIONS if q.name == "tokens")
    result = classify(open_classifier("esc10-soft-moa"), ASSETS / "examples" / "dog_bark.ogg")
    answer = question.answer(result, result.records[1])
    expect(verdict).to_contain_text(f"{answer.value:.1f} %", timeout=SLOW)
    expect(verdict).to_contain_text("Right." if question.right(answer.value) == 2 else "Not this")
    expect(page.locator("#lesson-answer-tokens polyline")).to_have_count(7)


def test_removing_experts_is_measured(go):
    page = go("?tab=lesson&step=8&clip=rooster")
    expect(page.locator("#lesson-clip input")).to_have_value("rooster", timeout=SLOW)
    page.wait_for_timeout(1000)  # the change of clip clears what was measured
    page.locator("#lesson-measure").click(timeout=SLOW)
    expect(page.locator("#lesson-scatter .moa-points i")).to_have_count(42, timeout=2 * SLOW)
    expect(page.locator("#lesson-ranks")).to_contain_text("over all experts of all layers")
    expect(page.locator("#lesson-ranks")).to_contain_text("class: rooster")
    result = classify(open_classifier("esc10-soft-moa"), ASSETS / "examples" / "rooster.ogg")
    lengths = torch.cat([expert_norms(record) for record in result.records]).flatten()
    points = page.locator("#lesson-scatter .moa-points i").all()
    shown = [re.search(r": (\S+), ", point.get_attribute("title"))[1] for point in points]
    assert [float(text) for text in shown] == pytest.approx(lengths.tolist(), rel=6e-3)
    expect(page.locator("#lesson-scatter")).to_contain_text(f"across: {texts.ACROSS}")


def test_a_link_opens_the_exact_view_of_explore(go):
    page = go("?clip=dog_bark&layer=3&expert=2&view=combine")
    title = page.locator("#overlay b")
    expect(title).to_have_text("Combine of expert 2, layer 3, beside MHSA", timeout=SLOW)
    page.locator("#experts button[data-expert='4']").click()
    wait_for_query(page, expert="5", layer="3", clip="dog_bark", view="combine", tab="explore")
    page.get_by_role("tab", name="Lesson").click()
    wait_for_query(page, tab="lesson", step="1")
    assert "expert" not in query_of(page)


def test_a_link_keeps_the_theme_and_can_be_copied(go):
    page = go("?__theme=dark&tab=lesson&step=6")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    expect(page.locator("#lesson-6")).to_be_visible(timeout=SLOW)
    page.wait_for_function("window.softmoaLinkOpened", timeout=SLOW)
    page.locator("#copy-link").click()
    expect(page.locator("#copy-link")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url and query_of(page)["__theme"] == "dark"
    assert query_of(page)["step"] == "6" and query_of(page)["seed"] == "8"


def test_bad_values_of_a_link_are_ignored_with_a_sentence(go):
    page = go("?tab=lesson&step=99&seed=2&clip=../etc")
    expect(page.locator("#lesson-1")).to_be_visible(timeout=SLOW)
    toast = page.locator(".toast-body")
    expect(toast).to_contain_text("step was ignored: it must be a whole number from 1 to 8")
    expect(toast).to_contain_text("clip was ignored")


@pytest.mark.parametrize("text", ["0", "9", "-1", "1.5", "x", "٣", "1e3", "12345678", ""])
def test_a_number_out_of_place_is_a_problem(text):
    query = Query({"step": text})
    assert query.whole("step", 1, 8) is None and len(query.problems) == 1


def test_numbers_and_names_of_a_link():
    query = Query({"step": "8", "view": "combine"})
    assert query.whole("step", 1, 8) == 8 and query.one_of("view", ["combine"]) == "combine"
    assert query.whole("seed", 0, 9) is None and query.one_of("clip", []) is None
    assert not query.problems
    assert query.one_of("view", ["dispatch"]) is None
    assert query.problems == ["The link's view was ignored: it must be one of dispatch."]


def test_the_lesson_keeps_its_words_and_symbols_apart():
    assert "f_j p_j" in texts.COLLAPSE and "P_j" not in texts.COLLAPSE
    assert "P_j = " in texts.EVEN and "p_j" not in texts.EVEN
    said = " ".join((texts.KINDS, texts.BY_HAND, texts.GLOSSARY))
    assert re.findall(r"\w+ logit", said).count("routing logit") >= 5
    assert not re.findall(r"(?<!routing)(?<!class)\s\*?logit", said)


def test_rank_correlation():
    a = torch.tensor([1.0, 2, 3, 4])
    assert steps.rank_correlation(a, a.exp()) == pytest.approx(1)
    assert steps.rank_correlation(a, -a) == pytest.approx(-1)
    assert steps.rank_correlation(a, torch.tensor([1.0, 2, 4, 3])) == pytest.approx(0.8)


@pytest.mark.parametrize("step", range(1, len(texts.STEPS) + 1))
def test_every_step_fits_a_phone(go, step):
    page = go(f"?tab=lesson&step={step}")
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator(f"#lesson-{step}")).to_be_visible(timeout=SLOW)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
