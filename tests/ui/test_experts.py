"""The Experts tab in a real browser, its numbers against the computation; every kind of mixture."""

import io
import re
from collections.abc import Callable
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
import soundfile
import torch
from conftest import PATIENCE
from playwright.sync_api import Page, expect

from softmoa.lens.ablation import Intervention, causal_contribution, signed_contribution
from softmoa.lens.attribution import Attribution
from softmoa.lens.balance import METRICS, effective_experts
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import Classification, classify, reclassify
from softmoa.lens.hearing import as_loud, hear
from softmoa.lens.task_bundles import same_task
from softmoa.model import weights
from softmoa.model.recording import expert_share
from softmoa.ui import experts, favourites
from softmoa.ui.balance import Balance
from softmoa.ui.figure import offered
from softmoa.ui.hear import HearIt, passing
from softmoa.ui.stage.stage import most_different
from softmoa.ui.switchboard import Switchboard, verdict

EXAMPLES = weights.ASSETS / "examples"


@pytest.fixture(scope="module")
def result() -> Classification:
    return classify(open_classifier(experts.OPENING[0]), experts.OPENING[1])


def open_experts(page: Page, part: str = "Which matter") -> None:
    page.get_by_role("tab", name="Experts").click()
    page.get_by_role("tab", name=part, exact=True).click()


def choose(page: Page, control: str, name: str) -> None:
    page.locator(f"#{control} label").get_by_text(name, exact=True).click()


def drawn(page: Page, chart: str, script: str):
    """What plotly has computed for a figure; script: from its `gd`."""
    page.locator(f"#{chart} .js-plotly-plot").wait_for()
    return page.evaluate(f"(gd => {script})(document.querySelector('#{chart} .js-plotly-plot'))")


def patches(page: Page, chart: str, panel: int = 0) -> np.ndarray:
    """The numbers of a heatmap, row by row."""
    rows = f"Array.from(gd.calcdata[{panel}][0].z, row => Array.from(row))"
    return np.array(drawn(page, chart, rows))


