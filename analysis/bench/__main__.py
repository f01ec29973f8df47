"""`python -m analysis.bench [STUDY ...] [--device DEVICE] [--quick]`; without names, all studies.

Results of earlier runs stay where a study is not run again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from analysis.bench.app import app
from analysis.bench.engines import busy, engines, long
from analysis.bench.features import features
from analysis.bench.inference import explore, inference, recording
from analysis.bench.measure import Result, Setting, markdown, merge
from analysis.bench.moa import growth, moa
from analysis.bench.train import attention, train
from analysis.tables import RESULTS
from softmoa.model.device import DeviceError, use

TRIED = Path(__file__).parent / "tried.md"
# `explore` first: it measures what is opened for the first time.
ALL = (
    explore,
    inference,
    engines,
    long,
    busy,
    recording,
    features,
    moa,
    growth,
    attention,
    train,
    app,
)
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
    try:
        setting = Setting(use(device), 1 if quick else 7)
    except DeviceError as error:
        raise typer.BadParameter(str(error)) from None
    path = out / f"bench-{setting.device.type}.json"
    out.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        found: dict[str, list[Result]] = {name: STUDIES[name](setting)}
        results = merge(json.loads(path.read_text()) if path.exists() else {}, found, setting)
        path.write_text(json.dumps(results, indent=2) + "\n")
        page = markdown(results, list(STUDIES), setting.device.type, TRIED.read_text())
        path.with_suffix(".md").write_text(page)
        for row in found[name]:
            ratio = "" if row.ratio is None else f"  {row.ratio:.3f} of {row.against}"
            print(f"{name}: {row.what}: {row.ours:.4g} {row.unit}{ratio}", flush=True)


if __name__ == "__main__":
    typer.run(main)
