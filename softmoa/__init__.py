"""Soft-MoA Lab: Soft Mixture of Adapters for the Audio Spectrogram Transformer."""

import os
from pathlib import Path

# Without a scheme, or blank, the Hub's client would take it for a path; it reads it when imported.
if not (_hub := os.environ.get("HF_ENDPOINT", "https://").strip()):
    del os.environ["HF_ENDPOINT"]
elif "://" not in _hub:
    os.environ["HF_ENDPOINT"] = f"https://{_hub}"

_HERE = Path(__file__).parent
# An installed package holds the backbone, bundles and clips; in the repository they lie beside it.
ASSETS = _HERE / "assets" if (_HERE / "assets").is_dir() else _HERE.parent / "assets"