def soon(page: Page, values: torch.Tensor, found: Callable[[], np.ndarray]) -> None:
    """Wait until the page has these values: it draws, and fetches, after the words about them."""
    for _ in range(PATIENCE // 500):
        seen = found()
        if seen.shape == tuple(values.shape) and np.abs(seen - values.numpy()).max() < 2e-3:
            return
        page.wait_for_timeout(500)
    assert seen == pytest.approx(values.numpy(), abs=2e-3)


def shown(page: Page, values: torch.Tensor) -> None:
    """Wait until the map shows these values, (layers, experts)."""
    soon(page, values, lambda: patches(page, "experts-map"))


def answered(page: Page, chart: str, intact: Classification, after: torch.Tensor) -> set[str]:
    """The labels of a figure of two answers, whose bars are those of the computation."""
    page.wait_for_timeout(300)  # it is drawn after the words
    axis, labels = "gd._fullLayout.yaxis._categories", intact.classifier.labels
    one = f"trace => Object.fromEntries(trace.map(bar => [{axis}[bar.p], bar.s]))"
    bars = drawn(page, chart, f"gd.calcdata.map({one})")
    for found, true in zip(bars, (intact.probabilities, after), strict=True):
        expected = {label: true[labels.index(label)].item() for label in found}
        assert found == pytest.approx(expected, abs=2e-3)
    return set(bars[0])


def test_the_map_shows_what_the_computation_gives(page, result):
    open_experts(page)
    target, model = int(result.logits.argmax()), result.classifier.model
    expect(page.locator("#experts-status")).to_contain_text("flute (96.5")
    causal = causal_contribution(model, result.mel)
    shown(page, causal.delta[..., target])

    choose(page, "experts-mode", "go to the others")
    shown(page, causal_contribution(model, result.mel, "renormalise").delta[..., target])
    choose(page, "experts-view", "Signed")
    signed = signed_contribution(model, result.mel, target)
    shown(page, signed.sum(dim=1))
    expect(page.locator("#experts-mode")).to_be_hidden()

    # Beside it, on the spectrogram, the expert that is chosen.
    expect(page.locator("#experts-one")).to_contain_text("Where expert 3 of layer 3")
    tokens = result.grid.unfold(signed[2, :, 2])
    assert patches(page, "experts-detail") == pytest.approx(tokens.numpy(), abs=1e-3)
    true = page.locator("#experts-true")
    expect(true).to_contain_text("Is it true? More than a random map. flute, 97%: with only")

    choose(page, "experts-view", "Share")
    shown(page, torch.cat([expert_share(record) for record in result.records]))


def test_another_class_and_expert_and_of_two_quick_choices_the_last_one_counts(page, result):
    open_experts(page)
    delta = causal_contribution(result.classifier.model, result.mel).delta
    intended = delta[..., int(result.logits.argmax())]
    choose(page, "experts-view", "Causal")
    choose(page, "experts-mode", "are dropped")
    shown(page, intended)
    choose(page, "experts-mode", "go to the others")
    page.wait_for_timeout(300)  # while the first is computed
    choose(page, "experts-mode", "are dropped")
    page.wait_for_timeout(4000)
    shown(page, intended)

    brass = result.classifier.labels.index("brass")
    page.locator("#experts-target input").click()
    page.get_by_role("option", name="brass").click()
    shown(page, delta[..., brass])
    choose(page, "experts-layer", "4")
    choose(page, "experts-expert", "1")
    expect(page.locator("#experts-one")).to_contain_text("Without expert 1 of layer 4")
    without = reclassify(result, {(3, "mhsa"): Intervention((0,))})
    assert "brass" in answered(page, "experts-detail", result, without.probabilities)


def agrees(page: Page, intact: Classification, changed: Classification) -> None:
    label, probability = changed.top(1)[0]
    said = re.compile(
        rf"{label}[^→]*{100 * probability:.1f}%|{label}: .* → {100 * probability:.1f}"
    )
    expect(page.locator("#board-verdict")).to_contain_text(said)
    answered(page, "board-answers", intact, changed.probabilities)


def test_the_switchboard(page, result):
    """It opens on what the backbone alone would say, and takes experts, layers, blind routing."""
    open_experts(page, "Switchboard")
    model = open_classifier(experts.OPENING[0]).model
    taken = [(block, block.beside_attn) for block in model.blocks]
    try:
        for block, _ in taken:
            block.beside_attn = None
        with torch.inference_mode():
            frozen = model(result.mel[None])[0].softmax(dim=0)
    finally:
        for block, moa in taken:
            block.beside_attn = moa
    expect(page.locator("#board-verdict")).to_contain_text("from flute")
    answered(page, "board-answers", result, frozen)

    page.locator("#board-none").click()
    expect(page.locator("#board-verdict")).to_contain_text("stays flute")
    answered(page, "board-answers", result, result.probabilities)
    page.locator("#board-all").click()
    expect(page.locator("#board-verdict")).to_contain_text("from flute")

    for expert in ("E1", "E2", "E4", "E5", "E7"):
        choose(page, "board-off", expert)
    for layer in "126":
        choose(page, "board-layers", layer)
    choose(page, "board-mode", "go to the others")
    change = Intervention((2, 5), "renormalise")
    places = [(layer, "mhsa") for layer in (2, 3, 4)]
    agrees(page, result, reclassify(result, dict.fromkeys(places, change)))
    page.locator("#board-none").click()
    choose(page, "board-dispatch", "uniform")
    choose(page, "board-combine", "shuffled")
    blind = Intervention(dispatch="uniform", combine="shuffled")
    agrees(page, result, reclassify(result, dict.fromkeys(places, blind)))


def test_a_wider_kind_of_the_answer_is_no_other_answer():
    """In AudioSet's tree a bark is a dog's and an animal's, and no other answer than these."""
    tags, ten = open_classifier(), open_classifier("esc10-soft-moa")
    assert not tags.another("Bark", "Dog") and not tags.another("Animal", "Bark")
    assert tags.another("Bark", "Meow") and ten.another("dog bark", "rain")
    bark = classify(tags, EXAMPLES / "dog_bark.ogg", record=False)
    logits = bark.logits.clone()
    logits[tags.labels.index("Dog")] = logits.max() + 1
    said = verdict(bark, replace(bark, logits=logits))
    assert said.startswith("The answer stays of one kind, from **Bark** (72.4%) to **Dog** (")


def samples(page: Page, player: str) -> np.ndarray:
    """What a player plays, from the server."""
    address = page.locator(f"#{player} a[download]").first.get_attribute("href")
    sound, rate = soundfile.read(io.BytesIO(page.request.get(address).body()))
    assert rate == 16_000
    return sound


def plays(page: Page, players: list[str], waveform: torch.Tensor) -> None:
    """Wait until players hold sounds of this sum."""
    soon(page, waveform, lambda: sum(samples(page, player) for player in players))


def test_one_hears_what_the_dispatch_weights_keep(page, result):
    open_experts(page, "Hear it")
    choose(page, "hear-layer", "1")
    choose(page, "hear-expert", "2")
    sound, mask = result.clip.waveform, passing(result, 0, 1, 0)
    expected = as_loud(hear(sound, mask, result.grid), sound)
    said = page.locator("#hear-said")
    expect(said).to_contain_text(f"raised by {expected.gain:+.1f} dB")
    plays(page, ["hear-kept"], expected.waveform)
    assert patches(page, "hear-picture", 1) == pytest.approx(100 * mask.numpy(), abs=0.1)

    page.locator("#hear-loud input").click()
    expect(said).not_to_contain_text("dB")
    plays(page, ["hear-kept", "hear-rest"], result.clip.waveform)  # the masks add up to one
    plays(page, ["hear-original"], result.clip.waveform)


def test_balance_of_this_sound_and_of_the_other_mixtures(page, result):
    open_experts(page, "Balance")
    shares = torch.cat([expert_share(record) for record in result.records])
    effective = effective_experts(shares).mean()
    meter = page.locator("#balance-meter")
    expect(meter).to_contain_text(f"{effective:.1f} of 7 experts at work")
    third = drawn(page, "balance-shares", "gd.calcdata[2].map(bar => bar.s)")
    assert third == pytest.approx(shares[:, 2].tolist(), abs=1e-3)

    page.locator("#balance-metrics > button").click()
    rows = page.locator("#balance-table [role=row]")
    expect(rows.filter(has_text="Effective experts")).to_contain_text(f"{effective:.3f}")


def test_balance_over_a_test_set_can_be_stopped_and_over_own_sounds(page, tmp_path):
    open_experts(page, "Balance")
    status = page.locator("#balance-status")
    expect(status).to_contain_text("1 sound ·")
    choose(page, "balance-over", "A task's test set")
    expect(page.locator("#balance-task input")).to_have_value("Instrument families")  # the model's
    expect(status).to_contain_text(re.compile(r"\d+ of \d+ sounds"))
    page.locator("#balance-stop").dispatch_event("click")  # at once, on a page that is busy drawing
    text = ""
    while (now := status.text_content()) != text:
        text = now
        page.wait_for_timeout(2500)
    assert re.search(r"\d+ of \d+ sounds", text)  # and not to the end

    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"this is no sound")
    choose(page, "balance-over", "My sounds")
    files = [EXAMPLES / "rain.ogg", broken, EXAMPLES / "bell.ogg"]
    page.locator("#balance-files input[type=file]").set_input_files(files)
    expect(status).to_contain_text("2 sounds ·")
    expect(status).to_contain_text("Left out: broken.wav")
    expect(page.locator("#balance-meter")).to_contain_text("over 2 sounds")


