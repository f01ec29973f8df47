"""The stage on a real clip in a real browser: what it reads out is what the model computed."""

import base64
import json
import re
import zlib
from itertools import product

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect
from test_app import EXAMPLES, pick_example
from test_links import query_of

from softmoa.data.audio import load
from softmoa.lens.ablation import signed_contribution
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify
from softmoa.lens.contribution import specialisation
from softmoa.lens.export import weights_of
from softmoa.lens.hearing import hear
from softmoa.lens.planted import plant, pointing
from softmoa.model.recording import expert_share
from softmoa.ui.drawing import truth
from softmoa.ui.stage.stage import FLOOR, clip_of

ROUNDED = 0.07  # two digits are shown, of a weight that is sent in steps of up to 4 %


@pytest.fixture(scope="module")
def rooster():
    return classify(open_classifier(), EXAMPLES / "rooster.ogg")


@pytest.fixture
def stage(page: Page) -> Page:
    pick_example(page, "rooster")
    return page


def open_numbers(page: Page) -> None:
    if not page.locator("#patch").is_visible():
        page.locator("#numbers > button").click()


def point(page: Page, result, band: int, column: int) -> str:
    """Point at the middle of a patch; what the cross-hair reads out."""
    page.evaluate("scrollTo(0, 0)")
    box, grid = page.locator("#stage .area").bounding_box(), result.grid
    (start, end), low = grid.seconds(column), band * grid.stride_frequency
    x = (start + end) / 2 / (len(result.mel) / 100) * box["width"]
    y = (1 - (low + grid.patch / 2) / grid.mels) * box["height"]
    page.mouse.move(box["x"] + x, box["y"] + y)
    return page.locator("#stage .readout").text_content()


def choose(page: Page, layer: int | None = None, view: str = "", expert: int = 0) -> None:
    if layer:
        page.locator("#stage .layer input").fill(str(layer))
    if view:
        page.locator(f"#stage [data-view={view}]").click()
    if expert:
        button = page.locator("#stage .experts button").nth(expert - 1)
        if button.get_attribute("aria-pressed") != "true":  # pressed again it lets go
            button.click()


def shares(page: Page, of: str = "#stage") -> list[float]:
    """What the experts' buttons say."""
    told = page.locator(f"{of} .experts span").all_text_contents()
    return [float(text.strip(" %")) / 100 for text in told]


def within(result, first: tuple[int, int], last: tuple[int, int]) -> str:
    """How the stage names a box between two patches (band, column)."""
    (start, _), (_, end) = result.grid.seconds(first[1]), result.grid.seconds(last[1])
    (low, _), (_, high) = result.grid.hertz(first[0]), result.grid.hertz(last[0])
    return f"{start:.2f}\u2013{end:.2f} s, {low:.0f}\u2013{high:.0f} Hz"


# What is sent


def unpacked(clip: dict) -> np.ndarray:
    """Multiples of an even share, (layers, 2, n, p, m), by the rule that `clip_of` states."""
    sent = np.frombuffer(zlib.decompress(base64.b64decode(clip["weights"])), np.uint8)
    steps = sent.reshape(len(clip["layers"]), 2, *clip["shape"]).astype(float)
    top = np.array([layer["tops"] for layer in clip["layers"]])[:, :, None, None, None]
    return np.where(steps > 0, FLOOR * (top / FLOOR) ** ((steps - 1) / 254), 0)


def test_every_weight_is_sent_within_two_percent(rooster):
    clip = clip_of(rooster)
    sent = unpacked(clip)
    n, p, m = clip["shape"]
    for row, record in enumerate(rooster.records):
        for kind, (weights, even) in enumerate(zip(weights_of(record), (m, n * p), strict=True)):
            true = (weights * even).numpy()
            shown = true >= FLOOR
            np.testing.assert_allclose(sent[row, kind][shown], true[shown], rtol=0.02)
            assert not sent[row, kind][~shown].any()


def test_ten_seconds_are_sent_in_less_than_120_kilobytes():
    noise = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    assert len(json.dumps(clip_of(classify(open_classifier(), (16_000, noise))))) < 120_000


# What is read out, from what the page opens on


