"""A comparison on disk: events.jsonl and results.csv as it goes, a bundle for every run.

The folder can be read again, by the app or a study, also after an interrupted comparison.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from softmoa.data import archive
from softmoa.data.archive import ZipLimits
from softmoa.data.tasks import TaskError
from softmoa.data.values import to_cell, to_json
from softmoa.methods import bundle
from softmoa.model.weights import read_safetensors
from softmoa.training import fit
from softmoa.training.events import (
    ComparisonEvent,
    Earlier,
    Planned,
    Preparing,
    ProbeScored,
    RouterBalance,
    RunEvent,
    RunFailed,
    RunFinished,
    RunKept,
    TrainedBundle,
)
from softmoa.training.plan import slug

COLUMNS = (
    "method", "seed", "trained_parameters", "train_clips", "epochs", "seconds",
    "clips_per_second", "peak_memory_mb", "val_accuracy", "test_accuracy",
    "probe_accuracy", "device", "fold",
)  # fmt: skip
MOST_LINE = 2**22  # letters of one event
MOST_LOG_BYTES = 2**25  # of its events
MOST_VALUES = 1_500_000  # in them, of up to 90 bytes; the recorded race of 35 runs has 175,000
KEPT_FILES = ("events.jsonl", "results.csv", ".safetensors")
PACKED = ZipLimits(files=250, file_mb=500, total_mb=500, ratio=30, depth=2)

# What a line raises that is no event, and events that cannot have come one after another.
UNFIT = (AttributeError, KeyError, RecursionError, TypeError, ValueError)
_OF_A_RUN = {kind.__name__: TypeAdapter(kind) for kind in get_args(fit.Event)}
_RUN_EVENT = TypeAdapter(RunEvent)
_KINDS = {
    kind.__name__: TypeAdapter(kind)
    for kind in (Planned, Preparing, ProbeScored, RouterBalance, RunFinished, RunFailed)
}


def record(
    events: Iterable[ComparisonEvent], folder: Path, earlier: Earlier | None = None
) -> Iterator[ComparisonEvent]:
    """Pass the events on, each after it is safely in `folder`; the trained tensors go there alone:
    a page may be open for hours.

    earlier: what the folder held; its events come after the plan. Raises TaskError if that was
    another comparison.
    """
    events, earlier = iter(events), earlier or Earlier()
    plan = next(events)
    assert isinstance(plan, Planned)
    if earlier.plan and as_line(earlier.plan) != as_line(plan):
        raise TaskError(f"The folder {folder} holds another comparison; name another one.")
    (folder / "bundles").mkdir(parents=True, exist_ok=True)
    with (
        (folder / "events.jsonl").open("w", buffering=1) as log,
        (folder / "results.csv").open("w", buffering=1, newline="") as table,
    ):
        rows: csv.DictWriter[str] = csv.DictWriter(table, COLUMNS)
        rows.writeheader()
        for event in chain([plan], earlier.events, events):
            if isinstance(event, TrainedBundle):
                bundle.save(bundle_path(folder, plan, event.run), event.state, event.info)
                continue
            if isinstance(event, RunKept):
                keep(event.checkpoint, checkpoint_path(folder, plan, event.run))
                continue
            if isinstance(event, RunFinished):
                rows.writerow(as_row(event) | {"fold": to_cell(event.fold)})
                checkpoint_path(folder, plan, event.run).unlink(missing_ok=True)
            log.write(to_json(as_line(event)) + "\n")
            yield event


def left(folder: Path) -> Earlier:
    """What a comparison left in a folder, to go on from there; raises TaskError as `read` does."""
    log = folder / "events.jsonl"
    if not log.exists() or not log.stat().st_size:  # empty: refused before it began
        return Earlier()
    plan, *events = read(folder)
    assert isinstance(plan, Planned)
    over = {e.run for e in events if isinstance(e, RunFinished)}
    paths = {of.run: checkpoint_path(folder, plan, of.run) for of in plan.runs}
    under_way = {run: kept(p) for run, p in paths.items() if run not in over and p.exists()}

    def holds(event: ComparisonEvent) -> bool:
        if isinstance(event, ProbeScored):
            return True
        if isinstance(event, (Planned, Preparing, RunFailed)):
            return False
        if event.run in over:
            return True
        step = getattr(getattr(event, "event", event), "step", 0)
        return event.run in under_way and step <= under_way[event.run].step

    return Earlier(plan, tuple(filter(holds, events)), frozenset(over), under_way)


def keep(checkpoint: fit.Checkpoint, path: Path) -> None:
    """Write a checkpoint; one that was there is replaced in one step."""
    path.parent.mkdir(exist_ok=True)
    numbers = {f.name: str(getattr(checkpoint, f.name)) for f in fields(checkpoint)[:-1]}
    bundle.write(path, checkpoint.state, numbers)


def kept(path: Path) -> fit.Checkpoint:
    """The checkpoint of a file."""
    state, numbers = read_safetensors(path)
    return fit.Checkpoint(**{key: json.loads(of) for key, of in numbers.items()}, state=state)


def checkpoint_path(folder: Path, plan: Planned, run: str) -> Path:
    """Where the checkpoint of a run lies while it is under way."""
    return folder / "checkpoints" / bundle_path(folder, plan, run).name


def bundle_path(folder: Path, plan: Planned, run: str) -> Path:
    """Where the bundle of a run lies in the folder of its comparison."""
    of = next(of for of in plan.runs if of.run == run)
    fold = f"-fold{of.fold}" if of.fold else ""
    name = f"{plan.task}-{slug(of.method)}{fold}-seed{of.seed}.safetensors"
    return folder / "bundles" / name


def as_line(event: ComparisonEvent) -> dict[str, Any]:
    """One event as plain values, of seven digits."""
    values = asdict(event)
    kind = type(event).__name__
    if isinstance(event, RunEvent):
        kind = type(event.event).__name__
        values |= values.pop("event")
    text = json.dumps({"event": kind, **values})
    return json.loads(text, parse_float=lambda number: float(f"{float(number):.7g}"))


def as_row(event: RunFinished) -> dict[str, Any]:
    """Its row of results.csv."""
    line = as_line(event)
    return {name: line[name] for name in COLUMNS}


def read(folder: Path) -> list[ComparisonEvent]:
    """The events of a folder of `record`; a line that was cut off by an interruption is left out.

    Raises TaskError if it holds no comparison.
    """
    log, events, values = folder / "events.jsonl", [], 0
    large = TaskError(f"{folder.name} is larger than any comparison.")
    try:
        if log.stat().st_size > MOST_LOG_BYTES:
            raise large
        with log.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                if len(line) > MOST_LINE:  # what it unpacks to is not bounded yet
                    raise TaskError(f"A line of {folder.name} is longer than any of a comparison.")
                values += line.count(",")
                if values > MOST_VALUES:  # short ones take many times as much memory as text
                    raise large
                try:
                    events.append(_event(json.loads(line)))
                except json.JSONDecodeError:
                    if line.endswith("\n"):
                        raise
        _check(events)
    except TaskError:
        raise
    except (OSError, *UNFIT):
        raise TaskError(f"{folder.name} holds no comparison that can be read.") from None
    return events


def _event(line: Any) -> ComparisonEvent:
    """The event of a line; raises one of UNFIT if there is none such."""
    kind = line.pop("event")
    if "warm_head" in line:  # in recordings of before there was a choice of two names
        line["start"] = "probe" if line.pop("warm_head") else "cold"
    if kind not in _OF_A_RUN:
        return _KINDS[kind].validate_python(line)
    of_run = {name: line.pop(name) for name in ("run", "method", "seed")}
    event = _OF_A_RUN[kind].validate_python(line)
    return _RUN_EVENT.validate_python({**of_run, "event": event})


def _check(events: list[ComparisonEvent]) -> None:
    """Whether the events can have come one after another; raises ValueError if not."""
    plan, *others = events
    if not isinstance(plan, Planned):
        raise ValueError("a comparison begins with its plan")
    if not plan.truth or len(plan.truth) != len(plan.clips) or not plan.backbone_parameters:
        raise ValueError("nothing to test")
    planned, started, over = {run.run: run for run in plan.runs}, set(), set()
    shapes: dict[str, tuple[int, int]] = {}
    for event in others:
        if isinstance(event, Planned):
            raise ValueError("a second plan")
        if isinstance(event, ProbeScored | RunFinished):
            if max(event.predicted, default=0) >= len(plan.labels):
                raise ValueError("a prediction that is no class")
            if len(event.confidence) != len(event.predicted):
                raise ValueError("a prediction without its confidence")
        if isinstance(event, ProbeScored) and event.split == "test" and event.predicted:
            if len(event.predicted) != len(plan.clips_in(event.fold)):
                raise ValueError("not one prediction for every test clip")
        if isinstance(event, (Preparing, ProbeScored, TrainedBundle, RunKept)):
            continue
        of = planned[event.run]
        if (event.method, event.seed) != (of.method, of.seed):
            raise ValueError("a run that was not planned")
        if isinstance(event, RunEvent) and isinstance(event.event, fit.Started):
            started.add(event.run)
        elif event.run not in started and not isinstance(event, RunFailed):
            raise ValueError("a run that had not begun")
        if isinstance(event, RouterBalance):
            widths = {len(row) for row in event.share}
            shape = len(event.share), max(widths, default=0)
            if len(widths) != 1 or not all(shape) or shapes.setdefault(event.run, shape) != shape:
                raise ValueError("shares of other experts")
        if isinstance(event, RunFinished | RunFailed):
            if event.run in over:
                raise ValueError("a run that ends twice")
            over.add(event.run)
        if isinstance(event, RunFinished):
            if event.fold != of.fold or len(event.predicted) != len(plan.clips_in(event.fold)):
                raise ValueError("not one prediction for every test clip")


def cut_off(events: Sequence[ComparisonEvent]) -> list[RunFailed]:
    """What marks the runs that were planned and did not come to their end."""
    plan, *others = events
    assert isinstance(plan, Planned)
    over = {event.run for event in others if isinstance(event, (RunFinished, RunFailed))}
    why = "The run was interrupted before its end."
    return [RunFailed(of.run, of.method, of.seed, why) for of in plan.runs if of.run not in over]


def pack(folder: Path) -> Path:
    """All files of a comparison in one zip beside its folder."""
    return Path(shutil.make_archive(str(folder), "zip", folder))


def unpack(path: Path, folder: Path) -> None:
    """The files of a packed comparison into `folder`, which is empty or new; see `archive.unpack`.

    Raises TaskError if it is not the zip of a comparison, or larger than any, and OSError if the
    disk is full.
    """
    archive.unpack(path, folder, PACKED, KEPT_FILES)
