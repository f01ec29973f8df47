"""The recipe of the embedded tasks: spelling, dealing out, levelling, the bytes of a clip."""

import io

import numpy as np
import pytest
import soundfile

from analysis.pretraining import build_tasks
from analysis.pretraining.build_tasks import damaged, read_rows
from analysis.pretraining.clips import encode
from analysis.pretraining.instruments import programs, validation_programs
from analysis.pretraining.syllables import CLIP_SAMPLES, initial_of, pinyin, shares, syllable


@pytest.mark.parametrize("name", build_tasks.BUILDERS)
def test_the_clips_are_those_of_the_manifest(name):
    rows = read_rows(name)
    assert rows and not damaged(name, rows)


def test_pinyin_and_initials():
    spelled = {
        "ㄅㄚ": "ba",
        "ㄓ": "zhi",
        "ㄒㄩㄥ": "xiong",
        "ㄌㄧㄡ": "liu",
        "ㄩㄢ": "yuan",
        "ㄨ": "wu",
    }
    assert {zhuyin: pinyin(zhuyin) for zhuyin in spelled} == spelled
    assert [initial_of(base) for base in ("zhi", "zi", "wu", "er", "xiong")] == [
        "zh", "z", "none", "none", "x",
    ]  # fmt: skip


def test_validation_programs_share_no_recording():
    samples = {program: frozenset({program}) for program in range(128)}
    samples[0] = samples[1] = frozenset({0, 1})
    samples[80] = frozenset({38, 80})
    chosen = validation_programs(samples)
    assert not chosen & {0, 1, 38, 80}
    assert [len(chosen & set(programs(family))) for family in ("bass", "vocal")] == [2, 1]


def test_syllables_are_dealt_out_once_in_proportion():
    bases = [f"s{k}" for k in range(100)]
    dealt = dict(shares(bases, {"train": 6, "valid": 1, "test": 3}, "seed"))
    assert {split: len(part) for split, part in dealt.items()} == {
        "train": 60, "valid": 10, "test": 30,
    }  # fmt: skip
    assert sorted(sum(dealt.values(), [])) == sorted(bases)
    assert dealt == dict(shares(bases[::-1], {"train": 6, "valid": 1, "test": 3}, "seed"))


@pytest.mark.parametrize("short", [0.294, 0.344, 0.394])
def test_recordings_of_two_lengths_end_alike(short):
    """A third tone is 30 ms longer; nothing of that may be left."""

    def voiced(seconds: float) -> np.ndarray:
        return syllable(0.3 * np.ones(round(seconds * 44100), np.float32), 44100)

    assert len(voiced(short)) == CLIP_SAMPLES
    assert np.array_equal(voiced(short), voiced(short + 0.03))


def test_a_clip_is_always_the_same_bytes():
    tone = 0.5 * np.sin(np.arange(16000) * 0.1)
    data = encode(tone, 7)
    assert data == encode(tone, 7) and data != encode(tone, 8)
    samples, rate = soundfile.read(io.BytesIO(data))
    assert rate == 16000 and len(samples) == 16000
    assert np.sqrt(np.mean((samples - tone) ** 2)) < 0.02
