"""Into train, valid and test: stratified by class, groups kept together, the same for one seed.

Clips are given out one group at a time, a clip without a group alone. Each goes to the split that
is furthest from its share of the classes that the group holds, so 3, 4, 5 and 10 clips of a class
become 1/1/1, 2/1/1, 3/1/1 and 6/2/2.

Who goes where is drawn by the seed and the clips' paths within their common folder, so nearly all
clips of a class keep their splits when others join it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from softmoa.data.names import many
from softmoa.data.task import SPLITS, Row, TaskError

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
LEAST = 3  # clips of a class: one for every split
ATTEMPTS = 20  # orders tried where groups make it hard to give every split every class


@dataclass(frozen=True)
class _Unit:
    """Rows that stay together, and the splits that they may go to."""

    key: str
    rows: tuple[int, ...]
    classes: Counter[str]
    allowed: tuple[str, ...]


def assign(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """The rows in their order, each with a split; a split that a row names already is kept.

    If rows name no clips to validate or to test, those are taken from the ones named "train".
    Raises TaskError if a class has too few clips, or the groups leave one without any to train on.
    """
    totals = Counter(row.label for row in rows)
    units = _units(rows)
    fixed = all(row.split for row in rows)
    for label, count in totals.items():
        if count < LEAST and not fixed:
            raise TaskError(
                f"The class '{label}' has {many(count, 'clip')}; at least {LEAST} are needed: one "
                "to train on, one to validate, one to test."
            )
    best, covered = [], set()
    for attempt in range(ATTEMPTS):
        splits = _give_out(units, totals, seed, attempt)
        now = {(s, label) for s, unit in zip(splits, units, strict=True) for label in unit.classes}
        if not best or _worth(now) > _worth(covered):
            best, covered = splits, now
        if len(covered) == len(SPLITS) * len(totals):
            break
    if len({split for split, _ in covered}) < len(SPLITS):
        if not any(row.group for row in rows):
            bare = [s for s in SPLITS if s not in {split for split, _ in covered}]
            raise TaskError(f"The data name their splits, and leave none to {' or '.join(bare)}.")
        groups = len({row.group for row in rows})
        raise TaskError(
            f"The clips are in {many(groups, 'group')}, which stay together: too few to train on "
            "every class and have some left to validate and to test."
        )
    if bare := [label for label in totals if ("train", label) not in covered]:
        raise TaskError(
            f"The class '{bare[0]}' has no clips to train on, since all of it is in groups or "
            "splits that are held out."
        )
    best = _in_runs(units, best, seed)
    chosen = {i: split for split, unit in zip(best, units, strict=True) for i in unit.rows}
    return [replace(row, split=chosen[i]) for i, row in enumerate(rows)]


def _worth(covered: set[tuple[str, str]]) -> tuple[int, int, int]:
    """Classes that can be trained, then splits with clips, then all pairs of the two."""
    trained = sum(split == "train" for split, _ in covered)
    return trained, len({split for split, _ in covered}), len(covered)


def _units(rows: Sequence[Row]) -> list[_Unit]:
    named = {row.split for row in rows}
    missing = tuple(s for s in SPLITS[1:] if s not in named) if named != {""} else ()
    root = Path(os.path.commonpath([row.path.parent for row in rows]))
    together: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        path = row.path.relative_to(root).as_posix()
        own = ("group", row.group) if row.group else ("clip", path)
        # A split that a row names counts more than its group.
        together[(row.split, *own)].append(i)
    may_go_to = {"": SPLITS, "train": ("train", *missing)}
    units = []
    for (split, *own), members in together.items():
        allowed = may_go_to.get(split, (split,))
        classes = Counter(rows[i].label for i in members)
        units.append(_Unit("/".join(own), tuple(members), classes, allowed))
    places = Counter(label for unit in units for label in unit.classes)
    # A class that is in one unit only can be trained on nowhere else.
    return [
        replace(unit, allowed=("train",))
        if "train" in unit.allowed and any(places[label] == 1 for label in unit.classes)
        else unit
        for unit in units
    ]


def _give_out(units: Sequence[_Unit], totals: Counter[str], seed: int, attempt: int) -> list[str]:
    """A split for every unit; attempts after the first take them in any order."""
    given = {split: Counter() for split in SPLITS}
    splits = [""] * len(units)

    def lacks(split: str, unit: _Unit) -> float:
        missing = sum(
            count * (1 - given[split][label] / (SHARES[split] * totals[label]))
            for label, count in unit.classes.items()
        )
        return round(missing, 9)  # ties are ties, and go to the first

    def turn(i: int) -> tuple[bool, int, bytes]:
        """Decided ones first, then the largest; equal ones in an order drawn by the seed."""
        drawn = _drawn(f"{seed}/{attempt}", units[i])
        return len(units[i].allowed) > 1, 0 if attempt else -len(units[i].rows), drawn

    for i in sorted(range(len(units)), key=turn):
        unit = units[i]
        splits[i] = max(unit.allowed, key=lambda split: lacks(split, unit))
        given[splits[i]] += unit.classes
    return splits


def _in_runs(units: Sequence[_Unit], splits: Sequence[str], seed: int) -> list[str]:
    """The same splits, changed about among units alike: in their drawn order the first train, and
    the last test, so that one unit more moves only those next to where a split ends."""
    alike: dict[tuple, list[int]] = defaultdict(list)
    for i, unit in enumerate(units):
        alike[unit.allowed, frozenset(unit.classes.items())].append(i)
    changed = list(splits)
    for places in alike.values():
        given = sorted((splits[i] for i in places), key=SPLITS.index)
        order = sorted(places, key=lambda i: _drawn(str(seed), units[i]))
        for i, split in zip(order, given, strict=True):
            changed[i] = split
    return changed


def _drawn(seed: str, unit: _Unit) -> bytes:
    return hashlib.sha256(f"{seed}/{unit.key}".encode()).digest()