def test_the_page_fits_and_is_as_short_as_it_should_be(stage):
    for width, height, top in ((1280, 800, 450), (390, 844, 600), (1920, 1000, 844)):
        stage.set_viewport_size({"width": width, "height": height})
        stage.wait_for_timeout(500)
        assert stage.evaluate("document.documentElement.scrollWidth") <= width
        area = stage.locator("#stage .area").bounding_box()
        assert area["width"] > 0.6 * min(width, 1200)
        assert area["y"] < top and area["y"] + area["height"] < height
    stage.set_viewport_size({"width": 1280, "height": 900})


def test_all_experts_show_the_strongest_one_of_a_patch(stage, rooster):
    choose(stage, layer=4, view="experts")
    token = rooster.grid.token(3, 6)
    weights = weights_of(rooster.records[3])[1][:, 0, token]
    said = point(stage, rooster, 3, 6)
    strongest = int(weights.argmax())
    name, part = re.search(r": (E\d) (\d+)%", said).groups()
    assert name == f"E{strongest + 1}"
    assert int(part) == pytest.approx(100 * weights.max().item(), rel=0.03)
    assert shares(stage) == pytest.approx(weights.tolist(), rel=0.05, abs=0.006)
    stage.mouse.move(1, 1)
    whole = expert_share(rooster.records[3])[0]
    assert shares(stage) == pytest.approx(whole.tolist(), rel=0.05)


def test_the_cross_hair_reads_the_weight_of_the_model(stage, rooster):
    choose(stage, layer=3, expert=5)
    patches = ((0, 0), (4, 6), (7, 10))
    for kind, (band, column) in product((0, 1), patches):
        choose(stage, view=("dispatch", "combine")[kind])
        said = point(stage, rooster, band, column)
        token = rooster.grid.token(band, column)
        weight = weights_of(rooster.records[2])[kind][4, 0, token].item()
        patch = band, column
        assert said.startswith(f"{within(rooster, patch, patch)}: E5")
        even = weight * (rooster.grid.tokens, 7)[kind]
        if even < FLOOR:
            assert "< 0.01 \u00d7 even" in said
            continue
        shown, multiple = re.search(r"weight ([\d.e-]+), ([\d.]+) ", said).groups()
        assert float(shown) == pytest.approx(weight, rel=ROUNDED)
        assert float(multiple) == pytest.approx(even, rel=ROUNDED)


# How it is used


def test_the_playhead_and_the_bars_move_with_the_sound(stage, rooster):
    choose(stage, layer=4, view="experts")
    whole = shares(stage)
    stage.locator("#stage .play").click()
    expect(stage.locator("#stage .playhead")).to_be_visible()
    expect(stage.locator("#stage .play")).to_have_attribute("aria-label", "Pause")
    stage.locator("#stage .play").click()
    at = stage.evaluate(
        """() => { const audio = document.querySelector('#sound audio');
          audio.currentTime = 1.0; return audio.currentTime; }"""
    )
    expect(stage.locator("#stage .playhead")).to_have_attribute("style", re.compile(r"left: 5\d"))
    box, area = (stage.locator(f"#stage .{c}").bounding_box() for c in ("playhead", "area"))
    middle = (box["x"] + box["width"] / 2 - area["x"]) / area["width"]
    assert middle == pytest.approx(at / (len(rooster.mel) / 100), abs=0.005)
    assert shares(stage) != whole
    column = int(at * 100) // rooster.grid.stride_time
    combine = rooster.grid.unfold(weights_of(rooster.records[3])[1])[:, 0, :, column].mean(dim=1)
    assert shares(stage) == pytest.approx(combine.tolist(), rel=0.05, abs=0.006)


def test_the_keyboard_walks_over_the_patches(stage, rooster):
    choose(stage, layer=1, view="combine", expert=2)
    stage.locator("#stage .area").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
        stage.keyboard.press(key)  # it enters at the left, in the middle
    said, patch = stage.locator("#stage .readout"), within(rooster, (5, 0), (5, 0))
    expect(said).to_contain_text(f"{patch}: E2")
    stage.keyboard.press("Enter")
    open_numbers(stage)
    expect(stage.locator("#patch-place")).to_contain_text(patch)
    stage.locator("#stage .area").focus()
    stage.keyboard.press("Escape")
    expect(said).to_contain_text("class token")

    # With Shift it selects a box.
    for key in ("ArrowRight", "Shift+ArrowRight", "Shift+ArrowUp"):
        stage.keyboard.press(key)
    stage.locator("#stage .area").blur()
    expect(stage.locator("#stage .brush")).to_be_visible()
    box, patch = (stage.locator(f"#stage .{c}").bounding_box() for c in ("box", "patch"))
    assert box["width"] == pytest.approx(2 * patch["width"], rel=0.02)
    assert box["height"] == pytest.approx(2 * patch["height"], rel=0.02)
    stage.locator("#stage .area").focus()
    stage.keyboard.press("Escape")
    expect(stage.locator("#stage .brush")).to_be_hidden()