def test_every_part_is_no_wider_than_the_page_and_a_link_opens_its_sound(go):
    page = go("?tab=experts&clip=rain&bundle=esc10-soft-moa")
    status = page.locator("#experts-status")
    expect(status).to_contain_text("esc10-soft-moa on ast-small")
    pictures = {
        "Which matter": "experts-detail",
        "Switchboard": "board-answers",
        "Hear it": "hear-picture",
        "Balance": "balance-shares",
    }
    for part, picture in pictures.items():
        open_experts(page, part)
        # Asked again and again, since a figure that is drawn anew is away for a moment.
        inside = f"document.querySelector('#{picture} .main-svg')?.getBoundingClientRect().width"
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_function(f"0 < {inside} && {inside} <= {width}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, part


def test_the_gallery_plays_what_an_expert_reads_most(page, result):
    open_experts(page, "Gallery")
    thumbs = page.locator("#favourites button.thumbnail-item")
    expect(thumbs).to_have_count(21)
    rows = favourites.of(result.classifier)
    best = rows[most_different(result)][1][0]
    captions = page.locator("#favourites .caption-label").all_text_contents()
    path = list(favourites.sounds(result.classifier))[best.clip]
    assert captions[1].strip() == f"E2: {path.parent.name}"  # its class
    thumbs.nth(1).click()
    expect(page.locator("#favourites-sound")).to_contain_text("Expert 2 reads")
    expect(page.locator("#favourites-sound")).to_contain_text(f"{best.times:.0f} \u00d7 even")


def test_the_sound_sent_in_explore_is_the_one_looked_at_if_it_has_experts(page):
    page.get_by_role("tab", name="Explore").click()
    page.locator("#examples button", has_text="bell").first.click()
    page.wait_for_function("location.search.includes('clip=bell')")
    open_experts(page)
    label = classify(open_classifier(), EXAMPLES / "bell.ogg").top(1)[0][0]
    status = page.locator("#experts-status")
    expect(status).to_contain_text(f"{label} (")
    expect(status).to_contain_text("tags on ast-small")
    page.wait_for_function("location.search.includes('tab=experts&clip=bell&bundle=tags')")

    page.get_by_role("tab", name="Explore").click()
    page.locator("#model > button").click()
    page.locator("#bundle input").click()
    page.get_by_role("option", name="esc10: Bottleneck adapter").click()
    expect(page.locator("#status")).to_contain_text("esc10-adapter")
    page.get_by_role("tab", name="Experts").click()
    expect(status).to_contain_text("no mixture of experts")
    expect(page.get_by_role("tab", name="Switchboard")).to_be_hidden()


def test_a_new_sound_is_drawn_by_what_is_offered_though_the_page_lags(result):
    with gr.Blocks():
        balance, which = Balance(gr.State()), experts.WhichMatter(gr.State())
    seen = Attribution(result)
    *_, last = balance.measure_new(seen)
    assert len(last[balance.measured]) == len(same_task(result.classifier.name)) == 4
    controls, best = [*which.offered, which.mode], int(result.logits.argmax())
    without = reclassify(result, {(2, "mhsa"): Intervention((2,))})
    assert without.probabilities[best] < 0.2  # of 0.965: no other removal changes so much
    for now in ([None, None, None, None, "zero"], ["length", 400, 99, 1, "zero"]):
        assert offered(which.offer(seen), controls, now) == ["causal", best, 2, 2, "zero"]


@pytest.mark.parametrize("clip", ["rooster", "rain", "flute"])
def test_where_no_expert_alone_matters_it_is_said_by_how_little(result, clip):
    if clip != "flute":
        result = classify(open_classifier("esc10-soft-moa"), EXAMPLES / f"{clip}.ogg")
    seen, best = Attribution(result), int(result.logits.argmax())
    changed = [
        reclassify(result, {place: Intervention((expert,))}).probabilities[best]
        for place in seen.places
        for expert in range(seen.experts)
    ]
    most = 100 * (torch.stack(changed) - result.probabilities[best]).abs().max().item()
    with gr.Blocks():
        which = experts.WhichMatter(gr.State())
    said = which.judge(seen, "causal", best, 0, 0, "zero")[which.title]
    assert ("No expert alone matters" in said) == (most < 1)
    assert most >= 1 or f"by {most:.2f} points at most" in said


def noise_through(name: str) -> Attribution:
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy() / 9
    return Attribution(classify(open_classifier(name), (16_000, noise)))


@pytest.mark.parametrize("name", ["x-top1", "x-dense", "x-soft"])
def test_every_kind_of_mixture(family, name):
    seen = noise_through(name)
    with gr.Blocks():
        state = gr.State()
        which, board = experts.WhichMatter(state), Switchboard(state)
        heard, balance = HearIt(state), Balance(state)
    for part in (which, board, heard, balance):
        assert set(part.offer(seen)) == set(part.offered)
    for view in ("causal", "signed", "length", "share"):
        # Beyond what there is: a stale choice is taken for the last one.
        said = which.judge(seen, view, 9, 9, 9, "zero")
        assert "expert 4 of layer 6" in said[which.one_title] and len(said[which.map].plot) < 60_000
        assert len(said[which.one].plot) < 60_000
    everything = board.offer(seen)
    assert everything[board.dispatch].visible == (name == "x-soft")
    said = board.run(seen, [1, 9], [0, 9], "renormalise", "learned", "uniform")
    assert "The answer" in said[board.verdict]
    said = heard.play(seen, 2, 3, 1, True)
    assert len(said[heard.players[1]][1]) == 16_000 and len(said[heard.picture].plot) < 60_000
    *_, last = balance.measure(seen, "sound", [name, "x-soft"])
    assert re.match(r"## [1-4]\.\d of 4 experts at work", last[balance.meter])
    table = last[balance.table].value
    assert len(table["data"]) == len(METRICS) and len(table["headers"]) >= 5
    with pytest.raises(gr.Error, match="from the list"):
        list(balance.measure(seen, "sound", ["x-linear"]))
