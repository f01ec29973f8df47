"""How many clips a claim needs, from the recorded race: `python -m analysis.studies.power`.

Writes analysis/results/power.md: what every method of the race reached against the linear probe and
against Soft-MoA, and the clips from which a difference of 1, 2 or 5 points would be found.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import typer

from analysis import tables
from softmoa import ASSETS
from softmoa.training import run_directory
from softmoa.training.plan import title
from softmoa.training.scoreboard import PROBE, Scoreboard
from softmoa.training.statistics import ALIKE, clips_needed, smallest_difference

RACE = ASSETS / "comparisons" / "initials.zip"
PAGE = tables.RESULTS / "power.md"
DIFFERENCES = (0.05, 0.02, 0.01)


def page(board: Scoreboard) -> str:
    """The whole page, as Markdown."""
    assert board.plan is not None
    rows, probe = board.rows(), board.probe()
    assert probe is not None
    first, *others = (row.method for row in rows)
    alike = [
        float(np.corrcoef(board.right(first)[seed], board.right(other)[seed])[0, 1])
        for other in others
        for seed in board.right(first).keys() & board.right(other).keys()
    ]
    level = float(np.mean([row.test_accuracy for row in rows]))
    seeds = max(row.seeds for row in rows)
    about = (
        f"Written by `python -m analysis.studies.power` from `assets/comparisons/{RACE.name}`: "
        f"{board.plan.title}, {len(board.plan.truth)} test clips, seeds {seeds}. Test accuracy and "
        "differences in points, ± half the 95 % interval over clips (of one base syllable counted "
        "as one draw) and seeds; not corrected for their number."
    )
    against_probe = f"against the probe ({100 * probe:.1f})"
    heads = ["method", "parameters", "test", against_probe, f"{title(first)} less it"]
    body = []
    for row in rows:
        cells = [
            f"{100 * gap:+.1f} ± {100 * half:.1f}"
            for gap, half, _ in (board.gap(row.method, PROBE), board.gap(first, row.method))
        ]
        if row.method == first:
            cells[1] = ""
        accuracy = f"{100 * row.test_accuracy:.1f}"
        body.append([title(row.method), f"{row.trained_parameters:,}", accuracy, *cells])
    needed = ", ".join(
        f"{100 * d:.0f} points {clips_needed(level, d):,} clips" for d in DIFFERENCES
    )
    told = (
        f"Which clips two methods answer rightly is correlated by {min(alike):.2f} to "
        f"{max(alike):.2f} ({ALIKE} is reckoned with). At this accuracy a difference is found in "
        f"four of five races from: {needed}. All 961 clips of `initials` tell "
        f"{100 * smallest_difference(level, 961):.0f} points; more seeds lower the luck of "
        "training and that of the clips in part. A margin of one point asks for a corpus."
    )
    return tables.page("What a race can tell", about, tables.markdown(heads, body), told)


def main(out: Path = PAGE) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        run_directory.unpack(RACE, Path(scratch))
        board = Scoreboard().add_all(run_directory.read(Path(scratch)))
    out.write_text(page(board))


if __name__ == "__main__":
    typer.run(main)
