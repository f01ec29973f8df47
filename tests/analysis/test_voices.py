"""Words of speech synthesisers: which they are, and that every voice says them."""

from analysis.pretraining import voices

LIKE_DIGITS = "zero oh one won two to too three four for fore five six seven eight ate nine ten"
RECORDED = "open close file print speech speaker signal project alexa computer jarvis"


def test_no_word_is_a_digit_or_one_that_recordings_say():
    words = set(voices.VOCABULARY)
    assert len(words) == len(voices.VOCABULARY) > 500
    assert words.isdisjoint(LIKE_DIGITS.split()) and words.isdisjoint(RECORDED.split())
