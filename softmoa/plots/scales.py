"""Numbers to places and colours: ticks, the mel axis, grey levels, palettes, tiny PNGs."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from PIL import Image
from torch import Tensor

from softmoa.audio import AUDIOSET_STD, FRAME_SHIFT, SAMPLE_RATE
from softmoa.contribution import mel_edge_hz

Array = np.ndarray | Tensor

FRAMES_PER_SECOND = SAMPLE_RATE // FRAME_SHIFT
DB_PER_UNIT = 2 * AUDIOSET_STD * 10 / math.log(10)  # of the normalised natural log-mel
DB_SHOWN = 80.0  # below the loudest point; anything quieter is drawn as the quietest
TICK_HERTZ = (250, 500, 1000, 2000, 4000, 8000)  # on a mel axis lower ones would touch

Palette = np.ndarray  # (levels, 3) uint8, from lowest to highest


def array(values: Array) -> np.ndarray:
    """Tensor or array -> float64 array without NaN or infinity."""
    if isinstance(values, Tensor):
        values = values.detach().float().cpu().numpy()
    return np.nan_to_num(np.asarray(values, np.float64))


def ticks(end: float, most: int = 6) -> list[float]:
    """At most `most` + 1 neat values from 0 to `end`, with steps of 1, 2 or 5 times 10^k."""
    if end <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(end / most))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= end / most * (1 - 1e-9))
    return [round(k * step, 10) for k in range(math.floor(end / step + 1e-9) + 1)]


def neat_limit(peak: float) -> float:
    """The next 1, 2 or 5 times 10^k from `peak` on; 1 for silence."""
    if peak <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(peak))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= peak * (1 - 1e-6))


def mel_place(hertz: float, mels: int = 128) -> float:
    """Height of a frequency on the mel axis, 0 at the bottom edge of bin 0, 1 at the top."""
    bottom, top, at = (
        math.log1p(f / 700) for f in (mel_edge_hz(0, mels), mel_edge_hz(mels, mels), hertz)
    )
    return (at - bottom) / (top - bottom)


def hertz_ticks(mels: int = 128) -> list[tuple[str, float]]:
    """(label, height) of the frequency axis; 8 kHz lies half a bin above the top edge."""
    return [
        (f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz", min(mel_place(hz, mels), 1.0))
        for hz in TICK_HERTZ
    ]


def mel_range(mel: np.ndarray, real_frames: int | None = None) -> tuple[float, float]:
    """Lowest and highest value drawn of (frames, mels): the loudest point of the real frames and
    at most DB_SHOWN below it."""
    real = mel[:real_frames]
    high = float(real.max())
    return max(float(real.min()), high - DB_SHOWN / DB_PER_UNIT), high


def levels(values: np.ndarray, low: float, high: float, count: int) -> np.ndarray:
    """Values to whole levels 0 ... count - 1; all 0 where the range is empty."""
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = np.clip((values - low) / (high - low), 0, 1)
    return np.rint(scaled * (count - 1)).astype(np.uint8)


def picture(mel: np.ndarray, count: int, real_frames: int | None = None) -> np.ndarray:
    """(frames, mels) -> levels (mels, frames) as an image lies: highest bin in the first row."""
    return levels(mel, *mel_range(mel, real_frames), count).T[::-1]


def shrunk(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image of levels, averaged to at most so many pixels."""
    rows, columns = image.shape
    size = (min(width, columns), min(height, rows))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def scale_top(values: np.ndarray, vmin: float = 0.0, vmax: float | None = None) -> float:
    """Upper end of a colour scale, above `vmin`. Unless it is given, all but the highest 0.5 % of
    the values fit on it, so that one extreme patch does not hide the rest; none is over 4 times
    off it."""
    if vmax is None:
        vmax = max(float(np.quantile(values, 0.995)), float(values.max()) / 4)
    return vmax if vmax > vmin else vmin + 1


def png(image: np.ndarray, palette: Palette, alpha: np.ndarray | None = None) -> str:
    """Levels (rows, columns) -> data URI of a palette PNG; alpha (levels,) uint8."""
    drawn = Image.fromarray(np.ascontiguousarray(image, np.uint8), "L")
    drawn.putpalette(palette.astype(np.uint8).tobytes())
    options = {} if alpha is None else {"transparency": alpha.astype(np.uint8).tobytes()}
    file = io.BytesIO()
    drawn.save(file, "PNG", **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def ramp(stops: tuple[str, ...], count: int) -> Palette:
    """`count` colours along hex stops at equal distances."""
    points = np.array([_rgb(stop) for stop in stops], np.float64)
    at = np.linspace(0, len(stops) - 1, count)
    channels = [np.interp(at, np.arange(len(stops)), channel) for channel in points.T]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


# Loudness: dark is quiet and bright is loud, in both themes. Stops of matplotlib's magma.
MAGMA_STOPS = ("#000004", "#180f3d", "#440f76", "#721f81", "#9e2f7f")
MAGMA_STOPS += ("#cd4071", "#f1605d", "#fd9668", "#feca8d", "#fcfdbf")
GREY_STOPS = ("#0e0e0e", "#b8b8b8")
MAGMA = ramp(MAGMA_STOPS, 64)
GREYS = ramp(GREY_STOPS, 16)

# Weights: one hue over the greys, by opacity.
TINT = "#ff8c1a"
TINT_OPACITY = 0.9  # of the highest value, so that the sound still shows through
TINTS = ramp((TINT, TINT), 64)
TINT_ALPHA = np.rint(np.linspace(0, 255 * TINT_OPACITY, 64))

# Experts: Okabe and Ito's colours, safe for colour-blind readers, neighbours unlike in lightness;
# then the same mixed with white. From the 17th on they repeat, and the labels tell them apart.
_EXPERTS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
_EXPERTS += ("#56b4e9", "#d55e00", "#f0e442", "#8c8c8c")


def expert_colour(expert: int) -> tuple[str, str]:
    """(colour, black or white for text on it) of an expert, the same in every figure."""
    rgb = np.array(_rgb(_EXPERTS[expert % 8]))
    if expert // 8 % 2:
        rgb = (rgb + 255) // 2
    return "#{:02x}{:02x}{:02x}".format(*rgb), ink(rgb)


def ink(rgb: np.ndarray) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2) with a colour (3,) of 0 to 255."""
    part = rgb / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return "#000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#fff"
