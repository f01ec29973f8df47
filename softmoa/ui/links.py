"""The view in the address: `?tab=lesson&step=4&seed=1`, read at load and kept up to date.

A tab names the components that belong to its link and reads a link itself, by an `open_link` of
its own. All that happens in the page: no request leaves the machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from softmoa.ui.texts import links as texts


@dataclass
class Query:
    """The values of a link, each read with its check.

    problems: one sentence for each value that was ignored.
    """

    values: Mapping[str, str]
    problems: list[str] = field(default_factory=list)

    def whole(self, key: str, low: int, high: int) -> int | None:
        """A whole number from low to high, or None."""
        text = self.values.get(key)
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) < 7 and low <= int(text) <= high:
            return int(text)
        self.problems.append(texts.NO_NUMBER.format(key=key, low=low, high=high))
        return None

    def one_of(self, key: str, names: Collection[str]) -> str | None:
        """One of some names, or None."""
        text = self.values.get(key)
        if text is None or text in names:
            return text
        self.problems.append(texts.NO_NAME.format(key=key, names=", ".join(names)))
        return None


@dataclass(frozen=True)
class Linked:
    """A tab that can be linked to.

    parts: key in the address -> component; None and "" are left out.
    open_link: what a link asks for -> updates of `opened`.
    from_zero: keys of numbers that count from 0 in the component, and from 1 in the address.
    last: what starts the work when it is set, and its value by the link. It is set after all else,
    or the work could begin with what was chosen before.
    """

    name: str
    tab: gr.Tab
    parts: dict[str, Component]
    opened: list[Component]
    open_link: Callable[[Query], list]
    from_zero: tuple[str, ...] = ()
    last: tuple[Component, Callable[[Query], Any]] | None = None

    def beside(self, name: str, tab: gr.Tab, keys: Collection[str]) -> Linked:
        """Another tab about what this one holds: its link opens both, and names only `keys`."""
        return replace(self, name=name, tab=tab, parts={key: self.parts[key] for key in keys})


PRIVATE: dict[str, Any] = {"api_visibility": "private"}


def wire(demo: gr.Blocks, tabs: gr.Tabs, linked: list[Linked], copy: gr.Button) -> None:
    """Keep the address up to date, open what it asks for, and copy it at a click."""
    names = [one.name for one in linked]
    for one in linked:
        components = list(one.parts.values())
        following = _script(one, names, always=False)
        for component in components:
            component.change(None, components, None, js=following, api_visibility="private")  # type: ignore[attr-defined]
        one.tab.select(
            None, components, None, js=_script(one, names, True), api_visibility="private"
        )
    copied = [component for one in linked for component in one.parts.values()]
    copy.click(None, copied, None, js=_copy_script(linked), **PRIVATE)

    def read(request: gr.Request) -> tuple[Query, str]:
        query = Query({key: str(value)[:200] for key, value in request.query_params.items()})
        return query, query.one_of("tab", names) or names[0]

    def open_link(request: gr.Request) -> dict:
        query, asked = read(request)
        # A visitor may have clicked a tab before this answer comes: leave it, unless a link asks.
        named = "tab" in request.query_params
        updates: dict = {tabs: gr.Tabs(selected=asked)} if named else {}
        one = linked[names.index(asked)]
        updates |= dict(zip(one.opened, one.open_link(query), strict=True))
        if query.problems:
            gr.Warning(" ".join(query.problems))
        return updates

    lasts = {one.name: one.last for one in linked if one.last is not None}

    def open_last(request: gr.Request) -> dict:
        query, asked = read(request)
        updates: dict = {component: gr.skip() for component, _ in lasts.values()}
        if asked in lasts:
            component, value = lasts[asked]
            updates[component] = value(query)
        return updates

    opened = [component for one in linked for component in one.opened]
    outputs = list(dict.fromkeys([tabs, *opened]))  # two tabs may open the same ones
    # In the queue, since a warning reaches the page no other way.
    begun = demo.load(open_link, None, outputs, concurrency_limit=None, **PRIVATE)
    if lasts:
        set_last = list(dict.fromkeys(component for component, _ in lasts.values()))
        begun = begun.then(open_last, None, set_last, concurrency_limit=None, **PRIVATE)
    begun.then(None, js="() => { window.softmoaLinkOpened = true; return []; }", **PRIVATE)


_WRITE = """
const write = (tab, keys, values, fromZero) => {
  const query = new URLSearchParams();
  for (const [key, value] of new URLSearchParams(location.search))
    if (key.startsWith('__')) query.set(key, value);
  query.set('tab', tab);
  keys.forEach((key, k) => {
    let value = values[k];
    if (fromZero.includes(key)) value += 1;
    // A visitor's own bundle: its key would open the comparison that it came from.
    if (key === 'bundle' && String(value).includes('/')) return;
    if (value !== null && value !== undefined && value !== '') query.set(key, value);
  });
  history.replaceState(history.state, '', location.pathname + '?' + query + location.hash);
};
const shown = new URLSearchParams(location.search).get('tab');
const opened = window.softmoaLinkOpened;  // before that, the page's start would overwrite the link
"""


def _script(one: Linked, names: list[str], always: bool) -> str:
    """Write the address; unless `always`, only while the tab is the one that is shown."""
    tab, first = json.dumps(one.name), json.dumps(names[0])
    keys, zero = json.dumps(list(one.parts)), json.dumps(one.from_zero)
    wanted = "opened" if always else f"opened && (shown || {first}) === {tab}"
    return f"""(...values) => {{{_WRITE}
  if ({wanted}) write({tab}, {keys}, values, {zero});
  return [];
}}"""


def _copy_script(linked: list[Linked]) -> str:
    """Write the address of the tab that is shown and put it on the clipboard.

    Without https a page has no clipboard of its own, so the older command is used then.
    """
    tabs = json.dumps([[one.name, list(one.parts), one.from_zero] for one in linked])
    return f"""async (...values) => {{{_WRITE}
  let at = 0;
  const tabs = {tabs};
  for (const [tab, keys, fromZero] of tabs) {{
    if ((shown || tabs[0][0]) === tab)
      write(tab, keys, values.slice(at, at + keys.length), fromZero);
    at += keys.length;
  }}
  if (navigator.clipboard && window.isSecureContext) {{
    await navigator.clipboard.writeText(location.href);
  }} else {{
    const box = document.createElement('textarea');
    box.value = location.href;
    document.body.append(box);
    box.select();
    document.execCommand('copy');
    box.remove();
  }}
  const button = document.querySelector('#copy-link');
  if (button) {{
    button.textContent = {json.dumps(texts.COPIED)};
    setTimeout(() => {{ button.textContent = {json.dumps(texts.COPY)}; }}, 1500);
  }}
  return [];
}}"""