def test_a_link_opens_the_exact_view(go):
    page = go("?clip=dog_bark&layer=3&expert=2&view=combine")
    pressed = page.locator("#stage .experts [aria-pressed=true]")
    expect(page.locator("#stage h2")).to_contain_text("Bark")
    expect(pressed).to_contain_text("E2")
    expect(page.locator("#stage .layer output")).to_have_text("Layer 3")
    expect(page.locator("#stage [data-view=combine]")).to_have_attribute("aria-pressed", "true")
    choose(page, expert=5)
    page.wait_for_function("location.search.includes('expert=5')")
    found = query_of(page)
    assert {"clip": "dog_bark", "layer": "3", "view": "combine"}.items() <= found.items()
    page.get_by_role("tab", name="Lesson").click()
    page.wait_for_function("location.search.includes('tab=lesson')")
    assert "expert" not in query_of(page)


# A box


def drag(page: Page, result, start: tuple[int, int], end: tuple[int, int]) -> None:
    """From the middle of a patch (band, column) to that of another one."""
    point(page, result, *start)
    page.mouse.down()
    point(page, result, *end)
    page.mouse.up()


@pytest.mark.parametrize(("act", "expert"), [("keep", 3), ("erase", 5)])
def test_a_box_is_kept_or_erased(stage, rooster, act, expert):
    drag(stage, rooster, (3, 2), (5, 8))
    expect(stage.locator("#stage .readout")).to_have_text(within(rooster, (3, 2), (5, 8)))
    stage.locator(f"#stage [data-act={act}]").click()
    mask = torch.zeros(rooster.grid.bands, rooster.grid.columns)
    mask[3:6, 2:9] = 1
    sound = hear(rooster.clip.waveform, mask if act == "keep" else 1 - mask, rooster.grid)
    changed = classify(rooster.classifier, (16_000, sound.numpy()))
    told, first = clip_of(changed), clip_of(rooster)["classes"][0]
    expect(stage.locator("#changed h2")).to_contain_text(told["labels"][0][0])
    before, after = (100 * one.probabilities[first].item() for one in (rooster, changed))
    label = rooster.classifier.labels[first]
    expect(stage.locator("#changed .readout")).to_contain_text(
        f"{label}: {before:.0f} \u2192 {after:.0f}%"
    )
    choose(stage, layer=2, view="combine", expert=expert)  # the other one follows
    expect(stage.locator("#changed .area")).to_have_attribute("data-shown", "combine")
    whole = expert_share(changed.records[1])[0]
    expect(stage.locator("#changed .experts [aria-pressed=true]")).to_contain_text(f"E{expert}")
    assert shares(stage, "#changed") == pytest.approx(whole.tolist(), rel=0.06, abs=0.006)
    cut = "of => of.filter(one => one.scrollWidth > one.clientWidth).length"
    assert stage.locator("#stages :is(h2, .chips)").evaluate_all(cut) == 0
    areas = [stage.locator(f"#{one} .area").bounding_box() for one in ("stage", "changed")]
    assert areas[0]["y"] == areas[1]["y"] and areas[0]["width"] == areas[1]["width"]
    stage.locator("#stage [data-act=clear]").click()
    expect(stage.locator("#changed")).to_be_hidden()


def test_after_a_box_was_played_the_bars_are_of_the_whole_clip_again(stage, rooster):
    choose(stage, layer=4, view="experts")
    whole = stage.locator("#stage .experts span").all_text_contents()
    drag(stage, rooster, (3, 2), (5, 4))
    stage.locator("#stage [data-act=play]").click()
    bars = stage.locator("#stage .experts span")
    expect(bars).not_to_have_text(whole)
    expect(bars).to_have_text(whole)
    stage.locator("#stage [data-act=clear]").click()


# Is it true?


