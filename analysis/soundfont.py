"""Notes from a SoundFont 2 file, and which of its recordings a program plays.

The synthesiser is the package `tinysoundfont` 0.3.7, fetched when needed and not installed.
"""

from __future__ import annotations

import importlib
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from analysis.corpus import SAMPLE_RATE, folder

SYNTHESISER = "tinysoundfont==0.3.7"  # --no-deps: it would bring a driver for a sound card
INSTRUMENT, SAMPLE = 41, 53  # generators of the format that point to an instrument, to a sample


def synthesiser() -> ModuleType:
    """The package, put into a folder of its own once."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    target = folder() / "wheels" / f"{SYNTHESISER.replace('==', '-')}-{tag}"
    if not target.exists():
        partial = target.with_name(target.name + ".part")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", partial]
        subprocess.run([*pip, SYNTHESISER], check=True)
        partial.rename(target)
    sys.path.append(str(target))
    try:
        return importlib.import_module("tinysoundfont")
    finally:
        sys.path.remove(str(target))


class SoundFont:
    """One bank of instruments, played dry: no reverberation, no chorus."""

    def __init__(self, path: Path):
        self.synth = synthesiser().Synth(gain=0, samplerate=SAMPLE_RATE)
        self.bank = self.synth.sfload(str(path))
        self.samples = samples_by_program(path)

    def note(
        self, program: int, pitch: int, velocity: int, held: float, released: float
    ) -> np.ndarray:
        """Mono float32 at 16 kHz of one note: seconds with the key down, then with the key up."""
        self.synth.program_select(0, self.bank, 0, program)
        self.synth.noteon(0, pitch, velocity)
        parts = [self._generate(held)]
        self.synth.noteoff(0, pitch)
        parts.append(self._generate(released))
        self.synth.sounds_off()
        self._generate(0.1)  # what still rings
        return np.concatenate(parts)

    def _generate(self, seconds: float) -> np.ndarray:
        stereo = np.frombuffer(self.synth.generate(round(seconds * SAMPLE_RATE)), np.float32)
        return stereo.reshape(-1, 2).mean(axis=1)


def samples_by_program(path: Path) -> dict[int, frozenset[int]]:
    """The numbers of the recordings each General MIDI program plays (bank 0).

    A program is a list of zones that name instruments, an instrument a list of zones that name
    samples. Source: SoundFont 2.01, section 7: the tables of the `pdta` list.
    """
    data = path.read_bytes()
    tables = {}
    for kind, start, end in _chunks(data, 12, len(data)):
        if kind == b"LIST" and data[start : start + 4] == b"pdta":
            tables = {name: data[a:b] for name, a, b in _chunks(data, start + 4, end)}

    def rows(name: bytes, layout: str) -> list[tuple]:
        return list(struct.iter_unpack(layout, tables[name]))

    def pointers(bags: list[tuple], generators: list[tuple], zones: range, kind: int) -> set[int]:
        return {
            value
            for zone in zones
            for operator, value in generators[bags[zone][0] : bags[zone + 1][0]]
            if operator == kind
        }

    headers = rows(b"phdr", "<20sHHHIII")
    preset_bags, preset_generators = rows(b"pbag", "<HH"), rows(b"pgen", "<HH")
    instruments = rows(b"inst", "<20sH")
    bags, generators = rows(b"ibag", "<HH"), rows(b"igen", "<HH")
    found = {}
    for (_, program, bank, first, *_), (_, _, _, after, *_) in zip(
        headers[:-1], headers[1:], strict=True
    ):
        played = pointers(preset_bags, preset_generators, range(first, after), INSTRUMENT)
        if bank == 0:
            found[program] = frozenset().union(
                *(
                    pointers(
                        bags, generators, range(instruments[i][1], instruments[i + 1][1]), SAMPLE
                    )
                    for i in played
                )
            )
    return found


def _chunks(data: bytes, start: int, end: int) -> list[tuple[bytes, int, int]]:
    """(name, start, end) of the chunks of a RIFF file between two places."""
    found = []
    while start < end:
        length = struct.unpack_from("<I", data, start + 4)[0]
        found.append((data[start : start + 4], start + 8, start + 8 + length))
        start += 8 + length + length % 2
    return found
