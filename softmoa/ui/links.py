"""The view in the address: `?tab=lesson&step=4&seed=1`, read at load and kept up to date.

A tab names the components that belong to its link and reads a link itself, by an `open_link` of
its own. The address is written by links.js, in the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from softmoa.ui.figure import QUIET

COPY, COPIED = "Copy link", "Copied"
NO_NUMBER = "The link's {key} was ignored: it must be a whole number from {low} to {high}."
NO_NAME = "The link's {key} was ignored: it must be one of {names}."


@dataclass
class Query:
    """The values of a link, each read with its check.

    problems: one sentence for each value that was ignored.
    """

    values: Mapping[str, str]
    problems: list[str] = field(default_factory=list)

    def whole(self, key: str, low: int, high: int) -> int | None:
        """A whole number from low to high; None where there is none, or another value."""
        text = self.values.get(key)
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) < 7 and low <= int(text) <= high:
            return int(text)
        self.problems.append(NO_NUMBER.format(key=key, low=low, high=high))
        return None

    def one_of(self, key: str, names: Collection[str]) -> str | None:
        """One of some names; None where there is none, or another value."""
        text = self.values.get(key)
        if text is None or text in names:
            return text
        self.problems.append(NO_NAME.format(key=key, names=", ".join(names)))
        return None


@dataclass(frozen=True)
class Linked:
    """A tab that can be linked to.

    parts: key in the address -> component; None and "" are left out. Of a value that is an object
    each entry goes into the address by its own key.
    open_link: what a link asks for -> values of some of `opened`, by component.
    last: what starts the work when it is set, and its value by the link. It is set after all else,
    or the work could begin with what was chosen before.
    """

    name: str
    tab: gr.Tab
    parts: dict[str, Component]
    opened: list[Component] = field(default_factory=list)
    open_link: Callable[[Query], dict[Component, Any]] = lambda query: {}
    last: tuple[Component, Callable[[Query], Any]] | None = None


SCRIPT = Path(__file__).with_name("links.js").read_text(encoding="utf-8")
SCRIPT = SCRIPT[SCRIPT.index("({") :]  # gradio takes an expression, without the words before it


def wire(demo: gr.Blocks, tabs: gr.Tabs, linked: list[Linked], copy: gr.Button) -> None:
    """Keep the address up to date, open what it asks for, and copy it at a click."""
    by_name = {one.name: one for one in linked}
    components = [component for one in linked for component in one.parts.values()]

    def script(**told: Any) -> str:
        keys = {one.name: list(one.parts) for one in linked}
        return f"({SCRIPT.strip()})({json.dumps({'tabs': keys} | told)})"

    changes = [component.change for component in dict.fromkeys(components)]  # type: ignore[attr-defined]
    gr.on(changes, None, components, None, js=script(), **QUIET)
    for one in linked:
        one.tab.select(None, components, None, js=script(tab=one.name), **QUIET)
    copy.click(None, components, None, js=script(copy=COPY, copied=COPIED), **QUIET)

    def read(request: gr.Request) -> tuple[Query, Linked]:
        query = Query({key: str(value)[:200] for key, value in request.query_params.items()})
        return query, by_name[query.one_of("tab", by_name) or linked[0].name]

    def open_link(request: gr.Request) -> dict:
        query, asked = read(request)
        # A visitor may have clicked a tab before this answer comes: leave it, unless a link asks.
        named = "tab" in request.query_params
        updates: dict = {tabs: gr.Tabs(selected=asked.name)} if named else {}
        updates |= asked.open_link(query)
        if query.problems:
            gr.Warning(" ".join(query.problems))
        return updates or gr.skip()

    def open_last(request: gr.Request) -> dict:
        query, asked = read(request)
        return {asked.last[0]: asked.last[1](query)} if asked.last else gr.skip()

    # In the queue, since a warning reaches the page no other way. Two tabs may open the same ones.
    outputs = list(dict.fromkeys([tabs, *(part for one in linked for part in one.opened)]))
    lasts = list(dict.fromkeys(one.last[0] for one in linked if one.last))
    begun = demo.load(open_link, None, outputs, concurrency_limit=None, **QUIET)
    begun = begun.then(open_last, None, lasts, concurrency_limit=None, **QUIET)
    begun.then(None, js=script(opened=True), **QUIET)
