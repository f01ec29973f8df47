"""What one anonymous client of a running app can do to the others.

    python -m analysis.bench.strangers [--seconds 20]

Starts the app as a process of its own. A visitor loads the page and has a sound classified, over
and over, from an address of their own: alone at first, then beside one stranger after another who
floods the server in a way of their own, for so many seconds each. Prints JSON: p50 and p95 of both
in seconds, how often the stranger was refused, and how far the server's memory has grown since the
idle time.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import typer

from analysis.bench.load_test import megabytes
from analysis.bench.running_app import running_app
from softmoa.model.weights import ASSETS

DOG = (ASSETS / "examples" / "dog_bark.ogg").read_bytes()
VISITOR = "8.8.8.8"  # as a proxy in front of the app would say
STRANGERS = 4  # threads


class Client(httpx.Client):
    """Raw calls from one address, as one page. events: api_name -> index of the page's events."""

    def __init__(self, server: str, address: str) -> None:
        sent = {"X-Forwarded-For": address}
        each_anew = httpx.Limits(max_keepalive_connections=0)  # connections
        super().__init__(base_url=server, headers=sent, timeout=300, limits=each_anew)
        self.session = f"of {address}"
        self.events = {of["api_name"]: of["id"] for of in self.ask("GET", "config")["dependencies"]}

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """The answer, from JSON. Raises httpx.HTTPError where it is an error."""
        return self.request(method, path, **body).raise_for_status().json()

    def look(self) -> None:
        """Load the page."""
        for path in ("", "config"):
            self.get(path).raise_for_status()

    def upload(self, content: bytes, name: str) -> dict:
        [path] = self.ask("POST", "gradio_api/upload", files={"files": (name, content)})
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def call(self, name: str, values: list) -> None:
        """Ask, and wait for the answer. Raises httpx.HTTPError or OSError where there is none."""
        asked = {"data": values, "session_hash": self.session}
        event = self.ask("POST", f"gradio_api/call/{name}", json=asked)["event_id"]
        answer = self.get(f"gradio_api/call/{name}/{event}").raise_for_status()
        if "event: complete" not in answer.text:
            raise OSError("refused")

    def join(self, name: str, values: list, session: str) -> None:
        """Ask, and never read the answer."""
        asked = {"data": values, "fn_index": self.events[name], "session_hash": session}
        self.ask("POST", "gradio_api/queue/join", json=asked)


def largest_log() -> bytes:
    """A comparison with as much in it as is taken."""
    with zipfile.ZipFile(ASSETS / "comparisons" / "initials.zip") as packed:
        plan, *others = [json.loads(line) for line in packed.read("events.jsonl").splitlines()]
    plan["labels"] = [f"class {k}" for k in range(1000)]
    at = next(k for k, line in enumerate(others) if line["event"] == "Evaluated")
    others[at : at + 1] = [others[at] | {"step": k} for k in range(5000)]
    return "\n".join(map(json.dumps, (plan, *others))).encode()


def silent_zip() -> bytes:
    """Some sounds, and as many zeros as a zip may unpack to."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for k in range(4):
            out.writestr(f"dog/{k}.ogg", DOG + bytes(k))
            out.writestr(f"zero/{k}.wav", bytes(20_000_000))
    return packed.getvalue()


def attacks(client: Client) -> dict[str, Callable[[int], object]]:
    """Name -> one request of the stranger, the k-th."""
    dog, log, silence = client.upload(DOG, "dog.ogg"), largest_log(), silent_zip()
    classify: list = [dog, "esc10-soft-moa", 1]
    return {
        "a flooded queue": lambda k: client.join("classify", classify, f"flood {k % 50}"),
        "new sessions": lambda k: client.join("may_add", ["x"], f"new {k}"),
        "microphones that nobody reads": lambda k: client.join(
            "received", [dog, None], f"live {k}"
        ),
        "uploads": lambda k: client.upload(os.urandom(10_000_000), "noise.wav"),
        "large logs": lambda k: client.call(
            "open_saved", [client.upload(log, "events.jsonl"), None, "", None]
        ),
        "zips of zeros": lambda k: client.call(
            "add_zip", [None, client.upload(silence, "zeros.zip")]
        ),
        "large calls": lambda k: client.join("classify", ["x" * 20_000_000] * 3, f"large {k}"),
    }


def visits(client: Client, seconds: float) -> dict[str, float]:
    """What a visitor sees: p50 and p95 of page loads and of answers, in seconds."""
    took: dict[str, list[float]] = {"page": [], "answer": []}
    dog, end = client.upload(DOG, "dog.ogg"), time.monotonic() + seconds
    while time.monotonic() < end or len(took["page"]) < 5:
        for name, act in (
            ("page", client.look),
            ("answer", lambda: client.call("classify", [dog, "esc10-soft-moa", 1])),
        ):
            began = time.perf_counter()
            act()
            took[name].append(time.perf_counter() - began)
    cuts = {name: statistics.quantiles(of, n=100, method="inclusive") for name, of in took.items()}
    found = {f"{name} p{p}": round(of[p - 1], 2) for name, of in cuts.items() for p in (50, 95)}
    return found | {"visits": len(took["page"])}


def settled(process: subprocess.Popen) -> float:
    """Megabytes once they grow no more: an app that has started warms up for a while."""
    before, now = 0.0, megabytes(process)
    while now > before + 1:
        time.sleep(10)
        before, now = now, megabytes(process)
    return now


def attack(name: str, server: str, address: str, over: Any, tally: Any) -> None:
    """Go on with an attack until it is over; tally: requests taken and refused."""
    act, numbers, lock = attacks(Client(server, address))[name], count(), threading.Lock()

    def go_on() -> None:
        while not over.is_set():
            with lock:
                k = next(numbers)
            try:
                act(k)
                refused = 0
            except (httpx.HTTPError, OSError, ValueError):
                refused = 1
            with lock:
                tally[refused] += 1

    for _ in range(STRANGERS):
        threading.Thread(target=go_on, daemon=True).start()
    over.wait()


def run(seconds: float) -> dict:
    """The visitor alone, and beside every attack, which has a process and an address of its own."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        own = {"GRADIO_TEMP_DIR": f"{folder}/sent", "SOFTMOA_RUNS": f"{folder}/runs"}
        with running_app(os.environ | own) as (process, server, _):
            visitor = Client(server, VISITOR)
            visits(visitor, 1)  # warm
            settled(process)
            found: dict[str, Any] = {"idle": visits(visitor, seconds)}
            before = settled(process)
            for k, name in enumerate(attacks(visitor)):
                over, tally = spawn.Event(), spawn.Array("i", 2)
                address = f"9.9.9.{k + 1}"
                stranger = spawn.Process(target=attack, args=(name, server, address, over, tally))
                stranger.start()
                while not sum(tally[:]):
                    time.sleep(0.1)
                found[name] = visits(visitor, seconds)
                over.set()
                stranger.join()
                found[name] |= dict(zip(("taken", "refused"), tally[:], strict=True))
                found[name]["memory growth, MB"] = round(megabytes(process) - before)
                print(name, found[name], flush=True)
            found["on the disk, MB"] = round(sum(
                path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()
            ) / 1e6)  # fmt: skip
    return found


def main(seconds: float = 20) -> None:
    """Attack a running app."""
    print(json.dumps(run(seconds), indent=2))


if __name__ == "__main__":
    typer.run(main)
