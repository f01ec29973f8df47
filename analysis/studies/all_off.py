"""What all experts of the shipped mixtures are worth: `python -m analysis.studies.all_off`.

Writes analysis/results/all-off.md: the test accuracy of every bundle with a mixture whose task is
at hand, as it is and with no expert answering.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softmoa.data import tasks
from softmoa.lens.ablation import Intervention
from softmoa.lens.classifier import bundles
from softmoa.methods import bundle
from softmoa.model import weights
from softmoa.model.recording import hooked, mixtures
from softmoa.training.fit import predict, scores

PAGE = Path(__file__).parents[1] / "results" / "all-off.md"


def rows(base: weights.Loaded, names: list[str]) -> list[str]:
    found, at_hand = [], tasks.available()
    for name, path in bundles().items():
        info = bundle.read_info(path)
        wanted = name in names if names else info.task in at_hand
        if not wanted or info.base_sha256 != base.sha256:
            continue
        model, _ = bundle.load(path, base)
        places = mixtures(model)
        if not places:
            continue
        examples = tasks.log_mels(tasks.load(info.task).test, info.clip_seconds or 10.0)
        _, whole = scores(*predict(model, examples))
        experts = {place: moa.router.phi.shape[1] for place, moa in places.items()}
        off = {place: Intervention(off=tuple(range(n))) for place, n in experts.items()}
        with hooked(model, record=False, change=off):
            _, without = scores(*predict(model, examples))
        cost = 100 * (whole - without)
        found.append(f"| {name} | {100 * whole:.1f} | {100 * without:.1f} | {cost:+.1f} |")
    return found


def main(
    names: Annotated[list[str] | None, typer.Argument(help="bundles; default: all")] = None,
    out: Path = PAGE,
) -> None:
    head = (
        "# All experts off\n\n"
        "Written by `python -m analysis.studies.all_off`: test accuracy (%) of the shipped "
        "mixtures as they are and with no expert answering; heads and norms as trained.\n\n"
        "| bundle | whole | all off | cost |\n|---|---|---|---|\n"
    )
    out.write_text(head + "\n".join(rows(weights.load("ast-small"), names or [])) + "\n")


if __name__ == "__main__":
    typer.run(main)
