"""Soft-MoA Lab: Soft Mixture of Adapters for the Audio Spectrogram Transformer."""

from pathlib import Path

_HERE = Path(__file__).parent
# An installed package holds the backbone, bundles and clips; in the repository they lie beside it.
ASSETS = _HERE / "assets" if (_HERE / "assets").is_dir() else _HERE.parent / "assets"
