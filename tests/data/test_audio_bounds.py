"""Whatever comes, `load` refuses it or gives a usable sound, in bounded memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from loading import assert_usable, loads_or_refuses, refusal
from sounds import LIBAV_FORMATS, noise, write_film, write_hour, write_libav

from softmoa.data import decode
from softmoa.data.audio import SAMPLE_RATE, load

# Bounds

MEASURE = """
import os, sys
import av
from softmoa.data.audio import load

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

for argument in sys.argv[1:]:
    path, seconds = argument.split("@")
    if not (child := os.fork()):  # the high-water mark of a child starts afresh
        before = peak()
        clip = load(path, float(seconds))
        print(peak() - before, len(clip.waveform), len(clip.notes), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_an_hour_costs_no_more_memory_than_30_s(tmp_path):
    """Peak resident memory of one load in a process of its own, of small files that unpack far."""

    def flac(name: str, rate: int, channels: int, seconds: int) -> Path:
        second = np.zeros((rate, channels), np.int16)
        form = dict(format="FLAC", compression_level=0)
        with soundfile.SoundFile(tmp_path / name, "w", rate, channels, **form) as sound:
            for _ in range(seconds):
                sound.write(second)
        return tmp_path / name

    pairs = {"flac": (flac("30.flac", 16_000, 1, 30), flac("hour.flac", 16_000, 1, 3600))}
    pairs["6 channels"] = flac("w30.flac", 192_000, 6, 30), flac("w60.flac", 192_000, 6, 60)
    for name, codec, form, options in [
        ("mp3", "libmp3lame", "mp3", {"write_xing": "0"}),
        ("ogg", "libopus", "ogg", {}),
        ("m4a", "aac", "ipod", {}),
        ("webm", "libopus", "webm", {}),
        ("aac", "aac", "adts", {}),
    ]:
        pairs[name] = tuple(
            write_hour(tmp_path / f"{seconds}.{name}", 16_000, codec, form, seconds, **options)
            for seconds in (30, 3600)
        )
    silence = np.zeros(31 * SAMPLE_RATE)
    pairs["film"] = tuple(write_film(tmp_path / f"{n}.mp4", n, silence) for n in (64, 4080))
    assert max(path.stat().st_size for pair in pairs.values() for path in pair) < 8e6

    runs = [f"{path}@30" for pair in pairs.values() for path in pair]
    control = f"{pairs['flac'][1]}@300"
    lines = subprocess.run(
        [sys.executable, "-c", MEASURE, *runs, control], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    costs = np.array([line.split() for line in lines], int)
    costs, control_cost = costs[:-1].reshape(len(pairs), 2, 3), costs[-1, 0]
    for name, (short, hour) in zip(pairs, costs, strict=True):
        assert short[1] == pytest.approx(30 * SAMPLE_RATE, abs=SAMPLE_RATE), name
        assert hour[1] == 30 * SAMPLE_RATE, name
        assert hour[2] == 2, f"{name}: silent, and cut to 30 s"
        assert hour[0] < short[0] + 8000, f"{name}: {short[0]} kB against {hour[0]} kB"
    assert control_cost > 30_000, "five minutes unbounded: the measurement would show a leak"


def test_a_packet_that_claims_to_unpack_far_is_refused(tmp_path, monkeypatch):
    """The same limit, made small: libav's own is 2**31."""
    path = write_libav(tmp_path / "sound", noise(8000)[None], 16_000, **LIBAV_FORMATS["m4a"])
    assert load(path).notes == ()
    monkeypatch.setattr(decode, "_LIBAV_MAX_SAMPLES", 1000)
    refusal(path)


# Any input at all


NUMBERS = ["i1", "i2", "i4", "u1", "f4", "f8"]


@settings(max_examples=150)
@given(
    rate=st.integers(4000, 192_000) | st.integers(-1, 10**6) | st.floats(),
    samples=st.sampled_from(NUMBERS).flatmap(
        lambda kind: st_numpy.arrays(kind, st_numpy.array_shapes(max_dims=2, max_side=20))
    ),
)
def test_any_array_loads_or_is_refused(rate, samples):
    loads_or_refuses((rate, samples))


@settings(max_examples=60)
@given(
    rate=st.sampled_from([4000, 16_000, 44_100, 192_000]),
    samples=st.sampled_from(NUMBERS).flatmap(
        lambda kind: st_numpy.arrays(
            kind,
            st.tuples(st.integers(1, 100), st.integers(1, 6)),
            # Finite numbers of any size, of which a sound can always be made.
            elements=st_numpy.from_dtype(np.dtype(kind), allow_nan=False, allow_infinity=False),
        )
    ),
)
def test_any_array_of_finite_numbers_loads(rate, samples):
    assert_usable(load((rate, samples)))
