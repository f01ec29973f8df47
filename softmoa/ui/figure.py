"""The component that shows a figure of `softmoa.plots`."""

from functools import partial

import gradio as gr

Figure = partial(gr.HTML, apply_default_css=False)  # figures bring their own style
