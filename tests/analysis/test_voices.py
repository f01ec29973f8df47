"""Words of speech synthesisers: which they are, and that every voice says them."""

import shutil

import numpy as np
import pytest

from analysis.pretraining import voices
from softmoa.data.audio import SAMPLE_RATE

LIKE_DIGITS = "zero oh one won two to too three four for fore five six seven eight ate nine ten"
RECORDED = "open close file print speech speaker signal project alexa computer jarvis"
PROGRAMS = ("espeak-ng", "flite", "festival")


def test_no_word_is_a_digit_or_one_that_recordings_say():
    words = set(voices.VOCABULARY)
    assert len(words) == len(voices.VOCABULARY) > 500
    assert words.isdisjoint(LIKE_DIGITS.split()) and words.isdisjoint(RECORDED.split())


@pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason="needs espeak-ng, flite and festival"
)
def test_every_voice_says_a_word_in_its_own_way(monkeypatch):
    monkeypatch.setattr(voices, "VOCABULARY", ["water", "banana"])
    takes = voices.say_all("water")
    takes += [take for voice in voices.FESTIVAL for take in voices.festival_says(voice)]
    said = [samples for path, _, samples in takes if path.startswith("water/")]
    assert len(said) == sum(voices.TAKES.values())
    assert all(0.15 < len(samples) / SAMPLE_RATE < 3 for samples in said)
    assert all(np.sqrt(np.mean(samples**2)) > 0.01 for samples in said)
    # A voice of festival may say it twice alike; `analysis.pretraining.corpus` keeps one of the
    # two.
    assert len({samples.tobytes() for samples in said}) >= len(said) - len(voices.FESTIVAL)
