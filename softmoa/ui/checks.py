"""Values from callers, checked: the page's own bounds do not bind those who call without it."""

from __future__ import annotations

import gradio as gr


def refuse(sentence: str) -> gr.Error:
    """An error that answers with one sentence and logs no traceback."""
    return gr.Error(sentence, print_exception=False)


def not_stored(error: OSError) -> str:
    """What a full or broken disk means to a visitor."""
    return f"This server cannot store that now: {error.strerror or error}."


def whole(value: object, name: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`, or a refusal."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise refuse(f"{name} must be a whole number from {least} to {most}.")
    if not least <= value <= most:
        raise refuse(f"{name} must be from {least} to {most}.")
    return int(value)


def text(value: object, name: str, most: int = 1000) -> str:
    """A short text, or a refusal."""
    if not isinstance(value, str) or len(value) > most:
        raise refuse(f"{name} must be a text of at most {most} characters.")
    return value
