"""Measuring, and what a measurement looks like on disk."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import torch
from torch import Tensor

from softmoa.data.audio import SAMPLE_RATE


@dataclass(frozen=True)
class Setting:
    """How to measure. rounds: turns each action takes."""

    device: torch.device
    rounds: int

    def wait(self) -> None:
        """Until the device is done with what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Result:
    """One comparison, or one plain number where there is no peer.

    ours, peer: medians. ratio: ours over the peer's; of the fastest rounds in `least_ratio`.
    target: the ratio that is aimed at, or with no peer the value. checked: how the outputs were
    compared before anything was timed.
    """

    what: str
    ours: float
    unit: str = "ms"
    against: str = ""
    peer: float | None = None
    ratio: float | None = None
    least_ratio: float | None = None
    target: float | None = None
    checked: str = ""

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return (self.ours if self.ratio is None else self.ratio) <= self.target


def alternate(setting: Setting, *actions: Callable[[], object]) -> list[list[float]]:
    """Milliseconds of every round of each action, taking turns after one warm-up each."""
    for action in actions:
        action()
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(setting.rounds):
        for action, kept in zip(actions, times, strict=True):
            setting.wait()
            began = time.perf_counter()
            action()
            setting.wait()
            kept.append(1000 * (time.perf_counter() - began))
    return times


def in_turns(
    setting: Setting,
    what: str,
    against: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    target: float | None = None,
    checked: str = "",
) -> Result:
    """Ours and a peer's, in turns."""
    mine, theirs = alternate(setting, ours, peer)
    return compared(what, against, mine, theirs, target, checked)


def of_a_product(
    setting: Setting, what: str, work: int, ours: Callable[[], object], kind: torch.dtype, size: int
) -> Result:
    """How many of the operations of one square product of a kind and size `ours` does in a second,
    if it does `work` of them."""
    a = torch.randn(size, size, device=setting.device, dtype=kind)
    taken, product = (median(times) for times in alternate(setting, ours, lambda: a @ a))
    reached, peak = work / taken / 1e6, 2 * size**3 / product / 1e6
    against = f"a {size} by {size} product"
    return Result(f"{what}, {taken:.0f} ms", reached, "GFLOP/s", against, peak, reached / peak)


def compared(
    what: str,
    against: str,
    ours: list[float],
    peer: list[float],
    target: float | None = None,
    checked: str = "",
) -> Result:
    """Of the milliseconds of every round."""
    ratio, least = median(ours) / median(peer), min(ours) / min(peer)
    return Result(what, median(ours), "ms", against, median(peer), ratio, least, target, checked)


def equal(ours: Tensor, theirs: Tensor, tolerance: float) -> str:
    """Says how far two outputs are apart, relative to the largest value; fails beyond tolerance."""
    ours, theirs = ours.detach().float().cpu(), theirs.detach().float().cpu()
    apart = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert apart <= tolerance, f"outputs differ by {apart:.2g} of the largest value"
    return f"{apart:.1e} of the largest value, at most {tolerance:g}"


@contextmanager
def sound_file(seconds: float) -> Iterator[Path]:
    """A WAV file of noise under a slow swell, 16 kHz."""
    time_axis = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 0.1, len(time_axis))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{seconds:g}s.wav"
        soundfile.write(path, noise * np.sin(0.5 * time_axis), SAMPLE_RATE)
        yield path


def processor() -> str:
    """Its name, where the system tells."""
    names = [
        line.partition(":")[2].strip()
        for line in _read("/proc/cpuinfo").splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def machine(setting: Setting) -> dict[str, str | int]:
    """What the numbers were measured on."""
    on_gpu = setting.device.type == "cuda"
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "load": _read("/proc/loadavg").partition(" ")[0],
        "gpu": torch.cuda.get_device_name(setting.device) if on_gpu else "",
        "rounds": setting.rounds,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchaudio", "transformers", "peft")},
    }


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def merge(old: dict, found: dict[str, list[Result]], setting: Setting) -> dict:
    """Studies that were run now in place of their older results; the others stay."""
    where = machine(setting)
    new = {name: {"machine": where, "rows": [asdict(r) for r in f]} for name, f in found.items()}
    return old | new


def markdown(results: dict, studies: list[str], device: str, tried: str) -> str:
    """All results as one page; a study that was never run on this device says so."""
    lines = [
        f"# Speed, on {'a GPU' if device == 'cuda' else 'the processor'}",
        "",
        "`python -m analysis.bench [STUDY ...] [--device cpu|cuda] [--quick]` writes this page. "
        "Ours and the peer run in one process, in turns, with the same weights; outputs are "
        "compared before anything is timed. Times are medians; the ratio in brackets is of the "
        "fastest rounds.",
    ]
    for name in studies:
        lines += ["", f"## {name}", ""]
        if name not in results:
            lines += ["not run"]
            continue
        where = results[name]["machine"]
        lines += [", ".join(f"{k} {v}" for k, v in where.items() if v != ""), ""]
        lines += ["| what | ours | against | its | ratio | target | outputs |", "|---" * 7 + "|"]
        lines += [_line(Result(**row)) for row in results[name]["rows"]]
    return "\n".join([*lines, "", tried])


def _number(x: float) -> str:
    """Three digits, and never an exponent for a large one."""
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}"


def _line(row: Result) -> str:
    value = f"{_number(row.ours)} {row.unit}"
    peer = "" if row.peer is None else f"{_number(row.peer)} {row.unit}"
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    ratio += "" if row.least_ratio is None else f" ({row.least_ratio:.3f})"
    target = "" if row.target is None else f"≤ {row.target:g}{'' if row.met else ', missed'}"
    return f"| {row.what} | {value} | {row.against} | {peer} | {ratio} | {target} | {row.checked} |"
