"""Soft-MoA Lab: Soft Mixture of Adapters for the Audio Spectrogram Transformer."""

import os
from pathlib import Path

# Nobody is told what is done here; both are read when the packages are imported, so here, first.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_HERE = Path(__file__).parent
# An installed package holds the backbone, bundles and clips; in the repository they lie beside it.
ASSETS = _HERE / "assets" if (_HERE / "assets").is_dir() else _HERE.parent / "assets"
