"""A comparison on disk: events.jsonl and results.csv as it goes, a bundle for every run.

The folder can be read again, by the app or a study, also after an interrupted comparison.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PureWindowsPath
from typing import Any, get_args

from safetensors import SafetensorError
from safetensors.torch import save_file

from softmoa import bundle, training
from softmoa.bundle import BundleInfo
from softmoa.events import (
    ComparisonEvent,
    Planned,
    PlannedRun,
    Preparing,
    RouterBalance,
    RunEvent,
    RunFailed,
    RunFinished,
)
from softmoa.experiment import bundle_name
from softmoa.methods import METHODS
from softmoa.tasks import TaskError
from softmoa.tasks.archive import DAMAGE, not_writable

COLUMNS = (
    "method", "seed", "trained_parameters", "train_clips", "epochs", "seconds",
    "clips_per_second", "peak_memory_mb", "val_accuracy", "test_accuracy",
)  # fmt: skip
BUNDLE_FILES = "*.safetensors"
MOST_BYTES, MOST_FILES = 2**29, 200  # of an unpacked comparison
MOST_LOG_BYTES, MOST_RUNS = 2**25, 200  # of its events; the memory they take is some times as much

_PACKED = re.compile(r"events\.jsonl|results\.csv|bundles/[^/\\]+\.safetensors")
_TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool}
_OF_A_RUN = {kind.__name__: kind for kind in get_args(training.Event)}


def record(events: Iterable[ComparisonEvent], folder: Path) -> Iterator[ComparisonEvent]:
    """Pass the events on, each after it is safely in `folder`."""
    (folder / "bundles").mkdir(parents=True, exist_ok=True)
    with (
        (folder / "events.jsonl").open("w", buffering=1) as log,
        (folder / "results.csv").open("w", buffering=1, newline="") as table,
    ):
        rows = csv.DictWriter(table, COLUMNS, extrasaction="ignore")
        rows.writeheader()
        for event in events:
            if isinstance(event, RunFinished):
                rows.writerow({name: _rounded(getattr(event, name)) for name in COLUMNS})
                save_bundle(event, folder / "bundles")
            log.write(json.dumps(as_line(event)) + "\n")
            yield event


def save_bundle(run: RunFinished, folder: Path) -> Path:
    """Write the bundle of a run."""
    path = bundle_path(run, folder)
    try:
        save_file(run.state, path, metadata=bundle.header(run.info))
    except SafetensorError as error:  # its way to report a full disk
        path.unlink(missing_ok=True)
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code)) from None
    return path


def bundle_path(run: RunFinished, folder: Path) -> Path:
    """Where the bundle of a run lies: named by task, method and seed."""
    return folder / f"{run.info.name}-seed{run.seed}.safetensors"


def as_line(event: ComparisonEvent) -> dict[str, Any]:
    """One event as plain values; tensors stay out of the log."""
    if isinstance(event, RunEvent):
        kind = type(event.event).__name__
        return {"event": kind, "run": event.run, "method": event.method, "seed": event.seed} | {
            key: _rounded(value) for key, value in asdict(event.event).items()
        }
    if isinstance(event, RunFinished):
        kept = {name: _rounded(getattr(event, name)) for name in COLUMNS}
        confidence = [_rounded(p) for p in event.confidence]
        return {"event": "RunFinished", "run": event.run, **kept} | {
            "predicted": event.predicted,
            "confidence": confidence,
        }
    if isinstance(event, RouterBalance):
        share = [[_rounded(part) for part in row] for row in event.share]
        return {"event": "RouterBalance", **asdict(event), "share": share}
    return {"event": type(event).__name__, **asdict(event)}


@dataclass(frozen=True)
class SavedComparison:
    """What a folder holds. The events are those that were recorded, but for the trained tensors,
    which lie in `bundles`."""

    events: tuple[ComparisonEvent, ...]
    bundles: tuple[Path, ...]


def read(folder: Path) -> SavedComparison:
    """Read a folder of `record`; a line that was cut off by an interruption is left out.

    Raises TaskError if it holds no comparison of this version.
    """
    events: list[ComparisonEvent] = []
    started: set[str] = set()
    log = folder / "events.jsonl"
    try:
        if log.stat().st_size > MOST_LOG_BYTES:
            raise TaskError(f"{folder.name} is larger than any comparison.")
        lines = log.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            try:
                values = json.loads(line)
            except ValueError:
                if number == len(lines) - 1:
                    continue
                raise
            events.append(_event(values, events[0] if events else None))
            _check(events[-1], started)
    except TaskError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TaskError(f"{folder.name} holds no comparison that can be read.") from None
    if not events:
        raise TaskError(f"{folder.name} holds no comparison that can be read.")
    return SavedComparison(tuple(events), tuple(sorted((folder / "bundles").glob(BUNDLE_FILES))))


def cut_off(events: Iterable[ComparisonEvent]) -> list[RunFailed]:
    """What marks the runs that were planned and did not come to their end."""
    planned, over = {}, set()
    for event in events:
        if isinstance(event, Planned):
            planned = {run.run: run for run in event.runs}
        elif isinstance(event, (RunFinished, RunFailed)):
            over.add(event.run)
    return [
        RunFailed(run.run, run.method, run.seed, "The run was interrupted before its end.")
        for name, run in planned.items()
        if name not in over
    ]


def pack(folder: Path) -> Path:
    """All files of a comparison in one zip beside its folder."""
    return Path(shutil.make_archive(str(folder), "zip", folder))


def unpack(archive: Path, folder: Path) -> None:
    """The files of a packed comparison into `folder`; anything else in the zip is left alone.

    Raises TaskError if it is not the zip of a comparison, or larger than any, and OSError if the
    disk is full.
    """
    (folder / "bundles").mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            wanted = [entry for entry in packed.infolist() if _PACKED.fullmatch(entry.filename)]
            if sum(entry.file_size for entry in wanted) > MOST_BYTES or len(wanted) > MOST_FILES:
                raise TaskError(f"{archive.name} is larger than any comparison.")
            for entry in wanted:
                with packed.open(entry) as source, (folder / entry.filename).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (*DAMAGE, RuntimeError) as error:  # RuntimeError: an encrypted one
        if not_writable(error):
            raise
        raise TaskError(f"{archive.name} is not a zip file that can be read.") from None


def _check(event: ComparisonEvent | training.Event, started: set[str]) -> None:
    """Whether an event that was read can have been written; raises ValueError if not.

    started: the runs that have begun, which this adds to.
    """
    _check_kinds(event)
    if isinstance(event, RunEvent):
        _check(event.event, started)
        if isinstance(event.event, training.Started):
            if event.event.steps < 1:
                raise ValueError("a run without a step")
            started.add(event.run)
    if isinstance(event, (RunEvent, RunFinished, RouterBalance)) and event.run not in started:
        raise ValueError("a run that had not begun")


def _check_kinds(values: Any) -> None:
    """Raises ValueError if a field of a dataclass holds what it says it does not."""
    for of in fields(values):
        if of.type in _TYPES and not isinstance(getattr(values, of.name), _TYPES[of.type]):
            raise ValueError(f"{of.name} of {type(values).__name__} is of another kind")


def _event(line: dict[str, Any], plan: Any) -> ComparisonEvent:
    """The event of a line; `plan`: the first event, which says what `info` of a result does."""
    line = dict(line)
    kind = line.pop("event")
    if kind == "Planned":
        runs = tuple(PlannedRun(**run) for run in line.pop("runs"))
        if len(runs) > MOST_RUNS:
            raise ValueError("more runs than any comparison has")
        for run in runs:
            _check_kinds(run)
        if PureWindowsPath(line["task"]).name != line["task"]:  # bundles are named by it
            raise ValueError("the task is a path")
        if not all(isinstance(text, str) for text in (*line["labels"], *line["clips"])):
            raise ValueError("a label or clip that is no text")
        if unknown := {run.method for run in runs} - set(METHODS):
            raise ValueError(f"no such method: {unknown}")
        if not set(line["truth"]) <= set(range(len(line["labels"]))):
            raise ValueError("a test clip of no class")
        _numbers(line["training"]["seconds"] or 0)
        groups = line.setdefault("groups", [])
        numbered = all(type(group) is int and 0 <= group < len(groups) for group in groups)
        if not numbered or groups and len(groups) != len(line["truth"]):
            raise ValueError("not one group for every test clip")
        for name in ("labels", "truth", "clips", "groups"):
            line[name] = tuple(line[name])
        return Planned(**line, runs=runs)
    if not isinstance(plan, Planned):
        raise ValueError("a comparison begins with its plan")
    if kind == "Preparing":
        return Preparing(**line)
    of_run = {name: line.pop(name) for name in ("run", "method", "seed")}
    if of_run["run"] not in {run.run for run in plan.runs}:
        raise ValueError("a run that was not planned")
    if kind == "RouterBalance":
        share = tuple(tuple(row) for row in line["share"])
        _numbers(*(part for row in share for part in row))
        return RouterBalance(**of_run, step=line["step"], share=share)
    if kind == "RunFailed":
        return RunFailed(**of_run, **line)
    if kind == "RunFinished":
        planned = next(run for run in plan.runs if run.run == of_run["run"])
        info = BundleInfo(
            bundle_name(plan.task, planned.method),
            plan.task,
            planned.method,
            planned.options,
            plan.labels,
            plan.backbone,
            "",
            seed=planned.seed,
        )
        predicted, confidence = tuple(line.pop("predicted")), tuple(line.pop("confidence"))
        if not len(predicted) == len(confidence) == len(plan.truth):
            raise ValueError("not one prediction for every test clip")
        _numbers(*confidence)
        if not set(predicted) <= set(range(len(plan.labels))):
            raise ValueError("a prediction that is no class")
        return RunFinished(
            **of_run, **line, predicted=predicted, confidence=confidence, info=info, state={}
        )
    return RunEvent(**of_run, event=_OF_A_RUN[kind](**line))


def _numbers(*values: Any) -> None:
    if not all(isinstance(value, (int, float)) for value in values):
        raise ValueError("words where numbers belong")


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value
