"""The stage on a real clip in a real browser: what it reads out is what the model computed."""

import base64
import io
import json
import re
import zlib
from itertools import product
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import soundfile
import torch
from playwright.sync_api import Page, expect
from test_app import EXAMPLES, WAIT, new_clip, pick_example, upload

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
from softmoa.ui.stage.stage import FLOOR, Choice, clip_of

ROUNDED = 0.07  # two digits are shown, of a weight that is sent in steps of up to 4 %


@pytest.fixture(scope="module")
def rooster():
    return classify(open_classifier(), EXAMPLES / "rooster.ogg")


@pytest.fixture
def stage(page: Page) -> Page:
    pick_example(page, "rooster")
    return page


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
        page.locator("#stage .experts button").nth(expert - 1).click()


def query_of(page: Page) -> dict[str, str]:
    return {key: value for key, [value] in parse_qs(urlsplit(page.url).query).items()}


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


@pytest.mark.parametrize("bundle", ["tags", "esc10-soft-moa", "esc10-top2-moa"])
def test_ten_seconds_are_sent_in_less_than_120_kilobytes(bundle):
    noise = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    assert len(json.dumps(clip_of(classify(open_classifier(bundle), (16_000, noise))))) < 120_000


def test_a_bundle_without_a_mixture_sends_the_sound_alone():
    clip = clip_of(classify(open_classifier("esc10-adapter"), EXAMPLES / "rooster.ogg"))
    assert clip["layers"] == [] and clip["mel"].startswith("data:image/webp")


def test_the_headline_comes_before_the_other_labels(rooster):
    headline, clip = rooster.headline(), clip_of(rooster)
    assert clip["headline"] == [headline.before, len(headline.labels)]
    shown = [label for label, _ in clip["labels"]]
    assert shown[: len(headline.labels)] == list(headline.labels)
    assert set(shown) == {*headline.labels, *(label for label, _ in rooster.top(5))}
    assert [rooster.classifier.labels[i] for i in clip["classes"]] == shown
    silence = clip_of(classify(open_classifier(), (16_000, np.zeros(16_000))))
    assert silence["headline"] == ["Silence", 0] and len(silence["labels"]) == 5


@pytest.mark.parametrize("value", [None, 3, "x", [], {"view": "other"}, {"layer": []}])
def test_a_choice_that_makes_no_sense_is_the_default(value, rooster):
    choice = Choice.of(value)
    assert choice == Choice()
    assert choice.row(rooster) == int(np.argmax([specialisation(r) for r in rooster.records]))


# What is read out


def test_the_cross_hair_reads_the_weight_of_the_model(stage, rooster):
    choose(stage, layer=3, expert=5)
    patches = ((0, 0), (4, 6), (7, 10), (2, 5))
    for kind, (band, column) in product((0, 1), patches):
        choose(stage, view=("dispatch", "combine")[kind])
        said = point(stage, rooster, band, column)
        token = rooster.grid.token(band, column)
        weight = weights_of(rooster.records[2])[kind][4, 0, token].item()
        (start, end), (low, high) = rooster.grid.seconds(column), rooster.grid.hertz(band)
        assert said.startswith(f"{start:.2f}\u2013{end:.2f} s, {low:.0f}\u2013{high:.0f} Hz: E5")
        even = weight * (rooster.grid.tokens, 7)[kind]
        if even < FLOOR:
            assert "< 0.01 \u00d7 even" in said
            continue
        shown, multiple = re.search(r"weight ([\d.e-]+), ([\d.]+) ", said).groups()
        assert float(shown) == pytest.approx(weight, rel=ROUNDED)
        assert float(multiple) == pytest.approx(even, rel=ROUNDED)


def test_all_experts_show_the_strongest_one_of_a_patch(stage, rooster):
    choose(stage, layer=4)
    token = rooster.grid.token(3, 6)
    weights = weights_of(rooster.records[3])[1][:, 0, token]
    said = point(stage, rooster, 3, 6)
    strongest = int(weights.argmax())
    name, part = re.search(r": (E\d) (\d+) %", said).groups()
    assert name == f"E{strongest + 1}"
    assert int(part) == pytest.approx(100 * weights.max().item(), rel=0.03)
    for j, bar in enumerate(stage.locator("#stage .experts span").all_text_contents()):
        assert float(bar.strip(" %")) == pytest.approx(100 * weights[j].item(), rel=0.05, abs=0.6)
    pixel = stage.evaluate(
        """() => [...document.querySelector('#stage canvas').getContext('2d')
          .getImageData(6, 4, 1, 1).data]"""  # the fourth band from below, of eight
    )
    colour = stage.evaluate(
        f"getComputedStyle(document.querySelectorAll('#stage .bar')[{strongest}]).backgroundColor"
    )
    expected = [int(part) for part in re.findall(r"\d+", colour)]
    assert np.abs(np.array(pixel[:3]) - expected).max() <= 2  # opacity costs a step or two
    stage.mouse.move(1, 1)
    shares = expert_share(rooster.records[3])[0]
    for j, bar in enumerate(stage.locator("#stage .experts span").all_text_contents()):
        assert float(bar.strip(" %")) == pytest.approx(100 * shares[j].item(), rel=0.05)


