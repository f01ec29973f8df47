"""Build the embedded tasks, assets/tasks: `instruments`, `tones` and `initials`.

    python -m analysis.build_tasks            build what differs from the manifests
    python -m analysis.build_tasks --check    build in a temporary folder and compare only

Sources are three Debian packages, downloaded once into $SOFTMOA_CORPUS/debs and read, never
installed. Each task is a folder per split and class with a manifest.csv: path, label, split,
group (what is never shared by two splits), source, licence, what was played or said, seconds and
sha256. The same packages and the same libsndfile give the same bytes.

`instruments`: notes of 11 families of General MIDI programs, the families of NSynth (Engel et al.
2017). FluidR3 trains and validates, TimGM6mb tests. The validation programs share no recording
with a training program, which the soundfont's own tables tell: notes of the same program, or of
its neighbour that is made of the same recordings, would be nearly copies. A test program found to
hold a recording of FluidR3 is left out (analysis/compare_soundfonts.py).

`tones` and `initials`: syllables of one speaker, split by base syllable, so that no syllable is in
two splits in another tone. As recorded, third tones are exactly 30 ms longer than the others and
every clip swells up and fades out over its last 40 ms, so length alone would tell the third tone:
clips are cut before the fade to a whole multiple of 50 ms, faded and levelled alike, and padded to
one length.
"""

from __future__ import annotations

import csv
import hashlib
import io
import random
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import soundfile
import soxr
import typer

from analysis.corpus import deb_of, download, folder
from analysis.packages import Package
from analysis.soundfont import SoundFont
from softmoa.audio import SAMPLE_RATE
from softmoa.tasks import EMBEDDED

SEED = 0
COMPRESSION = 0.9  # of libsndfile's Opus: about 31 kbit/s, closer to the original than Vorbis
FADE = 320  # samples, 20 ms, at the end of every clip
LIMIT_BYTES = 10 * 10**6


@dataclass(frozen=True)
class Clip:
    """One clip and its row in the manifest."""

    label: str
    split: str
    name: str
    group: str
    source: str
    licence: str
    detail: str
    samples: np.ndarray

    @property
    def path(self) -> str:
        return f"{self.split}/{self.label}/{self.name}.ogg"


@dataclass(frozen=True)
class Row:
    path: str
    label: str
    split: str
    group: str
    source: str
    licence: str
    detail: str
    seconds: str
    sha256: str


# --- instruments ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bank:
    name: str
    package: str
    file: str
    licence: str


FLUID = Bank("fluid", "fluid-soundfont-gm", "usr/share/sounds/sf2/FluidR3_GM.sf2", "MIT")
TIM = Bank("timgm", "timgm6mb-soundfont", "usr/share/sounds/sf2/TimGM6mb.sf2", "GPL-2")

# Family: its first program (from 0) and the names of the General MIDI standard from there on.
FAMILIES = {
    "keyboard": (
        0,
        "grand-piano bright-piano electric-grand honky-tonk e-piano-1 e-piano-2 harpsichord "
        "clavinet",
    ),
    "mallet": (8, "celesta glockenspiel music-box vibraphone marimba xylophone tubular-bells"),
    "organ": (
        16,
        "drawbar-organ percussive-organ rock-organ church-organ reed-organ accordion harmonica "
        "bandoneon",
    ),
    "guitar": (
        24,
        "nylon-guitar steel-guitar jazz-guitar clean-guitar muted-guitar overdriven-guitar "
        "distortion-guitar guitar-harmonics",
    ),
    "bass": (
        32,
        "acoustic-bass fingered-bass picked-bass fretless-bass slap-bass-1 slap-bass-2 "
        "synth-bass-1 synth-bass-2",
    ),
    "string": (
        40,
        "violin viola cello contrabass tremolo-strings pizzicato-strings - - strings-1 strings-2",
    ),
    "vocal": (52, "choir-aahs voice-oohs synth-voice"),
    "brass": (
        56,
        "trumpet trombone tuba muted-trumpet french-horn brass-section synth-brass-1 synth-brass-2",
    ),
    "reed": (
        64,
        "soprano-sax alto-sax tenor-sax baritone-sax oboe english-horn bassoon clarinet",
    ),
    "flute": (72, "piccolo flute recorder pan-flute bottle shakuhachi whistle ocarina"),
    "synth_lead": (
        80,
        "square-lead sawtooth-lead calliope-lead chiff-lead charang voice-lead fifths-lead "
        "bass-and-lead",
    ),
}
NOTES = {"train": 36, "valid": 10, "test": 24}  # of each family
LOWEST = {"bass": 28, "brass": 48, "flute": 60}  # MIDI key; 40 for the other families
LOWEST_OF_OTHERS = 40
PITCHES = 36  # semitones from the lowest; no pitch occurs twice in a family and split
VALID_PROGRAMS = 2  # held out of each family; 1 of the three vocal ones
HELD, RELEASED = 1.0, 0.25  # seconds
PEAK = 0.5
MIN_NOTE_RMS = 1e-4  # before levelling; below it the program has no sound at that pitch

