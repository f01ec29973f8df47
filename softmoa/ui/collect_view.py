"""What the tab "Your sounds" draws: the takes by class, their split, the training's progress."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from softmoa.collection import Collection
from softmoa.events import RunFinished
from softmoa.methods import METHODS
from softmoa.scoreboard import Scoreboard
from softmoa.tasks.own import OwnData
from softmoa.ui.texts import collect as texts

SHOWN = 24  # takes of a class that have a button

TAKES_CSS = """
.takes { display: grid; gap: .6rem }
.takes b { overflow-wrap: anywhere }
.takes div div { display: flex; flex-wrap: wrap; gap: .3rem; margin-top: .2rem;
  align-items: center }
.takes button { border: 1px solid var(--border-color-primary); border-radius: .4rem;
  background: var(--block-background-fill); color: inherit; padding: .2rem .6rem;
  min-width: 2.2rem; margin: 0;
  font-variant-numeric: tabular-nums; cursor: pointer }
.takes button[aria-pressed=true] { border-color: var(--color-accent); box-shadow: 0 0 0 1px
  var(--color-accent) }
"""
TABLE_CSS = """
table { border-collapse: collapse; font-variant-numeric: tabular-nums; max-width: 100% }
th, td { text-align: right; padding: .2rem .8rem .2rem 0;
  border-bottom: 1px solid var(--border-color-primary) }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere }
ul { margin: .5rem 0 0; padding-left: 1.2rem; list-style: disc }
p { margin: .5rem 0 0 }
.bar { background: var(--border-color-primary); border-radius: .3rem; height: .5rem }
.bar i { display: block; background: var(--color-accent); border-radius: .3rem; height: .5rem }
"""


def takes(collection: Collection | None, chosen: int | None) -> str:
    """A button for every take, by class."""
    if collection is None or not collection.labels:
        return f"<p>{escape(texts.NO_TAKES)}</p>"
    parts = []
    for label in collection.labels:
        places = [i for i, row in enumerate(collection.rows) if row.label == label]
        buttons = "".join(
            f'<button data-take="{i}" aria-pressed="{"true" if i == chosen else "false"}" '
            f'aria-label="{escape(label)}, take {k}">{k}</button>'
            for k, i in enumerate(places[:SHOWN], 1)
        )
        more = len(places) - SHOWN
        rest = escape(texts.MORE.format(count=more)) if more > 0 else ""
        parts.append(f"<div><b>{escape(label)}</b>: {len(places)}<div>{buttons} {rest}</div></div>")
    return f'<div class="takes">{"".join(parts)}</div>'


def division(data: OwnData) -> str:
    """Clips of every class by split, and what is odd about them."""
    counts = data.task.counts
    rows = [
        (label, *(counts[split][i] for split in counts)) for i, label in enumerate(data.task.labels)
    ]
    remarks = "".join(f"<li>{escape(remark.message)}</li>" for remark in data.remarks)
    return table(("", *counts), rows) + (f"<ul>{remarks}</ul>" if remarks else "")


def progress(board: Scoreboard, runs: int) -> str:
    """A bar over all runs and what is being done."""
    share = sum(board.progress.values()) / runs
    return (
        f'<div class="bar"><i style="width:{100 * share:.0f}%"></i></div>'
        f"<p>{escape(board.doing)}</p>"
    )


def results(finished: Sequence[RunFinished]) -> str:
    """A row for every trained method."""
    return table(
        texts.RESULTS,
        [
            (
                METHODS[run.method].title,
                f"{run.trained_parameters:,}",
                f"{run.seconds:.1f}",
                f"{run.val_accuracy:.0%}",
                f"{run.test_accuracy:.0%}",
            )
            for run in finished
        ],
    )


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return (
        f"<table><thead>{line(head, 'th')}</thead>"
        f"<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"
    )
