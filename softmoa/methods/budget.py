"""How many weights a method trains, and the options with which it trains so many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from softmoa.methods import METHODS, attach, trained_parameters
from softmoa.model.ast import AST, ASTConfig

TOLERANCE = 0.05  # of a budget that counts as met


def parameters_of(config: ASTConfig, method: str, options: Any) -> int:
    """Trained parameters as the papers count, from shapes alone: nothing is allocated."""
    with torch.device("meta"):
        model = AST(replace(config, classes=0))
        attach(model, method, options, classes=1)
    return trained_parameters(model)


def matched_options(config: ASTConfig, method: str, parameters: int, options: Any = None) -> Any:
    """`options` (the defaults) resized so that the method trains about so many parameters.

    Solves the width of the bottleneck, the rank or the length; where even a mixture's narrowest
    experts miss the budget, some of them are taken away. Within TOLERANCE where the method's steps
    allow; methods without a size, such as the linear probe, are returned as they are.
    """
    row = METHODS[method]
    options = options or row.options()
    if not row.sizes:
        return options

    def miss(candidate: Any) -> float:
        return abs(parameters_of(config, method, candidate) / parameters - 1)

    best = _solved(config, method, parameters, options)
    fewest = getattr(options, "k", 1)
    for name in row.sizes[1:]:
        while miss(best) > TOLERANCE and getattr(options, name) > fewest:
            options = replace(options, **{name: getattr(options, name) - 1})
            best = min(best, _solved(config, method, parameters, options), key=miss)
    return best


def _solved(config: ASTConfig, method: str, parameters: int, options: Any) -> Any:
    """The size that comes closest, by the first of the method's. The number of weights is a
    polynomial of it, of second degree for a convolution, so that three sizes tell all."""
    name = METHODS[method].sizes[0]

    def sized(size: int) -> Any:
        return replace(options, **{name: config.width / size if name == "reduction" else size})

    counts = [parameters_of(config, method, sized(size)) for size in (1, 2, 3)]
    course = np.polyfit((1, 2, 3), counts, 2)
    course[2] -= parameters
    sizes = np.roots(np.where(np.abs(course) < 1e-6 * counts[0], 0, course)).real
    return sized(max(1, round(sizes.max(initial=1))))