# Programs of TimGM6mb that hold a recording of FluidR3.
SHARED = (52,)


def programs(family: str) -> dict[int, str]:
    first, names = FAMILIES[family]
    return {first + i: name for i, name in enumerate(names.split()) if name != "-"}


def validation_programs(samples: dict[int, frozenset[int]]) -> set[int]:
    """For each family, a seeded draw of the programs that share no recording with another."""
    used = [program for family in FAMILIES for program in programs(family)]
    chosen = set()
    for family in FAMILIES:
        own = programs(family)
        alone = [
            program
            for program in own
            if not any(samples[program] & samples[other] for other in used if other != program)
        ]
        random.Random(f"{SEED} valid {family}").shuffle(alone)
        chosen |= set(alone[: VALID_PROGRAMS if len(own) > 3 else 1])
    return chosen


def instruments() -> Iterator[Clip]:
    fluid, tim = (SoundFont(unpack(bank.package) / bank.file) for bank in (FLUID, TIM))
    held_out = validation_programs(fluid.samples)
    for family in FAMILIES:
        own = set(programs(family))
        yield from family_notes(fluid, FLUID, family, "train", own - held_out)
        yield from family_notes(fluid, FLUID, family, "valid", own & held_out)
        yield from family_notes(tim, TIM, family, "test", own - set(SHARED))


def family_notes(
    font: SoundFont, bank: Bank, family: str, split: str, chosen: set[int]
) -> list[Clip]:
    """Notes of the chosen programs in turn, each at a pitch of its own."""
    draw = random.Random(f"{SEED} {split} {family}")
    lowest = LOWEST.get(family, LOWEST_OF_OTHERS)
    pitches = list(range(lowest, lowest + PITCHES))
    draw.shuffle(pitches)
    names = programs(family)
    clips = []
    for program in cycle(sorted(chosen)):
        if len(clips) == NOTES[split]:
            break
        velocity = draw.randint(50, 119)
        for pitch in pitches:
            samples = font.note(program, pitch, velocity, HELD, RELEASED)
            if np.sqrt(np.mean(samples**2)) > MIN_NOTE_RMS:
                break
        else:
            raise SystemExit(f"{names[program]} of {bank.name} is silent at {pitches}")
        pitches.remove(pitch)
        clips.append(
            Clip(
                family,
                split,
                f"{names[program]}-{pitch}",
                f"{bank.name}-{names[program]}",
                bank.package,
                bank.licence,
                f"program {program}, key {pitch}, velocity {velocity}",
                fade_out(samples / np.abs(samples).max() * PEAK),
            )
        )
    return sorted(clips, key=lambda clip: clip.name)


