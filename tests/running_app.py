"""The app as a process of its own, on a free port."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def running_app(
    environment: dict[str, str], seconds: float = 240
) -> Iterator[tuple[subprocess.Popen, str]]:
    """The process and its address, once it answers; killed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    address = f"http://127.0.0.1:{port}/"
    try:
        end = time.monotonic() + seconds
        while not answers(address):
            assert process.poll() is None, "the app ended at its start"
            assert time.monotonic() < end, "the app does not answer"
            time.sleep(0.5)
        yield process, address
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address + "config", timeout=60).close()
    except OSError:
        return False
    return True
