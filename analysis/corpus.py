"""The pretraining audio: Debian packages -> mono 16 kHz clips of at most 10 s and a manifest.

    python -m analysis.corpus
    python -m analysis.corpus --check      # is a clip of ESC-10 or of the gallery among them?

Packages are downloaded and read, never installed (`apt-get download`; run `apt-get update` once
before). Under the folder $SOFTMOA_CORPUS (default ~/.cache/softmoa) this leaves

    debs/            the packages
    packages/*.npz   the clips of one package each
    corpus.i16       all clips that are no copies, end to end, 16-bit
    corpus.csv       one row a clip: start and length in corpus.i16, source, licence, hash

Everything is resumable: a package already downloaded or decoded is not touched again. No test data
enters: not ESC-10, not the Free Spoken Digit Dataset, not the clips of the gallery (HELD_OUT).
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import soxr
import torch
import torch.nn.functional as F
import typer

from analysis.evaluate_backbone import esc10
from softmoa.audio import load
from softmoa.weights import ASSETS

SAMPLE_RATE = 16_000  # Hz
CLIP_SECONDS = 10
FILE_SECONDS = 60  # of one file, so that no long piece of music outweighs a hundred effects
MIN_SECONDS = 0.15
MIN_RMS = 1e-3  # below: silence
SAME_VOTES = 8  # landmarks that agree on one shift; chance reached 7 in a minute of music
AUDIO = (".ogg", ".oga", ".opus", ".wav", ".flac", ".mp3", ".g722", ".au", ".aif", ".aiff")
ARCHIVES = (".zip", ".pk3", ".pk4", ".wz")


@dataclass(frozen=True)
class Package:
    """A Debian package, what most of its sound is, and the share of its files that is used.

    test: its clips are never trained on; they tell how well tags are learned.
    """

    name: str
    kind: str = "effects"  # or "speech"; a path that says music is music in any package
    keep: float = 1.0
    test: bool = False


PACKAGES = (
    Package("gcompris-qt-data"),
    Package("sonic-pi-samples"),
    Package("lomiri-sounds"),
    Package("hydrogen-drumkits"),
    Package("hydrogen-drumkits-effects", keep=0.3),
    Package("megaglest-data"),
    Package("widelands-data"),
    Package("wesnoth-1.16-data"),
    Package("colobot-common-sounds"),
    Package("openttd-opensfx"),
    Package("unknown-horizons"),
    Package("lincity-ng-data"),
    Package("freedroidrpg-data"),
    Package("supertuxkart-data"),
    Package("ufoai-sound"),
    Package("planetblupi-common"),
    Package("flare-game"),
    Package("torcs-data"),
    Package("pingus-data"),
    Package("boswars-data"),
    Package("glob2-data"),
    Package("0ad-data"),
    Package("bucklespring-data"),
    Package("searchandrescue-data"),
    Package("simutrans-pak64"),
    Package("trigger-rally-data"),
    Package("lmms-common"),
    Package("extremetuxracer-data"),
    Package("freecol"),
    Package("gamine-data"),
    Package("pysiogame"),
    Package("flightgear-data-base"),
    Package("naev-data"),
    Package("redeclipse-data"),
    Package("nexuiz-data"),
    Package("openarena-data"),
    Package("trackballs-data"),
    Package("freeorion-data"),
    Package("7kaa-data"),
    Package("gigalomania-data"),
    Package("pekka-kana-2-data"),
    Package("pink-pony-data"),
    Package("dustracing2d-data"),
    Package("openssn-data"),
    Package("opencity-data"),
    Package("micropolis-data"),
    Package("caveexpress-data"),
    Package("cataclysm-dda-data"),
    Package("freedink-data"),
    Package("endless-sky-data"),
    Package("lugaru-data"),
    Package("minetest-data"),
    Package("minetest-mod-homedecor"),
    Package("sound-theme-freedesktop"),
    Package("ardentryst"),
    Package("enigma-data"),
    Package("scorched3d-data"),
    Package("bzflag-data"),
    Package("marsshooter-data"),
    Package("yaru-theme-sound"),
    Package("oxygen-sounds"),
    Package("frozen-bubble-data"),
    Package("tuxtype-data"),
    Package("foobillardplus-data"),
    Package("libreoffice-common"),
    Package("scratch"),
    Package("brainparty-data"),
    Package("btanks-data"),
    Package("ukui-media"),
    Package("tuxmath-data"),
    Package("gnome-audio"),
    Package("mazeofgalious-data"),
    Package("overgod-data"),
    Package("crossfire-client"),
    Package("lbreakout2-data"),
    Package("bambam"),
    Package("minetest-mod-mesecons"),
    Package("minetest-mod-nether"),
    Package("minetest-mod-xdecor"),
    Package("minetest-mod-unified-inventory"),
    Package("minetest-mod-lucky-block"),
    Package("freetennis-common"),
    Package("heroes-sound-effects"),
    Package("tuxpaint-data"),
    Package("freedroid-data"),
    Package("powermanga-data"),
    Package("atanks-data"),
    Package("pinball-data"),
    Package("freegish-data"),
    Package("flobopuyo"),
    Package("freeciv-data"),
    Package("pathological"),
    Package("madbomber-data"),
    Package("epiphany-data"),
    Package("laby"),
    Package("open-invaders-data"),
    Package("pokerth-data"),
    Package("tuxfootball"),
    Package("gemdropx"),
    Package("monsterz-data"),
    Package("circuslinux-data"),
    Package("ri-li-data"),
    Package("lgeneral-data"),
    Package("spring-common"),
    Package("whichwayisup"),
    Package("orage-data"),
    Package("bugsquish"),
    Package("qt5-quick-demos"),
    Package("briquolo-data"),
    Package("kanagram"),
    Package("khangman"),
    Package("funnyboat"),
    Package("basic256"),
    Package("wx3.2-examples"),
    Package("emacspeak"),
    Package("sound-icons"),
    Package("deepin-sound-theme"),
    Package("chuck-data"),
    Package("csoundqt-examples"),
    Package("exadrums"),
    Package("wordwarvi-sound"),
    Package("performous"),
    Package("solfege"),
    Package("sumo-tools"),
    Package("stormbaancoureur-data"),
    Package("qtmultimedia5-examples"),
    Package("antigravitaattori"),
    Package("ksirk"),
    Package("linphone-common"),
    Package("jami-daemon"),
    Package("gnustep-gui-common"),
    Package("xboard"),
    Package("moon-lander-data"),
    Package("penguin-command"),
    Package("vodovod"),
    Package("go-for-it"),
    Package("tkdesk"),
    Package("afterstep-data"),
    Package("xemacs21-basesupport"),
    Package("seahorse-adventures"),
    Package("alienblaster-data"),
    Package("amphetamine-data"),
    Package("bomberclone-data"),
    Package("workrave-data"),
    Package("ceferino-data"),
    Package("cuyo-data"),
    Package("tworld-data"),
    Package("neverball-common"),
    Package("gl-117-data", test=True),
    Package("crrcsim-data", test=True),
    Package("csmash-data", test=True),
    Package("netpanzer-data", test=True),
    Package("warmux-data", test=True),
    Package("warzone2100-data", test=True),
    Package("plee-the-bear-data", test=True),
    Package("etw-data", test=True),
    Package("gnome-shell-pomodoro-data", test=True),
    Package("tuxpaint-stamps-default", kind="speech", keep=0.1),
    Package("hedgewars-data", kind="speech"),
    Package("klettres-data", kind="speech", keep=0.3),
    Package("ktuberling-data", kind="speech", keep=0.3),
    Package("fillets-ng-data", kind="speech", keep=0.3),
    Package("fillets-ng-data-cs", kind="speech", keep=0.2),
    Package("asterisk-core-sounds-en-g722", kind="speech"),
    Package("asterisk-core-sounds-es-g722", kind="speech", keep=0.5),
    Package("asterisk-core-sounds-fr-g722", kind="speech", keep=0.5),
    Package("asterisk-core-sounds-it-g722", kind="speech", keep=0.5),
    Package("asterisk-core-sounds-ru-g722", kind="speech", keep=0.5),
)

TEST_PACKAGES = frozenset(package.name for package in PACKAGES if package.test)

# By the end of their paths: the clips of assets/examples, and files that hold the same recordings
# as those or as clips of ESC-10 (found by `--check`).
HELD_OUT = (
    "emacspeak/sounds/classic/alarm.wav",
    "sound/default/misc/victory.ogg",
    "battlemage/sounds/battlemage_hit3.wav",
    "battlemage/sounds/battlemage_hit4.wav",
    "opensfx.cat/8752859.wav",
    "simutrans/pak/sound/tree-cutting.wav",
    "sounds/fire_small.ogg",
    "Sounds/AMB_Intro_6.ogg",
    "Sounds/fire_loop.ogg",
    "snd/music/collective1.ogg",
    "LRBark_1_LA_cut.ogg",
    "LRRain_in_garden_01_LA_cut.ogg",
    "LRTrain_slowing_down_01_LA_cut.ogg",
    "LRApplauses_1_LA_cut.ogg",
    "LRHeart_beat_01_LA.ogg",
    "LRBuddhist_gong_05_LA.ogg",
    "samples/misc_crow.flac",
    "samples/misc_burp.flac",
    "samples/drum_snare_hard.flac",
    "samples/ambi_choir.flac",
    "samples/guit_em9.flac",
    "samples/perc_bell.flac",
    "samples/loop_amen_full.flac",
    "instruments/resource/trumpet.ogg",
    "stamps/animals/birds/rooster.ogg",
    "stamps/household/vacuum_cleaner.ogg",
    "en_US_f_Allison/demo-thanks.g722",
)


def folder() -> Path:
    """Where corpora, caches and checkpoints live: never inside the repository."""
    return Path(os.environ.get("SOFTMOA_CORPUS", "~/.cache/softmoa")).expanduser()


def download(packages: tuple[Package, ...]) -> None:
    """Fetch the packages that are not there yet, each on its own so that one gone does no harm."""
    debs = folder() / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    for package in packages:
        if deb_of(package.name) is None:
            got = subprocess.run(
                ["apt-get", "download", package.name], cwd=debs, capture_output=True, text=True
            )
            if got.returncode:
                typer.echo(f"{package.name} cannot be downloaded: {got.stderr.strip()}", err=True)


def deb_of(name: str) -> Path | None:
    return next((folder() / "debs").glob(f"{name}_*.deb"), None)


def members(deb: Path) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of every sound and copyright file, archives inside the package opened."""
    unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=unpack.stdout, mode="r|") as tar:
        for member in tar:
            path = member.name.removeprefix("./")
            name = path.lower()
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:  # a folder or a link
                continue
            if name.endswith(AUDIO) or name.endswith("/copyright"):
                yield path, file.read()
            elif name.endswith(ARCHIVES):
                data = io.BytesIO(file.read())
                if zipfile.is_zipfile(data):
                    with zipfile.ZipFile(data) as archive:
                        for inner in archive.namelist():
                            if inner.lower().endswith(AUDIO):
                                yield f"{path}/{inner}", archive.read(inner)
            elif name.endswith(".rcc"):
                for inner, data in qt_resources(file.read()):
                    if inner.lower().endswith(AUDIO):
                        yield path + inner, data
            elif name.endswith(".cat"):
                yield from openttd_sounds(path, file.read())
    unpack.wait()


