"""The mean of the weights of several backbones that one training led to.

    python -m analysis.pretraining.average assets/ast-small.safetensors OTHER ... --out MEAN

What lies between the weights before and after more training can name more than either (Wortsman et
al. 2022, arXiv 2109.01903 and 2203.05482). Prints the three measures of `validation` of the mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor

from analysis.pretraining.validation import measure
from softmoa.model.weights import load_embedded, read_safetensors


def mean_of(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Each weight's mean, in the precision of the first state."""
    return {
        key: torch.stack([state[key].float() for state in states]).mean(dim=0).to(weight.dtype)
        for key, weight in states[0].items()
    }


def main(paths: list[Path], out: Annotated[Path, typer.Option(help="the file to write")]) -> None:
    """Write the mean, with the header of the first file, and measure it."""
    read = [read_safetensors(path) for path in paths]
    save_file(mean_of([state for state, _ in read]), out, metadata=read[0][1])
    typer.echo(str(measure(load_embedded(out).model)))


if __name__ == "__main__":
    typer.run(main)
