"""What a figure does when it is pressed, by pointer or by keyboard: `js_on_load` of a gr.HTML, and
what that tells the server."""

from __future__ import annotations

import gradio as gr

# The nearest element that says what it stands for is chosen. The Tab key stops once at a
# [data-walk], arrow keys walk through its items, Enter or Space chooses. A choice draws the figure
# anew, which takes the focus from the item: the keyboard's place is held by its number.
ON_CLICK = """
const PICK = '[data-token], [data-expert]';
const choose = hit => trigger('select', {...hit.dataset});
const enter = item => {
  item.tabIndex = -1;
  item.setAttribute('role', 'button');
  if (item.title) item.setAttribute('aria-label', item.title);
  item.focus();
};
let held = -1;
element.addEventListener('click', event => {
  const hit = event.target.closest(PICK);
  if (hit) choose(hit);
});
element.addEventListener('keydown', event => {
  const walk = event.target.closest('[data-walk]');
  if (!walk) return;
  const items = [...walk.querySelectorAll(PICK)], row = +walk.dataset.walk;
  const hit = event.target.closest(PICK), at = items.indexOf(hit);
  const press = event.key === 'Enter' || event.key === ' ';
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row}[event.key];
  if (press && hit) choose(hit);
  else if (step && at < 0) enter(walk.querySelector('.moa-on') || items[0]);
  else if (step && items[at + step]) enter(items[at + step]);
  else if (!step) return;
  event.preventDefault();
});
element.addEventListener('focusin', event => {
  held = [...element.querySelectorAll(PICK)].indexOf(event.target);
});
element.addEventListener('focusout', event => { if (event.relatedTarget) held = -1; });
document.addEventListener('pointerdown', () => { held = -1; }, true);
new MutationObserver(() => {
  const item = element.querySelectorAll(PICK)[held];
  if (item?.closest('[data-walk]') && !item.hasAttribute('tabindex')) enter(item);
}).observe(element, {attributes: true, childList: true, subtree: true});
"""


def clicked(event: gr.EventData, name: str) -> int | None:
    """A whole number from a click; the page says what it likes, so anything else is ignored."""
    value = str((event._data or {}).get(name))
    return int(value) if value.isdecimal() and len(value) < 7 else None