def qt_resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files of a Qt resource bundle (.rcc).

    Header: magic `qres`, then big-endian version and the offsets of the tree, the data and the
    names. A tree entry holds its name's offset, flags (1: zlib, 2: folder) and either its children
    or the offset of its data; from version 2 on it is followed by a time stamp.
    """
    version, tree, payload, names = struct.unpack_from(">4I", data, 4)
    size = 14 if version == 1 else 22

    def name(entry: int) -> str:
        at = names + struct.unpack_from(">I", data, tree + entry * size)[0]
        letters = struct.unpack_from(">H", data, at)[0]
        return data[at + 6 : at + 6 + 2 * letters].decode("utf-16-be")

    def walk(entry: int, path: str) -> Iterator[tuple[str, bytes]]:
        flags = struct.unpack_from(">H", data, tree + entry * size + 4)[0]
        if flags & 2:
            count, first = struct.unpack_from(">II", data, tree + entry * size + 6)
            for child in range(first, first + count):
                yield from walk(child, f"{path}/{name(child)}")
            return
        at = payload + struct.unpack_from(">I", data, tree + entry * size + 10)[0]
        content = data[at + 4 : at + 4 + struct.unpack_from(">I", data, at)[0]]
        yield path, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


def openttd_sounds(path: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The RIFF files inside an OpenTTD sound catalogue, found by their magic."""
    for match in re.finditer(rb"RIFF(....)WAVE", data, re.DOTALL):
        length = 8 + struct.unpack("<I", match[1])[0]
        yield f"{path}/{match.start()}.wav", data[match.start() : match.start() + length]


