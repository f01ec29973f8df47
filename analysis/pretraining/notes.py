"""Notes of the General MIDI programs of a soundfont, as a package of the corpus.

    python -m analysis.pretraining.notes  # before `python -m analysis.pretraining.corpus`, which
    adds them

The teachers hear them like any other sound; no label of a program is trained on. TimGM6mb tests the
task `instruments`: it is left out, and so is the bank of csound, which holds the same recordings
(`analysis.pretraining.compare_soundfonts` finds them), and the programs of FluidR3 that validate
the task.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import typer

from analysis.pretraining.clips import SEED, unpack
from analysis.pretraining.corpus import store_clips
from analysis.pretraining.instruments import FLUID, MIN_NOTE_RMS, validation_programs
from analysis.pretraining.soundfont import SoundFont

PROGRAMS = 128
NOTES = 24  # of each program
PITCHES = range(28, 97)
RELEASED = 0.3  # seconds


def notes() -> Iterator[tuple[str, np.ndarray]]:
    """A name and mono samples at 16 kHz of each note, at its own loudness."""
    font = SoundFont(unpack(FLUID.package) / FLUID.file)
    draw = random.Random(f"{SEED} notes")
    held_out = validation_programs(font.samples)
    for program in range(PROGRAMS):
        if any(font.samples[program] & font.samples[other] for other in held_out):
            continue  # such a program itself, or one that plays its recordings
        for _ in range(NOTES):
            pitch, velocity = draw.choice(PITCHES), draw.randint(40, 119)
            samples = font.note(program, pitch, velocity, draw.uniform(0.2, 2.0), RELEASED)
            if np.sqrt(np.mean(samples**2)) > MIN_NOTE_RMS:
                yield f"program-{program}-key-{pitch}-velocity-{velocity}", samples


def main() -> None:
    """Render all programs."""
    clips = [(f"{FLUID.file}/{name}", "notes", x / np.abs(x).max()) for name, x in notes()]
    typer.echo(f"{FLUID.package}: {store_clips(FLUID.package, clips, FLUID.licence)}")


if __name__ == "__main__":
    typer.run(main)
