"""The pretraining audio: packages -> mono 16 kHz clips of at most 10 s and a manifest.

    python -m analysis.pretraining.corpus

Debian packages are downloaded and read, never installed (`apt-get download`; run `apt-get update`
once before); repositories of GitHub come as the archive of one commit; before, `python -m
analysis.pretraining.notes` renders a soundfont and `python -m analysis.pretraining.voices` has
words said by synthesisers.
Under the folder $SOFTMOA_CORPUS (default ~/.cache/softmoa) this leaves

    debs/            the packages and archives
    packages/*.npz   the clips of one package each
    corpus.i16       all clips that are no copies, end to end, 16-bit
    corpus.csv       one row a clip: start and length in corpus.i16, source, licence, hash

Everything is resumable: a package already downloaded or decoded is not touched again. No test data
enters: not ESC-50, not the Free Spoken Digit Dataset, not the clips of the gallery
(`packages.HELD_OUT`).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import typer

from analysis.pretraining.packages import HELD_OUT, HELD_OUT_PACKAGES, PACKAGES, Package
from analysis.pretraining.unpack import decode, members
from softmoa.data.audio import SAMPLE_RATE

GITHUB = "https://codeload.github.com"
AT_ONCE = 8  # downloads
CLIP_SECONDS = 10
MIN_SECONDS = 0.15
MIN_RMS = 1e-3  # below: silence


def folder() -> Path:
    """Where corpora, caches and checkpoints live: never inside the repository."""
    return Path(os.environ.get("SOFTMOA_CORPUS", "~/.cache/softmoa")).expanduser()


def download(packages: tuple[Package, ...]) -> None:
    """Fetch the packages that are not there yet, each on its own so that one gone does no harm."""
    debs = folder() / "debs"
    debs.mkdir(parents=True, exist_ok=True)

    def fetch(package: Package) -> None:
        try:
            _fetch(package, debs)
        except (subprocess.CalledProcessError, OSError, EOFError, HTTPException) as error:
            reason = getattr(error, "stderr", None) or str(error)
            typer.echo(f"{package.name} cannot be downloaded: {reason.strip()}", err=True)

    missing = [p for p in packages if not p.rendered and archive_of(p) is None]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, missing))


def _fetch(package: Package, debs: Path) -> None:
    if not package.commit:
        command = ["apt-get", "download", package.name]
        subprocess.run(command, cwd=debs, check=True, capture_output=True, text=True)
        return
    target = debs / f"{package.stem}.tar.gz"
    partial = target.with_suffix(".part")
    with (
        urlopen(f"{GITHUB}/{package.name}/tar.gz/{package.commit}", timeout=60) as answer,
        partial.open("wb") as file,
    ):
        shutil.copyfileobj(answer, file)
    with gzip.open(partial) as archive:  # a connection that is lost raises nothing; this does
        while archive.read(2**20):
            pass
    partial.rename(target)


def archive_of(package: Package) -> Path | None:
    """The downloaded file of a package, if it is there."""
    if package.commit:
        return next((folder() / "debs").glob(f"{package.stem}.tar.gz"), None)
    return deb_of(package.name)


def clips_of(stem: str) -> Path:
    """Where the clips of a package are kept."""
    return folder() / "packages" / f"{stem}.npz"


def deb_of(name: str) -> Path | None:
    return next((folder() / "debs").glob(f"{name}_*.deb"), None)


def licences(copyright_file: str) -> str:
    """The short names of all licences of a machine-readable copyright file."""
    names = set(re.findall(r"^License: *(\S+)", copyright_file, re.MULTILINE))
    return " ".join(sorted(names)) or "see the package's copyright file"


def kind_of(package: Package, path: str) -> str:
    words = path.lower()
    if "music" in words or "soundtrack" in words:
        return "music"
    if package.kind == "speech" and ("stamps" not in words or "_desc" in words):
        return "speech"
    return "speech" if "/voice" in words or "/speech" in words else "effects"


def decode_package(package: Package) -> str:
    """Decode one package into packages/NAME.npz; says how much there was."""
    if clips_of(package.stem).exists():
        return f"{package.name}: decoded before"
    if package.rendered:
        return f"{package.name}: not rendered yet, by python -m {package.rendered}"
    archive = archive_of(package)
    if archive is None:
        return f"{package.name}: not there"
    clips, licence = [], package.licence
    for path, data in members(archive):
        if not path.startswith(package.under) or path.startswith(package.without):
            continue
        if path.endswith("/copyright"):
            licence = licences(data.decode("utf-8", "replace"))
            continue
        if zlib.crc32(path.encode()) % 1000 < 1000 * package.keep:
            clips.append((path, kind_of(package, path), decode(path, data)))
    return f"{package.name}: {store_clips(package.stem, clips, licence)}"


def store_clips(name: str, sounds: list[tuple[str, str, np.ndarray]], licence: str) -> str:
    """Cut sounds, (path, kind, samples), into packages/NAME.npz without silence; says how much
    there is."""
    clips, rows = [], []
    for path, kind, samples in sounds:
        digest = hashlib.sha256(np.round(samples * 2000).astype(np.int16).tobytes()).hexdigest()
        for start in range(0, len(samples), CLIP_SECONDS * SAMPLE_RATE):
            clip = samples[start : start + CLIP_SECONDS * SAMPLE_RATE]
            if len(clip) >= MIN_SECONDS * SAMPLE_RATE and np.sqrt(np.mean(clip**2)) > MIN_RMS:
                clips.append(np.round(clip * 32767).astype(np.int16))
                rows.append((path, kind, digest[:16], start / SAMPLE_RATE))
    target = clips_of(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part.npz")
    np.savez(
        partial,
        samples=np.concatenate([*clips, np.zeros(0, np.int16)]),
        lengths=np.array([len(clip) for clip in clips], np.int64),
        rows=np.array(rows, dtype=str).reshape(-1, 4),
        licence=licence,
    )
    partial.rename(target)
    return f"{len(clips)} clips, {sum(map(len, clips)) / SAMPLE_RATE / 60:.1f} min"


def merge(packages: tuple[Package, ...]) -> None:
    """Join the packages into corpus.i16 and corpus.csv: no HELD_OUT, and of copies the first.

    The hash is that of the file's decoded samples rounded to 1/2000, which also finds many
    re-encoded copies.
    """
    files = {
        package.name: file for package in packages if (file := clips_of(package.stem)).exists()
    }
    # Hashes taken already and by which file; a held-out file takes its hash from all others.
    taken = {
        digest: "held out"
        for file in files.values()
        for path, _, digest, _ in np.load(file)["rows"]
        if path.endswith(HELD_OUT)
    }
    start = 0
    targets = folder() / "corpus.i16", folder() / "corpus.csv"
    partial = [target.with_suffix(target.suffix + ".part") for target in targets]
    with partial[0].open("wb") as audio, partial[1].open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["start", "samples", "package", "path", "at", "kind", "licence", "hash"])
        for name, file in files.items():
            content = np.load(file)
            samples, licence, at = content["samples"], content["licence"], 0
            clips = zip(content["lengths"], content["rows"], strict=True)
            for length, (path, kind, digest, offset) in clips:
                source = f"{name}/{path}"
                if taken.setdefault(digest, source) == source:
                    audio.write(samples[at : at + length].tobytes())
                    writer.writerow([start, length, name, path, offset, kind, licence, digest])
                    start += length
                at += length
    for part, target in zip(partial, targets, strict=True):
        part.rename(target)


def read() -> tuple[np.ndarray, list[dict[str, str]]]:
    """All samples of the corpus (16-bit, mapped from disk) and the rows of its manifest."""
    with (folder() / "corpus.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    return np.memmap(folder() / "corpus.i16", np.int16, mode="r"), rows


def spoken(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The utterances among them that may be trained on."""
    return [r for r in rows if r["kind"] == "speech" and r["package"] not in HELD_OUT_PACKAGES]


def main(workers: int = 2) -> None:
    """Download, decode and merge; a second run only merges."""
    download(PACKAGES)
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(decode_package, package) for package in PACKAGES]
        for done, job in enumerate(as_completed(jobs), 1):
            typer.echo(f"[{done}/{len(jobs)}] {job.result()}")
    merge(PACKAGES)
    _, rows = read()
    for kind in ("effects", "music", "speech", "notes"):
        lengths = [int(row["samples"]) for row in rows if row["kind"] == kind]
        hours = sum(lengths) / SAMPLE_RATE / 3600
        typer.echo(f"{kind}: {len(lengths)} clips, {hours:.2f} h")


if __name__ == "__main__":
    typer.run(main)