def test_a_label_shows_what_speaks_for_it(stage, rooster):
    choose(stage, layer=2)
    stage.locator("#stage .chips button").first.click()
    expect(stage.locator("#stage .readout")).to_contain_text("red speaks for", timeout=WAIT)
    label, _ = rooster.top(2)[1]
    target = rooster.classifier.labels.index(label)
    tokens = signed_contribution(rooster.classifier.model, rooster.mel, target).tokens
    choose(stage, expert=4)
    band, column = rooster.grid.place(2 + int(tokens[1, 2:, 3].abs().argmax()))
    said = point(stage, rooster, band, column)
    assert f"on the logit of {label}" in said
    shown = float(re.search(r"E4 (\S+) on", said)[1].replace("\u2212", "-"))
    true = tokens[1, rooster.grid.token(band, column), 3].item()
    assert shown == pytest.approx(true, rel=0.06, abs=tokens.abs().max().item() / 200)


def test_a_pressed_patch_shows_its_exact_weights(stage, rooster):
    choose(stage, layer=3)
    stage.locator("#numbers > button").click()
    point(stage, rooster, 4, 6)
    stage.mouse.down()
    stage.mouse.up()
    start, end = rooster.grid.seconds(6)
    expect(stage.locator("#patch-place")).to_contain_text(f"{start:.2f}\u2013{end:.2f} s")
    dispatch, combine = weights_of(rooster.records[2])
    token = rooster.grid.token(4, 6)
    for weight in (dispatch[2, 0, token], combine[2, 0, token]):
        expect(stage.locator("#patch")).to_contain_text(f"{round(weight.item(), 6)}")


# How it is used


