"""Values from callers, checked: the page's own bounds do not bind those who call without it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import TypeVar

import gradio as gr
from gradio.utils import get_upload_folder

from softmoa.data.values import InputError

T = TypeVar("T")


def refuse(sentence: str) -> gr.Error:
    """An error that answers with one sentence and logs no traceback."""
    return gr.Error(sentence.replace("<", "&lt;"), print_exception=False)


def warn(sentence: str) -> str:
    """Show a sentence, in which a stranger's words may be, for a while; as Markdown for the page.

    Gradio takes what it shows of a warning or an error for HTML.
    """
    gr.Warning(sentence.replace("<", "&lt;"))
    return plain(sentence)


def refusing(answer: Callable[..., T]) -> Callable[..., T]:
    """A handler of an event whose InputError reaches the page as its sentence."""

    @wraps(answer)  # gradio reads its signature
    def answered(*args, **kwargs) -> T:
        try:
            return answer(*args, **kwargs)
        except InputError as error:
            raise refuse(str(error)) from None

    return answered


def not_stored(error: OSError) -> str:
    """What a full or broken disk means to a visitor."""
    return f"This server cannot store that now: {error.strerror or error}."


def check_room() -> None:
    """Refuse before a sound is handed to gradio, which fails on a full disk without a word."""
    folder = Path(get_upload_folder())
    if folder.is_dir() and shutil.disk_usage(folder).free < 4_000_000:
        raise refuse(not_stored(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))


def plain(words: str) -> str:
    """Markdown that shows a stranger's words as they are: no image of theirs is fetched."""
    return re.sub(r"([\\\[\]`*$])", r"\\\1", escape(words, quote=False))


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
