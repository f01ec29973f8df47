"""How a running app holds out: many clients at once, latency, and memory over many sounds.

    python -m analysis.bench.load_test [--clients 20] [--classifications 1000] [--training 2]
    [--stops 30]

Starts the app as a process of its own, lets the clients classify the example clips over HTTP until
so many answers have come, while others train one small comparison after the other; then starts and
stops comparisons. Prints what it found as JSON: answers, refusals because the queue was full,
failures, p50 and p95 of the seconds from asking to the answer (the wait in the queue included), and
the growth of the process's memory after the first tenth of the answers, and of the stopped runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from gradio_client import Client, handle_file

from analysis.bench.running_app import running_app
from softmoa.model.weights import ASSETS

CLIPS = sorted(p for p in (ASSETS / "examples").iterdir() if p.suffix in (".ogg", ".flac"))
QUEUE_FULL = "queue"
PATIENT = {"timeout": 300.0}  # seconds: what is measured is the server, not who waits for it


@dataclass
class Tally:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    compared: int = 0
    stopped: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, error: Exception) -> None:
        with self.lock:
            if QUEUE_FULL in str(error).lower():
                self.refused += 1
            else:
                self.failures.append(str(error)[:200])


def megabytes(process: subprocess.Popen) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("the process is gone")


def client_of(address: str) -> Client:
    return Client(address, verbose=False, httpx_kwargs=PATIENT)


def classify(client: Client, turn: int, tally: Tally) -> None:
    began = time.perf_counter()
    client.predict(handle_file(CLIPS[turn % len(CLIPS)]), api_name="/classify")
    with tally.lock:
        tally.seconds.append(time.perf_counter() - began)


def train(client: Client, turn: int, tally: Tally) -> None:
    answer = client.predict(
        task="tones", methods="linear,adapter", shots=3, epochs=1, api_name="/compare"
    )
    with tally.lock:
        tally.compared += answer["status"] == "done"


def go_on(
    act: Callable[[Client, int, Tally], None], address: str, wanted: int, tally: Tally
) -> None:
    """A client that does the same until so many sounds are classified, by all together."""
    client = client_of(address)
    for turn in count():
        if len(tally.seconds) >= wanted or len(tally.failures) >= 20:
            return
        try:
            act(client, turn, tally)
        except Exception as error:  # whatever it is, it is a finding
            tally.failed(error)
            time.sleep(0.5)


def start_and_stop(address: str, times: int, tally: Tally, process: subprocess.Popen) -> float:
    """Comparisons that are stopped once they train; the growth of memory after the first tenth."""
    client, warm = client_of(address), megabytes(process)
    for k in range(times):
        try:
            run = client.submit(
                task="tones", methods="soft-moa", shots=5, epochs=500, api_name="/compare"
            )
            for answer in run:
                assert isinstance(answer, dict)
                if answer.get("progress", 1) > 0:
                    break
            run.cancel()
            tally.stopped += 1
        except Exception as error:
            tally.failed(error)
        if k + 1 == max(1, times // 10):
            warm = megabytes(process)
    return megabytes(process) - warm


def run(clients: int, classifications: int, training: int, stops: int) -> dict:
    """The load, and what it did."""
    tally = Tally()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(os.environ | {"GRADIO_TEMP_DIR": folder}) as (process, address, _),
    ):
        threads = [
            threading.Thread(target=go_on, args=(act, address, classifications, tally))
            for act in [classify] * clients + [train] * training
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        warm = None
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            if warm is None and len(tally.seconds) >= classifications / 10:
                warm = megabytes(process)
        wall = time.perf_counter() - began
        grown = megabytes(process) - (warm or 0)
        grown_by_stops = start_and_stop(address, stops, tally, process)
    cuts = statistics.quantiles(tally.seconds, n=100) if len(tally.seconds) > 1 else [0.0] * 99
    return {
        "clients": clients,
        "training_clients": training,
        "answers": len(tally.seconds),
        "comparisons": tally.compared,
        "queue_full": tally.refused,
        "failures": tally.failures,
        "p50_s": round(cuts[49], 3),
        "p95_s": round(cuts[94], 3),
        "answers_per_s": round(len(tally.seconds) / wall, 2),
        "memory_growth_mb": round(grown, 1),
        "stopped_runs": tally.stopped,
        "memory_growth_of_stopped_runs_mb": round(grown_by_stops, 1),
    }


def main(
    clients: Annotated[int, typer.Option(min=1)] = 20,
    classifications: Annotated[int, typer.Option(min=10)] = 1000,
    training: Annotated[int, typer.Option(min=0)] = 2,
    stops: Annotated[int, typer.Option(min=0)] = 30,
) -> None:
    """Load a running app."""
    found = run(clients, classifications, training, stops)
    print(json.dumps(found, indent=2))
    raise typer.Exit(bool(found["failures"]))


if __name__ == "__main__":
    typer.run(main)