def decode(path: str, data: bytes) -> np.ndarray:
    """The first FILE_SECONDS as mono float32 at 16 kHz; empty if the file cannot be read."""
    try:
        if path.endswith(".g722"):
            import av

            with av.open(io.BytesIO(data), mode="r", format="g722") as container:
                frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
            return np.concatenate(frames)[: FILE_SECONDS * SAMPLE_RATE] / np.float32(2**15)
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            rate = sound.samplerate
            samples = sound.read(FILE_SECONDS * rate, dtype="float32", always_2d=True).mean(axis=1)
    except (soundfile.LibsndfileError, OSError, ValueError):
        return np.zeros(0, np.float32)
    samples = soxr.resample(samples, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else samples
    peak = np.abs(samples).max(initial=0)
    return (samples / max(peak, 1)).astype(np.float32) if np.isfinite(peak) else samples[:0]


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
    target = folder() / "packages" / f"{package.name}.npz"
    deb = deb_of(package.name)
    if target.exists() or deb is None:
        return f"{package.name}: {'decoded before' if deb else 'not there'}"
    clips, rows, licence = [], [], ""
    for path, data in members(deb):
        if path.endswith("/copyright"):
            licence = licences(data.decode("utf-8", "replace"))
            continue
        if zlib.crc32(path.encode()) % 1000 >= 1000 * package.keep:
            continue
        samples = decode(path, data)
        digest = hashlib.sha256(np.round(samples * 2000).astype(np.int16).tobytes()).hexdigest()
        for start in range(0, len(samples), CLIP_SECONDS * SAMPLE_RATE):
            clip = samples[start : start + CLIP_SECONDS * SAMPLE_RATE]
            if len(clip) >= MIN_SECONDS * SAMPLE_RATE and np.sqrt(np.mean(clip**2)) > MIN_RMS:
                clips.append(np.round(clip * 32767).astype(np.int16))
                rows.append((path, kind_of(package, path), digest[:16], start / SAMPLE_RATE))
    partial = target.with_suffix(".part.npz")
    np.savez(
        partial,
        samples=np.concatenate([*clips, np.zeros(0, np.int16)]),
        lengths=np.array([len(clip) for clip in clips], np.int64),
        rows=np.array(rows, dtype=str).reshape(-1, 4),
        licence=licence,
    )
    partial.rename(target)
    return f"{package.name}: {len(clips)} clips, {sum(map(len, clips)) / SAMPLE_RATE / 60:.1f} min"


def merge(packages: tuple[Package, ...]) -> None:
    """Join the packages into corpus.i16 and corpus.csv: no HELD_OUT, and of copies the first.

    The hash is that of the file's decoded samples rounded to 1/2000, which also finds many
    re-encoded copies.
    """
    files = {
        package.name: folder() / "packages" / f"{package.name}.npz"
        for package in packages
        if (folder() / "packages" / f"{package.name}.npz").exists()
    }
    # Hashes taken already and by which file; a held-out file takes its hash from all others.
    taken = {
        digest: "held out"
        for file in files.values()
        for path, _, digest, _ in np.load(file)["rows"]
        if path.endswith(HELD_OUT)
    }
    start = 0
    with (
        (folder() / "corpus.i16").open("wb") as audio,
        (folder() / "corpus.csv").open("w", newline="") as table,
    ):
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


def read() -> tuple[np.ndarray, list[dict[str, str]]]:
    """All samples of the corpus (16-bit, mapped from disk) and the rows of its manifest."""
    with (folder() / "corpus.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    return np.memmap(folder() / "corpus.i16", np.int16, mode="r"), rows


def landmarks(samples: np.ndarray) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Pairs of spectral peaks (bin, bin, frames between) and the frame of the first.

    Two encodings of one recording share many, at a constant shift, whatever their level; other
    sounds share few (Wang 2003, "An industrial-strength audio search algorithm").
    """
    if len(samples) < 2048:
        return
    frames = torch.from_numpy(samples).unfold(0, 1024, 256) * torch.hann_window(1024)
    level = torch.log(torch.fft.rfft(frames).abs()[:, :400] + 1e-4)
    highest = F.max_pool2d(level[None, None], (15, 25), 1, (7, 12))[0, 0]
    peaks = torch.nonzero((level == highest) & (level > level.mean() + 1)).tolist()
    for i, (frame, low) in enumerate(peaks):
        later = [(t - frame, high) for t, high in peaks[i + 1 : i + 30] if 2 <= t - frame <= 60]
        for gap, high in later[:4]:
            yield (low, high, gap), frame


def check() -> None:
    """Print the clips of the corpus that hold the same recording as a clip of ESC-10 or of
    assets/examples under another name."""
    gallery = (path for path in (ASSETS / "examples").iterdir() if path.suffix.lower() in AUDIO)
    files = [*esc10()[0], *sorted(gallery)]
    known = defaultdict(list)
    for number, file in enumerate(files):
        for mark, frame in landmarks(load(file).waveform.numpy()):
            known[mark].append((number, frame))
    samples, rows = read()
    for row in rows:
        start, length = int(row["start"]), int(row["samples"])
        clip = samples[start : start + length].astype(np.float32) / 32768
        votes: Counter[tuple[int, int]] = Counter()
        for mark, frame in landmarks(clip):
            votes.update((number, (at - frame) // 2) for number, at in known.get(mark, ()))
        for (number, _), count in votes.most_common(1):
            if count >= SAME_VOTES:
                typer.echo(f"{count} {files[number].name} {row['package']} {row['path']}")


def main(
    workers: int = 2,
    compare: Annotated[bool, typer.Option("--check", help="only compare with test sounds")] = False,
) -> None:
    """Download, decode and merge; a second run only merges."""
    if compare:
        return check()
    (folder() / "packages").mkdir(parents=True, exist_ok=True)
    download(PACKAGES)
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(decode_package, package) for package in PACKAGES]
        for done, job in enumerate(as_completed(jobs), 1):
            typer.echo(f"[{done}/{len(jobs)}] {job.result()}")
    merge(PACKAGES)
    _, rows = read()
    for kind in ("effects", "music", "speech"):
        lengths = [int(row["samples"]) for row in rows if row["kind"] == kind]
        hours = sum(lengths) / SAMPLE_RATE / 3600
        typer.echo(f"{kind}: {len(lengths)} clips, {hours:.2f} h")


if __name__ == "__main__":
    typer.run(main)
