"""`python -m analysis.bench [STUDY ...] [--device cpu|cuda] [--quick]`; without names, all studies.

Results of earlier runs stay where a study is not run again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from analysis.bench.app import app
from analysis.bench.features import features
from analysis.bench.inference import explore, inference, recording
from analysis.bench.measure import Row, Setting, markdown, merge
from analysis.bench.moa import growth, moa
from analysis.bench.train import train

RESULTS = Path(__file__).parents[1] / "results"
TRIED = Path(__file__).parent / "tried.md"
# `explore` first: it measures what is opened for the first time.
ALL = (explore, inference, recording, features, moa, growth, train, app)
STUDIES = {study.__name__: study for study in ALL}


def main(
    studies: Annotated[list[str] | None, typer.Argument(help=", ".join(STUDIES))] = None,
    device: str = "cpu",
    quick: bool = False,
    out: Annotated[Path, typer.Option(help="folder of bench-DEVICE.json and .md")] = RESULTS,
) -> None:
    chosen = studies or list(STUDIES)
    if unknown := [name for name in chosen if name not in STUDIES]:
        raise typer.BadParameter(f"no study {unknown[0]}; there are {', '.join(STUDIES)}")
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter("the device is cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("there is no GPU here")
    setting = Setting(torch.device(device), 1 if quick else 7)
    path = out / f"bench-{device}.json"
    out.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        found: dict[str, list[Row]] = {name: STUDIES[name](setting)}
        results = merge(json.loads(path.read_text()) if path.exists() else {}, found, setting)
        path.write_text(json.dumps(results, indent=2) + "\n")
        page = markdown(results, list(STUDIES), device, TRIED.read_text())
        path.with_suffix(".md").write_text(page)
        for row in found[name]:
            ratio = "" if row.ratio is None else f"  {row.ratio:.3f} of {row.against}"
            print(f"{name}: {row.what}: {row.ours:.4g} {row.unit}{ratio}", flush=True)


if __name__ == "__main__":
    typer.run(main)
