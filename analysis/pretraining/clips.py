"""What the recipes of the embedded tasks share: a clip, its source, its end and its bytes."""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from analysis.pretraining import ogg
from analysis.pretraining.corpus import deb_of, download, folder
from analysis.pretraining.packages import Package
from softmoa.data.audio import SAMPLE_RATE

SEED = 0
COMPRESSION = 0.9  # of libsndfile's Opus: about 31 kbit/s, closer to the original than Vorbis
FADE = 320  # samples, 20 ms, at the end of every clip


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
    return ogg.renumber(buffer.getvalue(), serial)
