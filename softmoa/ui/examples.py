"""The example clips that the tabs offer."""

from __future__ import annotations

import filecmp
from functools import lru_cache
from pathlib import Path

from softmoa.data.tasks import EMBEDDED
from softmoa.lens.classifier import bundles
from softmoa.methods.bundle import read_info
from softmoa.model.weights import ASSETS

EXAMPLES = ASSETS / "examples"


def example_clips() -> dict[str, Path]:
    return {p.stem: p for p in sorted(EXAMPLES.iterdir()) if p.suffix in (".ogg", ".flac")}


def gallery(bundle: str) -> dict[str, Path]:
    """What there is to try on a bundle: of an embedded one that knows the classes of a task a clip
    of each that it never heard, else the example clips."""
    info = read_info(bundles()[bundle]) if bundle in bundles() else None
    if info is None or info.multilabel:
        return {name.replace("_", " "): path for name, path in example_clips().items()}
    shipped, tested = EXAMPLES / info.task, EMBEDDED / info.task / "test"
    return {
        label: min(shipped.glob(f"{label.replace(' ', '_')}.*"))
        if shipped.exists()
        else min((tested / label).iterdir())
        for label in info.labels
    }


@lru_cache(maxsize=1)
def offered() -> frozenset[Path]:
    """The clips of all galleries."""
    return frozenset(clip for bundle in bundles() for clip in gallery(bundle).values())


def is_offered(path: str) -> bool:
    """Whether a file is gradio's copy of a clip of some gallery, which lies there for everybody."""
    alike = [clip for clip in offered() if clip.name == Path(path).name]
    return any(filecmp.cmp(path, clip, shallow=False) for clip in alike)


def clip_name(path: str | None) -> str:
    """Name of the example clip that a sound is; empty for the visitor's own."""
    if not path or (example := example_clips().get(Path(path).stem)) is None:
        return ""
    try:
        return example.stem if filecmp.cmp(path, example, shallow=False) else ""
    except FileNotFoundError:  # swept away
        return ""
