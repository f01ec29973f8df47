"""Notes from a SoundFont 2 file, and which of its recordings a program plays.

The synthesiser is the package `tinysoundfont` 0.3.7, fetched when needed and not installed.
"""

from __future__ import annotations

import importlib
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from analysis.pretraining.corpus import folder
from softmoa.data.audio import SAMPLE_RATE

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


@dataclass(frozen=True)
class Recording:
    """One sample of a soundfont and the General MIDI programs (bank 0, from 0) that play it."""

    number: int
    name: str
    rate: int
    programs: tuple[int, ...]
    samples: np.ndarray  # 16-bit


def recordings(path: Path) -> list[Recording]:
    """All recordings of a soundfont, mapped from disk."""
    tables, players = _tables(path), samples_by_program(path)
    everything = np.frombuffer(tables[b"smpl"], "<i2")
    found = []
    for number, row in enumerate(struct.iter_unpack("<20sIIIIIBbHH", tables[b"shdr"])):
        name, first, last, _, _, rate, *_ = row
        playing = tuple(sorted(p for p, samples in players.items() if number in samples))
        said = name.split(b"\0")[0].decode("latin-1")
        found.append(Recording(number, said, rate, playing, everything[first:last]))
    return found[:-1]  # the last row only marks the end


def samples_by_program(path: Path) -> dict[int, frozenset[int]]:
    """The numbers of the recordings each General MIDI program (bank 0, from 0) plays.

    A program is a list of zones that name instruments, an instrument a list of zones that name
    samples. Source: SoundFont 2.01, section 7: the tables of the `pdta` list.
    """
    tables = _tables(path)

    def rows(name: bytes, layout: str) -> list[tuple]:
        return list(struct.iter_unpack(layout, tables[name]))

    headers, instruments = rows(b"phdr", "<20sHHHIII"), rows(b"inst", "<20sH")
    played = _pointers(rows(b"pbag", "<HH"), rows(b"pgen", "<HH"), INSTRUMENT)
    sampled = _pointers(rows(b"ibag", "<HH"), rows(b"igen", "<HH"), SAMPLE)
    samples_of = [
        set().union(*sampled[first:after])
        for (_, first), (_, after) in zip(instruments[:-1], instruments[1:], strict=True)
    ]
    found = {}
    for header, following in zip(headers[:-1], headers[1:], strict=True):
        _, program, bank, first = header[:4]
        if bank == 0:
            zones = set().union(*played[first : following[3]])
            found[program] = frozenset().union(*(samples_of[i] for i in zones))
    return found


def _pointers(bags: list[tuple], generators: list[tuple], kind: int) -> list[set[int]]:
    """What the generators of one kind point to, zone by zone."""
    return [
        {value for operator, value in generators[first:after] if operator == kind}
        for (first, _), (after, _) in zip(bags[:-1], bags[1:], strict=True)
    ]


def _tables(path: Path) -> dict[bytes, memoryview]:
    """The tables of a soundfont by name, mapped from disk."""
    found = {}
    for kind, content in _chunks(np.memmap(path, np.uint8, mode="r").data[12:]):
        if kind == b"LIST":
            found |= dict(_chunks(content[4:]))
    return found


def _chunks(riff: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """(name, content) of one chunk of a RIFF file after the other."""
    start = 0
    while start < len(riff):
        (length,) = struct.unpack_from("<I", riff, start + 4)
        yield bytes(riff[start : start + 4]), riff[start + 8 : start + 8 + length]
        start += 8 + length + length % 2
