"""The tasks `tones` and `initials`: syllables of one speaker.

They are split by base syllable, so that no syllable is in two splits in another tone. As recorded,
third tones are exactly 30 ms longer than the others and every clip swells up and fades out over its
last 40 ms, so length alone would tell the third tone: clips are cut before the fade to a whole
multiple of 50 ms, faded and levelled alike, and padded to one length.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from analysis.pretraining.clips import SEED, Clip, fade_out, unpack
from softmoa.data.audio import SAMPLE_RATE

VOICE = "gcin-voice"
SPEAKER = "5.ogg"  # the speaker whose recordings are CC-BY; the other one's are GPL
TONES = ("level", "rising", "low", "falling")
SYLLABLES = {"train": 110, "valid": 30, "test": 40}  # of each tone
CONSONANTS = {"train": 28, "valid": 8, "test": 12}  # of each initial, at most
NO_INITIAL = "none"
CLIP_SAMPLES = 5760  # 0.36 s: two columns of patches
STEP = 0.05  # seconds: voices last a whole multiple of it
FADED = 0.04  # seconds at the end of the recordings
SYLLABLE_RMS = 0.1
MIN_PEAK = 0.05  # of a recording; a few are nearly silent

INITIALS = dict(
    zip(
        "ㄅㄆㄇㄈㄉㄊㄋㄌㄍㄎㄏㄐㄑㄒㄓㄔㄕㄖㄗㄘㄙ",
        "b p m f d t n l g k h j q x zh ch sh r z c s".split(),
        strict=True,
    )
)
ALIKE = dict(
    zip("ㄚㄛㄜㄞㄟㄠㄡㄢㄣㄤㄥㄦ", "a o e ai ei ao ou an en ang eng er".split(), strict=True)
)  # finals that are spelled alike after an initial and alone
TWO_WAYS = """
ㄧ i yi, ㄧㄚ ia ya, ㄧㄝ ie ye, ㄧㄠ iao yao, ㄧㄡ iu you,
ㄧㄢ ian yan, ㄧㄣ in yin, ㄧㄤ iang yang, ㄧㄥ ing ying,
ㄨ u wu, ㄨㄚ ua wa, ㄨㄛ uo wo, ㄨㄞ uai wai, ㄨㄟ ui wei,
ㄨㄢ uan wan, ㄨㄣ un wen, ㄨㄤ uang wang, ㄨㄥ ong weng,
ㄩ u yu, ㄩㄝ ue yue, ㄩㄢ uan yuan, ㄩㄣ un yun, ㄩㄥ iong yong
"""  # finals: after an initial, alone
FINALS = {
    "": ("i", ""),
    **{final: (latin, latin) for final, latin in ALIKE.items()},
    **{final: (after, alone) for final, after, alone in map(str.split, TWO_WAYS.split(","))},
}


def pinyin(syllable: str) -> str:
    """A syllable in bopomofo without its tone, in Latin letters."""
    initial = syllable[0] if syllable[0] in INITIALS else ""
    after, alone = FINALS[syllable[len(initial) :]]
    return INITIALS[initial] + after if initial else alone


def recordings() -> dict[str, dict[int, Path]]:
    """Base syllable in Latin letters -> tone -> file, of the usable recordings of the speaker."""
    found: dict[str, dict[int, Path]] = {}
    for file in sorted(unpack(VOICE).glob(f"usr/share/gcin-voice/ogg/*/{SPEAKER}")):
        name = file.parent.name
        suffix = name[-1] if name[-1].isdigit() else ""
        tone = {"": 0, "2": 1, "3": 2, "4": 3}.get(suffix)  # "1" is the neutral tone: 11 clips
        if tone is not None and np.abs(soundfile.read(file)[0]).max() >= MIN_PEAK:
            found.setdefault(pinyin(name.removesuffix(suffix)), {})[tone] = file
    return found


def shares(bases: list[str], counts: dict[str, int], seed: str) -> Iterator[tuple[str, list[str]]]:
    """Deal base syllables out to the splits in proportion to their counts: (split, bases)."""
    bases = sorted(bases)
    random.Random(seed).shuffle(bases)
    total, dealt, start = sum(counts.values()), 0, 0
    for split, count in counts.items():
        dealt += count
        end = round(len(bases) * dealt / total)
        yield split, bases[start:end]
        start = end


def tones() -> Iterator[Clip]:
    found = recordings()
    for split, bases in shares(list(found), SYLLABLES, f"{SEED} tones"):
        for tone, label in enumerate(TONES):
            chosen = [base for base in bases if tone in found[base]][: SYLLABLES[split]]
            if len(chosen) < SYLLABLES[split]:
                raise SystemExit(f"{split} has {len(chosen)} syllables in the {label} tone")
            for base in sorted(chosen):
                yield spoken(base, tone, found[base][tone], split, label)


def initials() -> Iterator[Clip]:
    found = recordings()
    for label in (*INITIALS.values(), NO_INITIAL):
        own = [base for base in found if initial_of(base) == label]
        for split, bases in shares(own, CONSONANTS, f"{SEED} initials {label}"):
            clips = [(base, tone) for base in bases for tone in found[base]]
            random.Random(f"{SEED} {split} {label}").shuffle(clips)
            for base, tone in sorted(clips[: CONSONANTS[split]]):
                yield spoken(base, tone, found[base][tone], split, label)


def initial_of(base: str) -> str:
    """The consonant a syllable in Latin letters starts with; y and w only spell a vowel."""
    longest_first = sorted(INITIALS.values(), key=len, reverse=True)
    return next((letters for letters in longest_first if base.startswith(letters)), NO_INITIAL)


def spoken(base: str, tone: int, file: Path, split: str, label: str) -> Clip:
    return Clip(
        label,
        split,
        f"{base}{tone + 1}",
        base,
        VOICE,
        "CC-BY-3.0",
        f"ogg/{file.parent.name}/{SPEAKER}",
        syllable(*soundfile.read(file, dtype="float32")),
    )


def syllable(recording: np.ndarray, rate: int) -> np.ndarray:
    """The voice before its fade, in steps of 50 ms, levelled and padded to one length."""
    steps = int((len(recording) / rate - FADED + 1e-6) / STEP)
    voice = soxr.resample(recording[: round(steps * STEP * rate)], rate, SAMPLE_RATE)
    voice = fade_out(voice * SYLLABLE_RMS / np.sqrt(np.mean(voice**2)))
    voice /= max(np.abs(voice).max() / 0.95, 1)
    return np.pad(voice[:CLIP_SAMPLES], (0, max(CLIP_SAMPLES - len(voice), 0)))
