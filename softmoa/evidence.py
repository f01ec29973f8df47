"""What speaks for and against each expert of one classified sound; computed when asked, once.

Three views of the same question, which expert mattered:

    share    how much the tokens listen to it               from the records; no cause
    signed   gradient of a logit times what it adds         one pass back; first-order
    causal   the logits without it                          a pass per expert; one at a time
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from softmoa.ablation import (
    CausalContribution,
    Mode,
    SignedContribution,
    Switchboard,
    causal_contribution,
    intervene,
    signed_contribution,
)
from softmoa.ast import AST
from softmoa.classify import Classification, computing_model
from softmoa.contribution import expert_norms, expert_outputs, expert_share
from softmoa.precision import autocast
from softmoa.recording import Place, record_routing


def again(result: Classification, switchboard: Switchboard) -> Classification:
    """The same sound with changed routing: new logits and records, which hold the change.

    Computed as `classify` does by default, so that no change changes nothing.
    """
    model = computing_model(result.classifier)
    mel = result.mel.to(model.cls.device)
    began = time.perf_counter()
    with torch.inference_mode(), autocast(result.classifier.model, "auto"):
        with intervene(model, switchboard), record_routing(model) as records:
            logits = model(mel[None])[0].float().cpu()
    timing = replace(result.timing, forward=1000 * (time.perf_counter() - began))
    return replace(result, logits=logits, records=tuple(records), timing=timing)


@dataclass
class Evidence:
    """The views of one classification, which must hold records of at least one mixture.

    Rows are mixtures in the order of the forward pass, columns are experts.
    """

    result: Classification
    _causal: dict[Mode, CausalContribution] = field(default_factory=dict)
    _signed: dict[int, SignedContribution] = field(default_factory=dict)

    @property
    def _model(self) -> AST:
        return self.result.classifier.model

    @property
    def _mel(self) -> Tensor:
        return self.result.mel.to(self._model.cls.device)

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple((record.layer, record.site) for record in self.result.records)

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
            self._causal[mode] = causal_contribution(self._model, self._mel, mode)
        return self._causal[mode]

    def signed(self, target: int) -> SignedContribution:
        if target not in self._signed:
            self._signed[target] = signed_contribution(self._model, self._mel, target)
        return self._signed[target]

    @property
    def causal_seconds(self) -> float:
        """What `causal` will take, from the time of the one pass: an expert of the first of l
        layers is removed through all of them, one of the last through one."""
        rows = [self.experts * (i + 1) for i in range(len(self.places))]
        return self.result.timing.forward / 1000 * (1 + sum(rows) / len(self.places))