def test_switching_asks_nobody_and_takes_less_than_a_frame(stage):
    asked = []
    stage.on("request", lambda request: asked.append(request.url))
    stage.wait_for_timeout(2000)
    while asked:  # what follows on the opening of the page
        asked.clear()
        stage.wait_for_timeout(2000)
    times = stage.evaluate(
        """() => {
          const find = where => [...document.querySelectorAll('#stage ' + where)];
          const scrubber = find('.layer input')[0], times = [];
          const timed = act => {
            const began = performance.now();
            act();
            times.push(performance.now() - began);
          };
          for (let layer = 1; layer <= 6; layer++) {
            timed(() => { scrubber.value = layer; scrubber.dispatchEvent(new Event('input')); });
            for (const view of ['experts', 'dispatch', 'combine'])
              timed(() => find(`[data-view=${view}]`)[0].click());
            for (const expert of find('.experts button')) timed(() => expert.click());
          }
          return times;
        }"""
    )
    stage.wait_for_timeout(500)
    assert asked == []
    assert len(times) == 66 and sorted(times)[len(times) // 2] < 16


def test_the_playhead_and_the_bars_move_with_the_sound(stage, rooster):
    choose(stage, layer=4)
    bars = stage.locator("#stage .experts span")
    whole = bars.all_text_contents()
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
    assert bars.all_text_contents() != whole
    column = int(at * 100) // rooster.grid.stride_time
    combine = rooster.grid.unfold(weights_of(rooster.records[3])[1])[:, 0, :, column].mean(dim=1)
    shown = [float(text.strip(" %")) for text in bars.all_text_contents()]
    assert shown == pytest.approx([100 * x for x in combine.tolist()], rel=0.05, abs=0.6)


def test_the_keyboard_walks_over_the_patches(stage, rooster):
    choose(stage, layer=1, view="combine", expert=2)
    stage.locator("#stage .area").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
        stage.keyboard.press(key)  # it enters at the left, in the middle
    (start, end), (low, high) = rooster.grid.seconds(0), rooster.grid.hertz(5)
    said = stage.locator("#stage .readout")
    expect(said).to_contain_text(f"{start:.2f}\u2013{end:.2f} s, {low:.0f}\u2013{high:.0f} Hz: E2")
    stage.keyboard.press("Enter")
    expect(stage.locator("#patch-place")).to_have_count(0)  # folded, but there:
    stage.locator("#numbers > button").click()
    expect(stage.locator("#patch-place")).to_contain_text(f"{low:.0f}\u2013{high:.0f} Hz")
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


def test_a_finger_reads_a_patch(stage):
    area = stage.locator("#stage .area")
    area.dispatch_event("pointerdown", {"pointerType": "touch", "clientX": 700, "clientY": 500})
    area.dispatch_event("pointerleave", {"pointerType": "touch"})
    expect(stage.locator("#stage .patch")).to_be_visible()


def test_a_link_opens_the_exact_view(go):
    page = go("?clip=dog_bark&layer=3&expert=2&view=combine")
    pressed = page.locator("#stage .experts [aria-pressed=true]")
    expect(page.locator("#stage h2")).to_contain_text("Bow-wow", timeout=WAIT)
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


def test_a_link_to_a_bundle_answers_with_it(go):
    page = go("?bundle=esc10-soft-moa")
    expect(page.locator("#stage h2")).to_contain_text("rooster", timeout=WAIT)
    expect(page.locator("#status")).to_contain_text("esc10-soft-moa on ast-small")


WORDS_BEFORE = """() => {
  const plot = document.querySelector('#stage .plot');
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let words = 0;
  for (let node; (node = walker.nextNode()) && !plot.contains(node);)
    if (node.parentElement.checkVisibility() &&
        !node.parentElement.closest('script, style, .visually-hidden'))
      words += node.data.split(/\\s+/).filter(Boolean).length;
  return words;
}"""


# A box


def drag(page: Page, result, start: tuple[int, int], end: tuple[int, int]) -> None:
    """From the middle of a patch (band, column) to that of another one."""
    point(page, result, *start)
    page.mouse.down()
    point(page, result, *end)
    page.mouse.up()


def test_a_box_is_kept_or_erased(stage, rooster):
    for act, expert in (("keep", 3), ("erase", 5)):
        keep_or_erase(stage, rooster, act, expert)


def keep_or_erase(stage: Page, rooster, act: str, expert: int) -> None:
    drag(stage, rooster, (3, 2), (5, 8))
    said = stage.locator("#stage .readout")
    (start, _), (_, end) = rooster.grid.seconds(2), rooster.grid.seconds(8)
    (low, _), (_, high) = rooster.grid.hertz(3), rooster.grid.hertz(5)
    expect(said).to_have_text(f"{start:.2f}\u2013{end:.2f} s, {low:.0f}\u2013{high:.0f} Hz")
    expect(stage.locator("#patch tbody tr")).to_have_count(0)  # a drag presses no patch
    stage.locator(f"#stage [data-act={act}]").click()
    mask = torch.zeros(rooster.grid.bands, rooster.grid.columns)
    mask[3:6, 2:9] = 1
    sound = hear(
        rooster.clip.waveform, mask if act == "keep" else 1 - mask, rooster.grid,
        relative=False, loudness="masked",
    ).waveform  # fmt: skip
    changed = classify(rooster.classifier, (16_000, sound.numpy()))
    told, first = clip_of(changed), clip_of(rooster)["classes"][0]
    expect(stage.locator("#changed h2")).to_contain_text(told["labels"][0][0], timeout=WAIT)
    shown = stage.locator("#changed .headline button").all_text_contents()
    for k, ((label, part), text) in enumerate(zip(told["labels"], shown, strict=True)):
        name = label if k < told["headline"][1] else label.split(",")[0]
        assert text.startswith(name)
        assert float(text.removeprefix(name).strip(" %")) == pytest.approx(100 * part, abs=0.6)
    before, after = (100 * one.probabilities[first].item() for one in (rooster, changed))
    label = rooster.classifier.labels[first]
    expect(stage.locator("#changed .readout")).to_contain_text(
        f"{label}: {before:.0f} \u2192 {after:.0f} %"
    )
    choose(stage, layer=2, view="combine", expert=expert)  # the other one follows
    expect(stage.locator("#changed .area")).to_have_attribute("data-shown", "combine")
    shares = expert_share(changed.records[1])[0]
    expect(stage.locator("#changed .experts [aria-pressed=true]")).to_contain_text(f"E{expert}")
    for j, bar in enumerate(stage.locator("#changed .experts span").all_text_contents()):
        assert float(bar.strip(" %")) == pytest.approx(100 * shares[j].item(), rel=0.06, abs=0.6)
    areas = [stage.locator(f"#{one} .area").bounding_box() for one in ("stage", "changed")]
    assert areas[0]["y"] == areas[1]["y"] and areas[0]["width"] == areas[1]["width"]
    stage.locator("#stage [data-act=clear]").click()
    expect(stage.locator("#changed")).to_be_hidden()


def test_a_box_is_played(stage, rooster):
    drag(stage, rooster, (2, 4), (4, 6))
    stage.locator("#stage [data-act=play]").click()
    stage.wait_for_function(
        "document.querySelector('#stage .own').src.startsWith('data:audio/flac')", timeout=WAIT
    )
    stage.wait_for_function(
        "at => document.querySelector('#stage .own').currentTime >= at",
        arg=rooster.grid.seconds(4)[0],
        timeout=WAIT,
    )
    sound = stage.evaluate("document.querySelector('#stage .own').src.split(',')[1]")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
    assert rate == 16_000 and len(samples) == len(rooster.clip.waveform)
    inside = samples[
        int(rooster.grid.seconds(4)[0] * rate) : int(rooster.grid.seconds(6)[1] * rate)
    ]
    assert np.square(inside).sum() > 0.95 * np.square(samples).sum()


# Is it true?


def test_a_map_says_whether_it_is_true(stage, rooster):
    choose(stage, layer=5, view="dispatch", expert=2)
    stage.locator("#stage .truth button").click()
    target = clip_of(rooster)["classes"][0]
    patches = rooster.grid.unfold(weights_of(rooster.records[4])[0][1, 0])
    expected = truth(rooster, patches, target)
    expect(stage.locator("#stage .truth")).to_have_text(expected, timeout=WAIT)
    choose(stage, layer=4)
    expect(stage.locator("#stage .truth button")).to_be_visible()
    choose(stage, layer=5)
    expect(stage.locator("#stage .truth")).to_have_text(expected)  # it is not asked for again
    choose(stage, view="label")
    tokens = signed_contribution(rooster.classifier.model, rooster.mel, target).tokens
    expected = truth(rooster, rooster.grid.unfold(tokens[4, :, 1]), target)
    expect(stage.locator("#stage .truth")).to_have_text(expected, timeout=WAIT)


def test_from_the_sound_to_the_labels(stage, rooster):
    ask = "(gd => gd.calcdata && {label: gd.data[0].node.customdata, links: gd.data[0].link.value})"
    find = "document.querySelector('#flow-picture .js-plotly-plot')"
    stage.wait_for_function(f"{find}?.calcdata", timeout=WAIT)
    seen = stage.evaluate(f"{ask}({find})")
    row = int(np.argmax([specialisation(record) for record in rooster.records]))
    label, _ = rooster.top(1)[0]
    target = rooster.classifier.labels.index(label)
    model, mel = rooster.classifier.model, rooster.mel
    added = signed_contribution(model, mel, target).experts[row].sum().item()
    assert seen["label"][8] == "tokens of the whole clip"
    shown = next(one for one in seen["label"] if one.startswith(f"{label}: "))
    assert float(shown.split()[-3]) == pytest.approx(added, abs=1e-3)
    stage.locator("#flow-layer").get_by_label("all").click()
    stage.wait_for_function(f"{find}?.data[0].node.label.length == 9 + 42 + 3", timeout=WAIT)


def test_an_expert_points_at_a_planted_sound(stage, rooster):
    stage.locator("#plant > button").click()
    stage.locator("#plant-it").click()
    said = stage.locator("#changed .readout")
    expect(said).to_contain_text("Dog bark: AUC 0.", timeout=WAIT)
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


def test_arrow_keys_choose_layer_and_expert_on_a_projector(go):
    page = go("?present=1")
    expect(page.locator("#stage .layer output")).to_have_text("Layer 4", timeout=WAIT)
    page.wait_for_selector("html.present", state="attached")
    for key in ("ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    expect(page.locator("#stage .layer output")).to_have_text("Layer 5")
    expect(page.locator("#stage .experts [aria-pressed=true]")).to_contain_text("E2")


def test_the_axis_of_a_long_sound_is_that_of_the_stage(page, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 12 * 16_000)
    soundfile.write(tmp_path / "long.wav", noise, 16_000)
    page.locator("#sound").get_by_label("Clear").click()
    with new_clip(page):
        upload(page, tmp_path / "long.wav")
    plot = page.locator("#timeline .nsewdrag").first
    expect(plot).to_be_attached(timeout=WAIT)
    area, drawn = page.locator("#stage .area").bounding_box(), plot.bounding_box()
    assert drawn["x"] == pytest.approx(area["x"], abs=1)
    assert drawn["x"] + drawn["width"] == pytest.approx(area["x"] + area["width"], abs=1)


def test_the_page_fits_and_is_as_short_as_it_should_be(stage):
    for width, height, top in ((1280, 800, 450), (390, 844, 600), (1920, 1000, 844)):
        stage.set_viewport_size({"width": width, "height": height})
        stage.wait_for_timeout(500)
        assert stage.evaluate("document.documentElement.scrollWidth") <= width
        area = stage.locator("#stage .area").bounding_box()
        assert area["width"] > 0.6 * min(width, 1200)
        assert area["y"] < top and area["y"] + area["height"] < height
        stage.wait_for_function(f"({WORDS_BEFORE})() <= 55")  # words of progress pass
    stage.set_viewport_size({"width": 1280, "height": 800})
    stage.wait_for_timeout(500)
    assert stage.evaluate("document.documentElement.scrollHeight") <= 1800
