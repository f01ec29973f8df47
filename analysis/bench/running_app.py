"""The app as a process of its own, for what tests, loads and times it from outside."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


def browser_options(microphone: Path) -> dict[str, Any]:
    """How Playwright is to launch Chromium: without a screen and requests of its own, with a
    microphone that plays this WAV file from its start at every recording."""
    return {
        "executable_path": CHROMIUM,
        "args": [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}",
        ],
    }


class RunningApp(NamedTuple):
    """address: with a slash at its end. started: seconds until the first page."""

    process: subprocess.Popen
    address: str
    started: float


@contextmanager
def running_app(
    environment: Mapping[str, str] = os.environ, folder: Path = ROOT
) -> Iterator[RunningApp]:
    """The app of a folder on a free port, once it answers; ended with the block. Raises
    RuntimeError if it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py"]
    environment = {**environment, "GRADIO_SERVER_PORT": str(port)}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        while not _answers(address):
            if process.poll() is not None or time.perf_counter() - began > 240:
                raise RuntimeError("the app does not start")
            time.sleep(0.05)
        yield RunningApp(process, address, time.perf_counter() - began)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=60).close()
    except OSError:
        return False
    return True