# --- tones ----------------------------------------------------------------------------------------

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
# Finals: after an initial, alone.
FINALS = {
    "": ("i", ""),
    "ㄚ": ("a", "a"),
    "ㄛ": ("o", "o"),
    "ㄜ": ("e", "e"),
    "ㄞ": ("ai", "ai"),
    "ㄟ": ("ei", "ei"),
    "ㄠ": ("ao", "ao"),
    "ㄡ": ("ou", "ou"),
    "ㄢ": ("an", "an"),
    "ㄣ": ("en", "en"),
    "ㄤ": ("ang", "ang"),
    "ㄥ": ("eng", "eng"),
    "ㄦ": ("er", "er"),
    "ㄧ": ("i", "yi"),
    "ㄧㄚ": ("ia", "ya"),
    "ㄧㄝ": ("ie", "ye"),
    "ㄧㄠ": ("iao", "yao"),
    "ㄧㄡ": ("iu", "you"),
    "ㄧㄢ": ("ian", "yan"),
    "ㄧㄣ": ("in", "yin"),
    "ㄧㄤ": ("iang", "yang"),
    "ㄧㄥ": ("ing", "ying"),
    "ㄨ": ("u", "wu"),
    "ㄨㄚ": ("ua", "wa"),
    "ㄨㄛ": ("uo", "wo"),
    "ㄨㄞ": ("uai", "wai"),
    "ㄨㄟ": ("ui", "wei"),
    "ㄨㄢ": ("uan", "wan"),
    "ㄨㄣ": ("un", "wen"),
    "ㄨㄤ": ("uang", "wang"),
    "ㄨㄥ": ("ong", "weng"),
    "ㄩ": ("u", "yu"),
    "ㄩㄝ": ("ue", "yue"),
    "ㄩㄢ": ("uan", "yuan"),
    "ㄩㄣ": ("un", "yun"),
    "ㄩㄥ": ("iong", "yong"),
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


# --- files ----------------------------------------------------------------------------------------

BUILDERS = {"instruments": instruments, "tones": tones, "initials": initials}


def unpack(package: str) -> Path:
    """The content of a Debian package, downloaded and unpacked once."""
    target = folder() / "unpacked" / package
    if not target.exists():
        download((Package(package),))
        deb = deb_of(package)
        if deb is None:
            raise SystemExit(f"{package} is not there; `apt-get update` may help")
        partial = target.with_name(target.name + ".part")
        partial.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", deb, partial], check=True)
        partial.rename(target)
    return target


def fade_out(samples: np.ndarray) -> np.ndarray:
    """The last FADE samples go down to silence."""
    return np.concatenate([samples[:-FADE], samples[-FADE:] * np.linspace(1, 0, FADE)])


def encode(samples: np.ndarray, serial: int) -> bytes:
    """Ogg Opus at 16 kHz with this serial number; libsndfile draws one at random."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        samples,
        SAMPLE_RATE,
        format="OGG",
        subtype="OPUS",
        compression_level=COMPRESSION,
    )
    return renumber(buffer.getvalue(), serial)


def renumber(ogg: bytes, serial: int) -> bytes:
    """The same Ogg file with this serial number on every page, and checksums to match.

    Source: RFC 3533, section 6: serial number at byte 14 of a page, checksum at 22, number of
    segments at 26, then their lengths.
    """
    data, start = bytearray(ogg), 0
    while start < len(data):
        segments = data[start + 26]
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
        struct.pack_into("<I", data, start + 14, serial)
        struct.pack_into("<I", data, start + 22, 0)
        struct.pack_into("<I", data, start + 22, checksum(data[start:end]))
        start = end
    return bytes(data)


def _checksums() -> list[int]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


CHECKSUMS = _checksums()


def checksum(page: bytes | bytearray) -> int:
    """The CRC-32 of Ogg: polynomial 0x04c11db7, from 0, bits not reflected."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ CHECKSUMS[value >> 24 ^ byte]
    return value


def build(name: str, target: Path) -> list[Row]:
    """Write the clips and the manifest of one task into an empty folder."""
    rows = []
    for serial, clip in enumerate(sorted(BUILDERS[name](), key=split_of)):
        data = encode(clip.samples, serial)
        path = target / clip.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append(
            Row(
                clip.path,
                clip.label,
                clip.split,
                clip.group,
                clip.source,
                clip.licence,
                clip.detail,
                f"{len(clip.samples) / SAMPLE_RATE:g}",
                hashlib.sha256(data).hexdigest(),
            )
        )
    with (target / "manifest.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(Row.__dataclass_fields__)
        writer.writerows(astuple(row) for row in rows)
    return rows


def split_of(clip: Clip) -> int:
    return ("train", "valid", "test").index(clip.split)


def read_rows(name: str) -> list[Row]:
    """The manifest of a task as it is; empty where there is none."""
    table = EMBEDDED / name / "manifest.csv"
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as lines:
        return [Row(**row) for row in csv.DictReader(lines)]


def damaged(name: str, rows: list[Row]) -> list[str]:
    """Paths of clips that are missing or differ from their rows."""
    bad = []
    for row in rows:
        path = EMBEDDED / name / row.path
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != row.sha256:
            bad.append(row.path)
    return bad


def main(check: bool = False) -> None:
    """Build the tasks, or check that a build gives what is there."""
    total = 0
    for name in BUILDERS:
        with tempfile.TemporaryDirectory() as scratch:
            rows = build(name, Path(scratch))
            size = sum(path.stat().st_size for path in Path(scratch).rglob("*.*"))
            same = rows == read_rows(name) and not damaged(name, rows)
            if not same and check:
                raise SystemExit(f"{name}: the build differs from {EMBEDDED / name}")
            if not same:
                shutil.rmtree(EMBEDDED / name, ignore_errors=True)
                shutil.copytree(scratch, EMBEDDED / name)
        total += size
        typer.echo(
            f"{name}: {len(rows)} clips, {size / 1e6:.2f} MB, {'as' if same else 'not as'} before"
        )
    if total > LIMIT_BYTES:
        raise SystemExit(f"{total / 1e6:.1f} MB are more than {LIMIT_BYTES / 1e6:g} MB")


if __name__ == "__main__":
    typer.run(main)
