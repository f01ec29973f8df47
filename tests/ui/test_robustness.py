"""The app under what happens to servers: killed in mid-run, a full disk, no memory, long trainings.

One server of its own, on a disk of 8 MB, told what to do by raw HTTP calls.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from test_hostile import call, sent, upload

from analysis.bench.running_app import running_app
from softmoa.model.weights import ASSETS

DOG = (ASSETS / "examples" / "dog_bark.ogg").read_bytes()


@pytest.fixture(scope="module")
def disk():
    """A small disk of memory, or where none can be mounted a folder."""
    folder = Path(tempfile.mkdtemp(prefix="softmoa-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if shutil.which("mount"):
        subprocess.run(mount, capture_output=True)
    yield folder
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)
    shutil.rmtree(folder)


@pytest.fixture
def small(disk) -> Path:
    if not disk.is_mount():
        pytest.skip("a disk of memory can be mounted by root only")
    return disk


def app(disk: Path):
    """The running app, whose comparisons and uploads are on the disk, and whose runs are short."""
    folders = {"SOFTMOA_RUNS": f"{disk}/runs", "GRADIO_TEMP_DIR": f"{disk}/uploads"}
    return running_app(os.environ | folders | {"SOFTMOA_MAX_RUN_SECONDS": "15"})


@pytest.fixture(scope="module")
def running(disk):
    with app(disk) as server:
        yield server


def until(condition, seconds: float = 120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def form(*methods: str, task="tones", epochs=1, recipe="short") -> list:
    """What the page sends to start a comparison whose runs follow each other."""
    said = [task, None, list(methods), 10, "epochs", epochs, 1, recipe, True, False, False]
    return [*said, "", False, "", []]


def begin(address: str, *methods: str, **choices) -> str:
    """Start a comparison as the page does; its id."""
    kind, said = call(address, "begin", form(*methods, **choices))
    assert kind == "complete", said
    return said[0]


def watch(address: str, identity: str) -> str:
    """What the page says of a comparison once it is over."""
    kind, said = call(address, "follow", [identity, None])
    assert kind == "complete"
    return re.sub("<[^>]*>", " ", json.dumps(said))


def in_background(act, *values) -> threading.Thread:
    def work():
        try:
            act(*values)
        except (OSError, http.client.HTTPException):
            pass  # the server was killed

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def assert_serves(address: str) -> None:
    kind, [report] = call(address, "classify", [sent(upload(address, DOG)), "esc10-soft-moa", 1])
    assert kind == "complete" and report["labels"][0]["label"] == "dog bark"


def test_a_training_holds_up_no_classification(running):
    address = running[1]
    training = in_background(call, address, "compare", ["tones", "soft-moa", 10, 1000, "0"])
    time.sleep(3)
    assert_serves(address)
    assert training.is_alive()


def test_a_full_disk(running, small):
    address = running[1]
    (small / "uploads").mkdir(exist_ok=True)
    filler = small / "filler"
    with filler.open("wb") as file, pytest.raises(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    with pytest.raises(urllib.error.HTTPError):
        upload(address, DOG)
    kind, said = call(address, "begin", form("linear"))
    said = watch(address, said[0]) if kind == "complete" else said["error"]
    assert "store" in said and "No space left on device." in said
    filler.unlink()
    assert_serves(address)
    assert "1 of 1 runs" in watch(address, begin(address, "linear"))


def test_a_disk_that_fills_up_in_mid_run(running, small):
    """The bundle of full fine-tuning has 43 MB."""
    address = running[1]
    identity = begin(address, "linear", "full")
    assert "cannot be stored here: No space left on device." in watch(address, identity)
    assert [p.name for p in (small / "runs" / identity / "bundles").iterdir()] == [
        "tones-linear-seed0.safetensors"
    ]
    assert_serves(address)


@pytest.mark.slow
def test_no_memory_for_a_training(running):
    process, address, _ = running
    status = Path(f"/proc/{process.pid}/status").read_text()
    size = 1024 * int(re.search(r"VmSize:\s+(\d+)", status)[1])
    limit = ["prlimit", f"--pid={process.pid}"]
    subprocess.run([*limit, f"--as={size + 200_000_000}:"], check=True)
    try:
        kind, said = call(address, "begin", form("full", task="instruments", recipe="paper"))
        said = watch(address, said[0]) if kind == "complete" else said["error"]
    finally:
        subprocess.run([*limit, "--as=unlimited:"], check=True)
    assert "needs more memory than there is" in said or "not enough memory" in said, said[:1000]
    assert_serves(address)


def test_a_server_that_was_killed_still_has_what_was_finished(running, disk):
    process, address, _ = running  # by no other test after this one
    identity = begin(address, "linear", "soft-moa", epochs=30)
    in_background(watch, address, identity)
    log = disk / "runs" / identity / "events.jsonl"
    until(lambda: log.exists() and '"event": "Step", "run": "Soft-MoA' in log.read_text())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with app(disk) as (_, address, _):
        said = watch(address, identity)
        assert "Interrupted: 1 of 2 runs were finished" in said
        assert "The run was interrupted before its end." in said
        assert '"events.jsonl"' in said  # to download
        kept = (disk / "runs" / identity / "bundles").iterdir()
        assert [file.name for file in kept] == ["tones-linear-seed0.safetensors"]
        for other in ("../runs", identity[:-1] + "~", "x" * 12):
            assert "events.jsonl" not in watch(address, other)  # and nothing of another run
        assert "1 of 1 runs" in watch(address, begin(address, "linear"))
