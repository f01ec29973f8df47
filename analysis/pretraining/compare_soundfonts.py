"""Do the two soundfonts of the task `instruments` hold the same recordings?

    python -m analysis.pretraining.compare_soundfonts

Every recording of the test bank is searched for in every recording of the training bank: the
largest normalised cross-correlation of a stretch of 0.1 s with the other bank's first 1.4 s, both
at 11 kHz and differenced (which flattens their spectra). Near 1 is the same recording, and so may
be two nearly pure tones; copies that were transposed, and recordings shorter than 0.1 s (mostly
loops of a few periods), are not found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import soxr
import typer
from numpy.fft import irfft, rfft
from tqdm import tqdm

from analysis.pretraining.clips import unpack
from analysis.pretraining.instruments import FAMILIES, FLUID, TIM, programs
from analysis.pretraining.soundfont import Recording, recordings

RATE = 11_025  # Hz
STRETCH = 1_100  # samples
SEARCHED = 15_000  # samples
SIZE = 16_384  # of the transforms


def heard(path: Path) -> list[tuple[Recording, np.ndarray]]:
    """The recordings that the programs of the task play, as differenced waveforms."""
    used = {program for family in FAMILIES for program in programs(family)}
    found = []
    for recording in recordings(path):
        if used & set(recording.programs):
            start = recording.samples[: 2 * recording.rate].astype(np.float32)
            found.append((recording, np.diff(soxr.resample(start, recording.rate, RATE))))
    return found


def loudness(waveform: np.ndarray) -> np.ndarray:
    """(SIZE,) norm of each stretch of a waveform, infinite where none begins."""
    energy = np.concatenate([[0], np.cumsum(np.square(waveform[:SEARCHED], dtype=float))])
    norms = np.full(SIZE, np.inf)
    stretches = energy[STRETCH:] - energy[:-STRETCH]
    norms[: len(stretches)] = np.sqrt(np.maximum(stretches, 1e-3 * stretches.max(initial=1e-9)))
    return norms


def main(show: Annotated[int, typer.Option(help="number of matches to print")] = 12) -> None:
    known = [x for x in heard(unpack(FLUID.package) / FLUID.file) if len(x[1]) > STRETCH]
    asked = heard(unpack(TIM.package) / TIM.file)
    spectra = np.array([rfft(wave[:SEARCHED], SIZE) for _, wave in known], np.complex64)
    norms = np.array([loudness(wave) for _, wave in known], np.float32)
    matches = []
    for recording, wave in tqdm([x for x in asked if len(x[1]) > STRETCH], desc="searching"):
        best = (0.0, 0)
        for start in {min(200, len(wave) - STRETCH), min(2000, len(wave) - STRETCH)}:
            stretch = wave[start : start + STRETCH]
            spectrum = np.conj(rfft(stretch / (np.linalg.norm(stretch) + 1e-9), SIZE))
            for part in range(0, len(known), 64):
                rows = slice(part, part + 64)
                found = np.abs(irfft(spectra[rows] * spectrum, SIZE, axis=1) / norms[rows])
                best = max(best, *((float(x), part + i) for i, x in enumerate(found.max(axis=1))))
        pair = f"{recording.name} {recording.programs}  {known[best[1]][0].name}"
        matches.append((best[0], pair))
    typer.echo(f"{len(matches)} of {len(asked)} recordings compared with {len(known)}")
    for correlation, pair in sorted(matches, reverse=True)[:show]:
        typer.echo(f"{correlation:.3f}  {pair}")


if __name__ == "__main__":
    typer.run(main)
