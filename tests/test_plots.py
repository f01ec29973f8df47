"""Figures against known answers: places, pictures, widths, sizes, escaping."""

import base64
import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from softmoa import plots
from softmoa.ast import ASTConfig
from softmoa.contribution import PatchGrid, mel_edge_hz
from softmoa.plots import scales

SMALL = PatchGrid.of(ASTConfig(stride_frequency=16, stride_time=16), 496)  # 8 x 31
BASE = PatchGrid.of(ASTConfig(), 1016)  # 12 x 101, overlapping
NOISE = np.random.default_rng(0).normal(size=(1016, 128)).astype(np.float32)
HOSTILE = "</b><script>alert(\"x\")</script>' onclick='alert(1)' &amp; $\\frac{$"


def parse(html):
    return ElementTree.fromstring(html)


def having(html, attribute):
    return [e for e in parse(html).iter() if e.get(attribute) is not None]


def pictures(html):
    """Decoded PNGs in order, as palette indices, with their palettes."""
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]
    return [(np.asarray(image), image) for image in images]


def percent(element, name):
    return float(re.search(rf"(?:^|;){name}:(-?[\d.]+)%", element.get("style"))[1])


def overlay(values, grid=SMALL, mel=None, **options):
    mel = NOISE[:498] if mel is None else mel
    return plots.overlay(mel, values, grid, **{"title": "t", "unit": "weight", **options})


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (5.0, [0, 1, 2, 3, 4, 5]),
        (4.98, [0, 1, 2, 3, 4]),
        (10.16, [0, 2, 4, 6, 8, 10]),
        (30, [0, 5, 10, 15, 20, 25, 30]),
        (0.3, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        (0, [0]),
    ],
)
def test_seconds_have_neat_ticks(end, expected):
    assert scales.ticks(end) == pytest.approx(expected)


def test_hertz_ticks_follow_the_mel_formula():
    assert scales.mel_place(mel_edge_hz(0)) == 0
    assert scales.mel_place(mel_edge_hz(40)) == pytest.approx(40 / 128)  # bins are equal in mel
    low, high, at = (1127 * math.log1p(hz / 700) for hz in (20, 8000, 1000))
    edge = (at - low) / (high - low) * 129 - 0.5
    assert dict(scales.hertz_ticks())["1 kHz"] == pytest.approx(edge / 128, abs=1e-6)
    labels = {
        e.text: percent(e, "bottom")
        for e in parse(plots.spectrogram(NOISE)).iter("span")
        if "bottom" in e.get("style", "")
    }
    assert labels["1 kHz"] == pytest.approx(100 * edge / 128, abs=0.01)
    assert sorted(labels.values()) == list(labels.values())


def test_spectrogram_png_gives_back_the_array_with_low_bands_at_the_bottom():
    ramp = np.tile(np.linspace(-0.5, 0.5, 128, dtype=np.float32), (50, 1))  # loud on top
    ramp[7, 3] = 0.5  # frame 7, bin 3
    ((image, file),) = pictures(plots.spectrogram(torch.from_numpy(ramp)))
    assert image.shape == (128, 50)
    expected = np.rint((ramp.T[::-1] + 0.5) * 63)
    assert np.array_equal(image, expected)
    assert image[127 - 3, 7] == 63 and image[127, 0] == 0
    assert file.getpalette()[:192] == scales.MAGMA.ravel().tolist()


def test_levels_are_stated_in_db():
    mel = np.zeros((50, 128), np.float32)
    mel[0, 0] = 20 / scales.DB_PER_UNIT
    assert "\u221220 dB" in plots.spectrogram(mel)
    assert scales.DB_PER_UNIT == pytest.approx(2 * 4.5689974 * 10 * math.log10(math.e))
    mel[0, 1] = -10.0
    assert "\u221280 dB" in plots.spectrogram(mel)


@pytest.mark.parametrize("grid", [SMALL, BASE])
def test_overlay_cells_are_the_tokens_of_the_grid(grid):
    values = torch.rand(grid.bands, grid.columns)
    html = overlay(values, grid, NOISE, special=[0.25, 0.5], selected=grid.token(1, 4))
    cells = having(html, "data-token")
    assert sorted(int(c.get("data-token")) for c in cells) == list(range(grid.tokens))
    assert "0.25" in "".join(cells[-2].itertext()) and "0.5" in "".join(cells[-1].itertext())
    # Cells fill their grid row by row: the first row is the highest band.
    for index in (0, grid.columns, len(cells) - 3):
        band, column = grid.bands - 1 - index // grid.columns, index % grid.columns
        assert int(cells[index].get("data-token")) == grid.token(band, column)
        (start, stop), (low, high) = grid.seconds(column), grid.hertz(band)
        assert cells[index].get("title") == (
            f"{start:g}\u2013{stop:g} s, {low:.0f}\u2013{high:.0f} Hz: {values[band, column]:.3g}"
        )
    chosen = [c for c in cells if c.get("class") == "moa-on"]
    assert [int(c.get("data-token")) for c in chosen] == [grid.token(1, 4)]


