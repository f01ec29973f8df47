"""Which expert of a classified sound mattered; computed when asked, once.

Three views of the question:

    share    how much the tokens listen to it               from the records; no cause
    signed   gradient of a logit times what it adds         one pass back; first-order
    causal   the logits without it                          a pass per expert; one at a time
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from softmoa.lens.ablation import (
    CausalContribution,
    Mode,
    causal_contribution,
    signed_contribution,
)
from softmoa.lens.classify import Classification
from softmoa.lens.contribution import expert_norms, expert_outputs
from softmoa.model.recording import Place, expert_share


@dataclass
class Attribution:
    """The views of one classification, which must hold records of at least one mixture.

    Rows are mixtures in the order of the forward pass, columns are experts.
    """

    result: Classification
    _causal: dict[Mode, CausalContribution] = field(default_factory=dict)
    _signed: dict[int, Tensor] = field(default_factory=dict)

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(record.place for record in self.result.records)

    @property
    def experts(self) -> int:
        return self.share.shape[1]

    @property
    def share(self) -> Tensor:
        """Combine share, (places, n); rows sum to 1."""
        return torch.cat([expert_share(record) for record in self.result.records])

    @property
    def norms(self) -> Tensor:
        """Mean length of what each expert adds to a token, (places, n)."""
        return torch.cat([expert_norms(record) for record in self.result.records])

    def token_norms(self, row: int) -> Tensor:
        """Length of what each expert adds to each token, (m, n)."""
        return expert_outputs(self.result.records[row])[0].norm(dim=-1)

    def causal(self, mode: Mode) -> CausalContribution:
        if mode not in self._causal:
            model, mel = self.result.classifier.model, self.result.mel
            # Not in bfloat16: differences of logits would drown in its rounding.
            self._causal[mode] = causal_contribution(model, mel, mode)
        return self._causal[mode]

    def signed(self, target: int) -> Tensor:
        """Signed contributions to the logit of a class, (places, m, n)."""
        if target not in self._signed:
            model, mel = self.result.classifier.model, self.result.mel
            self._signed[target] = signed_contribution(model, mel, target)
        return self._signed[target]

    @property
    def causal_seconds(self) -> float:
        """What `causal` will take, from the time of the one pass: an expert of the first of l
        layers is removed through all of them, one of the last through one."""
        rows = [self.experts * (i + 1) for i in range(len(self.places))]
        return self.result.timing.forward / 1000 * (1 + sum(rows) / len(self.places))
