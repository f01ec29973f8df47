"""The task `instruments`: notes of 11 families of General MIDI programs, the families of NSynth
(Engel et al. 2017).

FluidR3 trains and validates, TimGM6mb tests. The validation programs share no recording with a
training program, which the soundfont's own tables tell: notes of the same program, or of its
neighbour that is made of the same recordings, would be nearly copies. A test program found to hold
a recording of FluidR3 is left out (`compare_soundfonts` beside this file).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from analysis.pretraining.clips import SEED, Clip, fade_out, unpack
from analysis.pretraining.soundfont import SoundFont


@dataclass(frozen=True)
class Bank:
    name: str
    package: str
    file: str
    licence: str


FLUID = Bank("fluid", "fluid-soundfont-gm", "usr/share/sounds/sf2/FluidR3_GM.sf2", "MIT")
TIM = Bank("timgm", "timgm6mb-soundfont", "usr/share/sounds/sf2/TimGM6mb.sf2", "GPL-2")

# The General MIDI standard's names of the programs from 0 to 87; "-" for those of no family.
NAMES = """
grand-piano bright-piano electric-grand honky-tonk e-piano-1 e-piano-2 harpsichord clavinet
celesta glockenspiel music-box vibraphone marimba xylophone tubular-bells -
drawbar-organ percussive-organ rock-organ church-organ reed-organ accordion harmonica bandoneon
nylon-guitar steel-guitar jazz-guitar clean-guitar
muted-guitar overdriven-guitar distortion-guitar guitar-harmonics
acoustic-bass fingered-bass picked-bass fretless-bass
slap-bass-1 slap-bass-2 synth-bass-1 synth-bass-2
violin viola cello contrabass tremolo-strings pizzicato-strings - -
strings-1 strings-2 - - choir-aahs voice-oohs synth-voice -
trumpet trombone tuba muted-trumpet french-horn brass-section synth-brass-1 synth-brass-2
soprano-sax alto-sax tenor-sax baritone-sax oboe english-horn bassoon clarinet
piccolo flute recorder pan-flute bottle shakuhachi whistle ocarina
square-lead sawtooth-lead calliope-lead chiff-lead charang voice-lead fifths-lead bass-and-lead
""".split()
FAMILIES = {
    "keyboard": range(0, 8),
    "mallet": range(8, 16),
    "organ": range(16, 24),
    "guitar": range(24, 32),
    "bass": range(32, 40),
    "string": range(40, 52),
    "vocal": range(52, 56),
    "brass": range(56, 64),
    "reed": range(64, 72),
    "flute": range(72, 80),
    "synth_lead": range(80, 88),
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
    return {program: NAMES[program] for program in FAMILIES[family] if NAMES[program] != "-"}


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