def test_overlay_is_strongest_where_the_value_is_largest():
    values = np.full((8, 31), 0.1)
    values[2, 20] = 0.4
    html = overlay(values, vmax=0.4)
    tint, file = pictures(html)[1]
    assert tint.shape == (8, 31)
    assert np.unravel_index(tint.argmax(), tint.shape) == (8 - 1 - 2, 20)
    alpha = np.asarray(file.convert("RGBA"))[..., 3] / 255
    assert alpha[5, 20] == pytest.approx(scales.TINT_OPACITY, abs=0.01)
    assert alpha[0, 0] == pytest.approx(scales.TINT_OPACITY / 4, abs=0.01)
    start, stop = SMALL.seconds(20)
    assert f"largest 0.4 at {start:g}\u2013{stop:g} s" in html


def test_cells_of_overlapping_patches_lie_in_the_middle_of_each():
    html = overlay(np.eye(12, 101), BASE, NOISE)
    cells = next(e for e in parse(html).iter("div") if e.get("class") == "moa-cells")
    assert percent(cells, "left") == pytest.approx(100 * 3 / 1016, abs=1e-3)
    assert percent(cells, "width") == pytest.approx(100 * 1010 / 1016, abs=1e-3)
    assert percent(cells, "top") == pytest.approx(100 * 5 / 128, abs=1e-3)
    assert percent(cells, "height") == pytest.approx(100 * 120 / 128, abs=1e-3)


def test_scale_shows_what_lies_off_it():
    values = np.linspace(0, 1, 248).reshape(8, 31)
    values[0, 0] = 10
    assert scales.scale_top(values) == 2.5
    assert "\u22652.5" in overlay(values)
    assert "\u2265" not in overlay(values, vmax=10.0)
    assert "mark: uniform, 0.5" in overlay(values, uniform=0.5)
    assert scales.scale_top(np.zeros((8, 31))) == 1


@pytest.mark.parametrize(("n", "slots"), [(1, 1), (7, 1), (16, 4)])
def test_experts_are_buttons_over_one_spectrogram(n, slots):
    maps = torch.rand(n * slots, 8, 31)
    titles = [f"E{k}" for k in range(n * slots)]
    html = plots.experts(
        NOISE[:498], maps, SMALL, titles=titles, title="t", unit="u", slots=slots, selected=n - 1
    )
    buttons = list(parse(html).iter("button"))
    places = [(int(b.get("data-expert")), int(b.get("data-slot"))) for b in buttons]
    assert places == [(j, k) for j in range(n) for k in range(slots)]
    assert [b.get("aria-pressed") for b in buttons].index("true") == n - 1
    assert len(pictures(html)) == 1 + n * slots


@pytest.mark.parametrize("n", [1, 7, 64])
def test_stacked_bars_are_as_wide_as_the_shares(n):
    values = torch.rand(3, n).softmax(dim=1)
    html = plots.contribution_bars(
        values, overall=values.mean(0), layers=["1", "2", "3"], title="t", unit="u", selected=(1, 0)
    )
    segments = having(html, "data-layer")
    drawn = {
        (s.get("data-layer"), int(s.get("data-expert"))): percent(s, "width") for s in segments
    }
    assert len(drawn) == len(segments) == 4 * n
    for j in range(n):
        assert drawn["2", j] == pytest.approx(100 * values[2, j].item(), abs=1e-3)
        assert drawn["all", j] == pytest.approx(100 * values[:, j].mean().item(), abs=1e-3)
    chosen = [s for s in segments if "moa-on" in s.get("class")]
    assert [(s.get("data-layer"), s.get("data-expert")) for s in chosen] == [("1", "0")]


def test_bars_of_experts_that_add_nothing_are_empty():
    shares = np.array([[0.25, 0.75], [0.0, 0.0]])
    html = plots.contribution_bars(
        shares, overall=shares[0], layers=["1", "2"], title="t", unit="u", selected=(1, 0)
    )
    assert {s.get("data-layer") for s in having(html, "data-layer")} == {"all", "0"}
    assert html.count("add nothing yet") == 1
    nothing = 0 * shares
    html = plots.contribution_bars(
        nothing, overall=nothing[0], layers=["1", "2"], title="t", unit="u"
    )
    assert not having(html, "data-layer") and not having(html, "data-walk")
    assert html.count("moa-empty") == 3 and html.count("add nothing yet") == 1
    full = plots.contribution_bars(shares[:1], overall=shares[0], layers=["1"], title="t", unit="u")
    assert "moa-empty" not in full and "add nothing" not in full
    assert "NaN" not in plots.expert_bars({"share": shares[0], "added": shares[1]}, title="t")


