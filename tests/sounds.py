"""Sounds that tests make: tones and noise, written through libsndfile and libav."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import soundfile

from softmoa.data.audio import SAMPLE_RATE

SOUNDFILE_FORMATS = {
    "wav-u8": dict(format="WAV", subtype="PCM_U8"),
    "wav-16": dict(format="WAV", subtype="PCM_16"),
    "wav-24": dict(format="WAV", subtype="PCM_24"),
    "wav-32": dict(format="WAV", subtype="PCM_32"),
    "wav-float": dict(format="WAV", subtype="FLOAT"),
    "flac": dict(format="FLAC", subtype="PCM_16"),
    "vorbis": dict(format="OGG", subtype="VORBIS"),
    "opus": dict(format="OGG", subtype="OPUS"),
    "mp3": dict(format="MP3", subtype="MPEG_LAYER_III"),
}
LIBAV_FORMATS = {
    "m4a": dict(codec="aac", format="ipod"),
    "aac": dict(codec="aac", format="adts"),
    "webm": dict(codec="libopus", format="webm"),
}


def tone(hz: float, rate: int = SAMPLE_RATE, seconds: float = 1.0, peak: float = 0.5) -> np.ndarray:
    return peak * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def noise(samples: int, peak: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-peak, peak, samples)


def wav(samples: np.ndarray, rate: int = SAMPLE_RATE) -> bytes:
    """(samples,) as the bytes of a file of 16 bits."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE, **form) -> Path:
    """(samples,) or (samples, channels) through libsndfile, as WAV unless told otherwise."""
    soundfile.write(path, samples, rate, **({"format": "WAV"} | form))
    return path


def packets(container, samples: np.ndarray, rate: int, layout: str, codec: str) -> Iterator:
    """(channels, samples) -> encoded packets of a new stream of an open libav container."""
    stream = container.add_stream(codec, rate=rate, layout=layout)
    stream.bit_rate = 16_000 if len(samples) == 1 else 256_000
    packed = samples.astype(np.float32).T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate, frame.pts = rate, 0
    size = 1024 if codec == "aac" else rate // 50
    form = stream.codec_context.format.name
    resampler = av.AudioResampler(format=form, layout=layout, rate=rate, frame_size=size)
    for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
        yield from stream.encode(piece)


def write_libav(
    path: Path, samples: np.ndarray, rate: int, codec: str, format: str, layout: str = "mono"
) -> Path:
    """(channels, samples) through libav."""
    with av.open(str(path), "w", format=format) as container:
        for packet in packets(container, samples, rate, layout, codec):
            container.mux(packet)
    return path


def write_hour(
    path: Path, rate: int, codec: str, format: str, seconds: float = 3600.0, **options: str
) -> Path:
    """A long silent file in little time: one encoded packet, over and over."""
    with av.open(str(path), "w", format=format, options=options) as container:
        packet = list(packets(container, np.zeros((1, 2 * rate)), rate, "mono", codec))[5]
        content, step = bytes(packet), packet.duration
        for i in range(math.ceil(seconds / (step * packet.time_base))):
            copy = av.Packet(content)
            copy.stream, copy.time_base, copy.duration = packet.stream, packet.time_base, step
            copy.pts = copy.dts = i * step
            container.mux(copy)
    return path


def write_film(path: Path, side: int, sound: np.ndarray | None = None) -> Path:
    """One picture, and (samples,) at 16 kHz if given."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        picture = av.VideoFrame(side, side, "yuv420p")
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        film = stream.encode(picture) + stream.encode(None)
        if sound is not None:
            film += list(packets(container, sound[None], SAMPLE_RATE, "mono", "aac"))
        container.mux(film)
    return path
