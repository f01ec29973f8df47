"""What the tabs share: how figures and formulas are put on the page, and the queue of everything
that runs a model."""

from __future__ import annotations

from functools import partial

import gradio as gr

MODEL_QUEUE = "model"  # concurrency group of everything that runs a model
FOLLOWS = "moa-follows"  # class of figures over which the playhead moves
MATH = [{"left": "$", "right": "$", "display": False}]

Figure = partial(gr.HTML, apply_default_css=False)  # figures bring their own style
