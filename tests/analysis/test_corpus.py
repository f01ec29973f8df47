"""The corpus of pretraining: archives of repositories, and what of them is heard."""

import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile

from analysis.pretraining import corpus
from analysis.pretraining.packages import PACKAGES, Package

REPOSITORY = Package(
    "someone/words", kind="speech", commit="c0ffee", under="audio/", licence="CC0-1.0"
)


def wave(hertz: float) -> bytes:
    file = io.BytesIO()
    time = np.arange(8_000) / 16_000
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * hertz * time), 16_000, format="WAV")
    return file.getvalue()


@pytest.fixture
def github(tmp_path, monkeypatch):
    """A server that has the archive of the repository, and an empty corpus folder."""
    archive = tmp_path / "site" / REPOSITORY.name / "tar.gz" / REPOSITORY.commit
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for path, data in (
            ("audio/yes/1.wav", wave(300)),
            ("audio/no/2.wav", wave(500)),
            ("noise/cafe.wav", wave(700)),
        ):
            member = tarfile.TarInfo(f"words-c0ffee/{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "site")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(corpus, "GITHUB", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("SOFTMOA_CORPUS", str(tmp_path / "corpus"))
    (tmp_path / "corpus" / "packages").mkdir(parents=True)
    yield server
    server.shutdown()
    server.server_close()


def test_a_repository_becomes_clips_with_their_origin(github):
    corpus.download((REPOSITORY,))
    assert corpus.decode_package(REPOSITORY) == "someone/words: 2 clips, 0.0 min"
    corpus.merge((REPOSITORY,))
    samples, rows = corpus.read()
    assert [(row["package"], row["path"], row["kind"], row["licence"]) for row in rows] == [
        ("someone/words", "audio/yes/1.wav", "speech", "CC0-1.0"),
        ("someone/words", "audio/no/2.wav", "speech", "CC0-1.0"),
    ]
    spectrum = np.abs(np.fft.rfft(samples[: int(rows[0]["samples"])]))
    assert spectrum.argmax() * 2 == 300  # half a second: bins of 2 Hz


def test_every_repository_names_its_commit_and_licence():
    repositories = [package for package in PACKAGES if "/" in package.name]
    assert repositories
    for package in repositories:
        assert len(package.commit) == 40 and package.licence
        assert package.under or package.without