def test_a_map_says_whether_it_is_true(stage, rooster):
    choose(stage, layer=5, view="dispatch", expert=2)
    stage.locator("#stage .truth button").click()
    target = clip_of(rooster)["classes"][0]
    patches = rooster.grid.unfold(weights_of(rooster.records[4])[0][1, 0])
    expected = truth(rooster, patches, target)
    expect(stage.locator("#stage .truth")).to_have_text(expected)
    choose(stage, layer=4)
    expect(stage.locator("#stage .truth button")).to_be_visible()
    choose(stage, layer=5)
    expect(stage.locator("#stage .truth")).to_have_text(expected)  # it is not asked for again
    choose(stage, view="label")
    tokens = signed_contribution(rooster.classifier.model, rooster.mel, target)
    expected = truth(rooster, rooster.grid.unfold(tokens[4, :, 1]), target)
    expect(stage.locator("#stage .truth")).to_have_text(expected)


def test_from_the_sound_to_the_labels(stage, rooster):
    row = int(np.argmax([specialisation(record) for record in rooster.records]))
    choose(stage, layer=row + 1)
    find = "document.querySelector('#flow-picture .js-plotly-plot')"
    stage.wait_for_function(f"{find}?.calcdata")
    seen = stage.evaluate(f"{find}.data[0].node.customdata")
    label, _ = rooster.top(1)[0]
    target = rooster.classifier.labels.index(label)
    model, mel = rooster.classifier.model, rooster.mel
    added = signed_contribution(model, mel, target)[row].sum().item()
    shown = next(one for one in seen if one.startswith(f"{label}: "))
    assert float(shown.split()[-3]) == pytest.approx(added, abs=1e-3)
    stage.locator("#flow-layer").get_by_label("all").click()
    stage.wait_for_function(f"{find}?.data[0].node.label.length == 9 + 42 + 3")


def test_an_expert_points_at_a_planted_sound(stage, rooster):
    stage.locator("#plant > button").click()
    stage.locator("#plant-it").click()
    said = stage.locator("#changed .readout")
    expect(said).to_contain_text("Dog bark: AUC 0.")
    score, expert, layer, before = re.search(
        r"AUC ([\d.]+), by expert (\d) of layer (\d); .* had ([\d.]+)\.", said.text_content()
    ).groups()
    planted = plant(
        rooster.clip.waveform, load(EXAMPLES / "dog_bark.ogg").waveform, 0.5, 0, rooster.grid
    )
    found = pointing(rooster.classifier, planted, rooster.grid)
    assert (int(layer), int(expert)) == (found.row + 1, found.expert + 1)
    assert float(score) == pytest.approx(found.score, abs=0.006)
    assert float(before) == pytest.approx(found.before, abs=0.006)
    expect(stage.locator("#stage .layer output")).to_have_text(f"Layer {layer}")
    expect(stage.locator("#stage .area")).to_have_attribute("data-shown", "dispatch")


def test_a_label_shows_what_speaks_for_it(stage, rooster):
    choose(stage, layer=2)
    for chip in (1, 0):  # the second press does not wait for the first one's answer
        stage.locator("#stage .chips button").nth(chip).click()
    label, _ = rooster.top(2)[1]
    expect(stage.locator("#stage .readout")).to_contain_text(f"red speaks for {label}")
    target = rooster.classifier.labels.index(label)
    tokens = signed_contribution(rooster.classifier.model, rooster.mel, target)
    choose(stage, expert=4)
    band, column = rooster.grid.place(2 + int(tokens[1, 2:, 3].abs().argmax()))
    said = point(stage, rooster, band, column)
    assert f"on the logit of {label}" in said
    shown = float(re.search(r"E4 (\S+) on", said)[1].replace("\u2212", "-"))
    true = tokens[1, rooster.grid.token(band, column), 3].item()
    assert shown == pytest.approx(true, rel=0.06, abs=tokens.abs().max().item() / 200)

    # A patch that is pressed shows its exact weights.
    choose(stage, layer=3)
    open_numbers(stage)
    point(stage, rooster, 4, 6)
    stage.mouse.down()
    stage.mouse.up()
    expect(stage.locator("#patch-place")).to_contain_text(within(rooster, (4, 6), (4, 6)))
    dispatch, combine = weights_of(rooster.records[2])
    token = rooster.grid.token(4, 6)
    for weight in (dispatch[2, 0, token], combine[2, 0, token]):
        expect(stage.locator("#patch")).to_contain_text(f"{round(weight.item(), 6)}")
