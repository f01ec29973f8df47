"""The app as a person meets it: its start, and the first label after an upload, in Chromium."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from playwright.sync_api import expect, sync_playwright

from analysis.bench.measure import Row, Setting
from softmoa.weights import ASSETS

ROOT = Path(__file__).parents[2]


@contextmanager
def started() -> Iterator[tuple[str, float]]:
    """A server of its own: its address, and the milliseconds until its first page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    command = [sys.executable, "app.py", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/"
        while True:
            try:
                urllib.request.urlopen(address, timeout=60)
                break
            except OSError:
                assert process.poll() is None, "the app ended at its start"
                time.sleep(0.05)
        yield address, 1000 * (time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(timeout=60)


def app(setting: Setting) -> list[Row]:
    """`make app` to its first page on a warm disk, and an upload of a 5 s clip to its label."""
    with started():  # warms the disk
        pass
    labelled = []
    with started() as (address, start), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--headless=new", "--no-sandbox"]
        )
        for _ in range(setting.rounds + 1):
            page = browser.new_page()
            page.goto(address)
            page.locator("#examples button").first.wait_for(timeout=120_000)
            page.locator("#sound").get_by_label("Upload file").click()
            began = time.perf_counter()
            page.locator("#sound input[type=file]").set_input_files(
                ASSETS / "examples" / "dog_bark.ogg"
            )
            expect(page.locator("#labels")).to_contain_text("dog bark", timeout=120_000)
            labelled.append(1000 * (time.perf_counter() - began))
            page.close()
        browser.close()
    what = "upload of a 5 s clip to its label, ast-small, in the browser"
    return [
        Row("start to the first page", start, target=12_000),
        Row(f"{what}, first", labelled[0], target=1_500),
        Row(f"{what}, later", median(labelled[1:]), target=1_500),
    ]