def test_plain_bars_share_one_scale_with_the_equal_share():
    html = plots.expert_bars({"a": [0.5, 0.3, 0.2], "b": [0.1, 0.1, 0.8]}, title="t")
    rows = having(html, "data-expert")
    assert len(rows) == 3
    widths = [[percent(u, "width") for u in row.iter("u")] for row in rows]
    unit = widths[0][0] / 0.5
    assert np.array(widths) / unit == pytest.approx(
        np.array([[0.5, 0.1], [0.3, 0.1], [0.2, 0.8]]), abs=1e-4
    )
    equal = float(re.search(r"--u:([\d.]+)%", html)[1])
    assert equal / unit == pytest.approx(1 / 3, abs=1e-4)


def test_neighbouring_experts_differ_and_their_text_is_readable():
    def luminance(colour):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    colours = [scales.expert_colour(j) for j in range(16)]
    assert len(set(colours)) == 16
    for colour, text in colours:
        ink, ground = (1.0 if text == "#fff" else 0.0), luminance(colour)
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5


def test_waveform_envelope():
    html = plots.waveform(torch.tensor([0.0, 0.2, -0.1, 0.0] * 4000), 16_000)
    polygon = next(e for e in parse(html).iter() if e.tag == "polygon")
    points = [tuple(map(float, p.split(","))) for p in polygon.get("points").split()]
    assert len(points) == 1200
    assert {y for _, y in points[:600]} == {0.0}  # 0.2 of 0.2 is the top of 200 units
    assert {y for _, y in points[600:]} == {150.0}
    assert "data-seconds='1'" in html and ">0.2<" in html


def test_payloads():
    rain = 0.25 * NOISE - np.linspace(0, 1, 128)  # noise over 80 dB: the worst case of a PNG
    values = torch.rand(7, 12, 101) * 1e-3
    options = {"title": "t", "unit": "weight"}
    big = plots.overlay(rain, values[0], BASE, special=[0.1, 0.2], **options)
    assert len(big.encode()) < 110_000
    names = list("abcdefg")
    assert len(plots.experts(rain, values, BASE, titles=names, **options).encode()) < 60_000
    few = values[:, :8, :31]
    assert len(overlay(few[0], mel=rain[:498]).encode()) < 50_000
    assert len(plots.experts(rain[:498], few, SMALL, titles=names, **options).encode()) < 35_000
    assert len(plots.spectrogram(rain).encode()) < 140_000


def test_hostile_names_stay_text():
    values, shares = np.ones((2, 8, 31)), np.full((1, 2), 0.5)
    for html in (
        overlay(values[0], title=HOSTILE, unit=HOSTILE),
        plots.experts(NOISE[:498], values, SMALL, titles=[HOSTILE] * 2, title=HOSTILE,
                      unit=HOSTILE),
        plots.contribution_bars(shares, overall=shares[0], layers=[HOSTILE], title=HOSTILE,
                                unit=HOSTILE),
        plots.expert_bars({HOSTILE: shares[0]}, title=HOSTILE),
    ):  # fmt: skip
        elements = list(parse(html).iter())
        assert not [e for e in elements if e.tag == "script" or e.get("onclick")]
        assert HOSTILE in "".join(parse(html).itertext())


def test_silence_zeros_and_padding():
    silent = np.full((498, 128), -1.3, np.float32)
    assert not pictures(plots.spectrogram(silent))[0][0].any()
    assert "the same level everywhere" in plots.spectrogram(silent)
    assert not pictures(overlay(np.zeros((8, 31)), mel=silent))[1][0].any()
    parse(plots.waveform(np.zeros(16_000), 16_000))
    parse(plots.waveform(np.zeros(0), 16_000))
    # Padding is hatched and does not decide what is loud.
    padded = np.concatenate([NOISE[:249], np.full((249, 128), 50, np.float32)])
    html = plots.spectrogram(padded, real_frames=249)
    hatched = next(e for e in parse(html).iter() if e.get("class") == "moa-pad")
    assert percent(hatched, "left") == 50
    assert np.array_equal(
        pictures(html)[0][0][:, :249], pictures(plots.spectrogram(NOISE[:249]))[0][0]
    )
    assert "moa-pad'" not in plots.spectrogram(padded, real_frames=498)
    parse(overlay(np.ones((8, 31)), mel=padded, real_frames=249))


@pytest.mark.parametrize(("n", "real_frames"), [(1, None), (7, 120)])
def test_report_is_a_png(n, real_frames):
    shares = torch.rand(2, n).softmax(dim=1)
    shares[1] = 0  # experts that add nothing
    data = plots.report_png(
        np.sin(np.arange(16_000)), 16_000, NOISE[:160], np.zeros((n, 8, 10)),
        PatchGrid(8, 10), titles=["E$1"] * n, unit="weight", contribution=shares,
        overall=shares.mean(0), layers=["Layer 1", "Layer 2"], heading=HOSTILE,
        real_frames=real_frames, dpi=40,
    )  # fmt: skip
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG" and image.width == 400
    assert np.asarray(image.convert("L")).std() > 20
