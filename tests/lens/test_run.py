"""One way to run a classifier: every door of the lab gives a clip the same logits."""

import pytest
import torch

from softmoa import ASSETS
from softmoa.data import audio
from softmoa.lens import run as runs
from softmoa.lens.ablation import Intervention
from softmoa.lens.balance import MixtureBalance
from softmoa.lens.classifier import open_classifier
from softmoa.lens.classify import classify, reclassify
from softmoa.lens.evaluation import evaluate
from softmoa.lens.run import run
from softmoa.lens.task_bundles import BundleBalance
from softmoa.lens.timeline import timeline
from softmoa.model import precision

DOG = ASSETS / "examples" / "dog_bark.ogg"


@pytest.fixture(params=["fp32", "bf16"])
def classifier(request, monkeypatch):
    """What "auto" means on this machine must not matter: it is the same for all."""

    def wants(model, wanted):
        return request.param == "bf16" and wanted == "auto"

    monkeypatch.setattr(runs, "wants_bf16", wants)
    monkeypatch.setattr(precision, "wants_bf16", wants)
    return open_classifier("esc10-soft-moa")


def test_the_same_clip_gives_the_same_logits_through_every_door(classifier):
    clip = audio.load(DOG)
    mel = audio.log_mel(clip.waveform)
    expected = run(classifier, [mel])
    assert expected.logits.shape == (1, 10) and len(expected.records) == 6
    probabilities = classifier.probabilities(expected.logits)[0]
    share = MixtureBalance.of(expected.records[3]).share

    result = classify(classifier, DOG)
    assert torch.equal(result.logits, expected.logits[0])
    assert torch.equal(reclassify(result, {}).logits, expected.logits[0])
    nothing = dict.fromkeys([(r.layer, r.site) for r in result.records], Intervention())
    assert torch.equal(reclassify(result, nothing).logits, expected.logits[0])
    assert torch.equal(run(classifier, [mel], record=False).logits, expected.logits)
    [said] = evaluate(classifier, [(DOG, "dog bark")])
    assert said.probability == pytest.approx(probabilities.max().item(), abs=1e-6)
    windows = timeline(classifier, clip.waveform, window=clip.seconds)
    assert torch.allclose(windows.probabilities[0], probabilities, atol=1e-6)
    assert torch.allclose(windows.shares[3, 0], share, atol=1e-6)
    measured = BundleBalance(classifier, "")
    measured.add(mel)
    assert torch.equal(measured.balances[3, "mhsa"].share, share)


def test_clips_of_a_padded_batch_are_answered_as_alone():
    classifier = open_classifier("esc10-soft-moa")
    mels = [torch.randn(n, 128, generator=torch.Generator().manual_seed(n)) for n in (40, 200)]
    together = run(classifier, mels)
    alone = torch.cat([run(classifier, [mel]).logits for mel in mels])
    assert together.logits.shape == (2, 10) and not together.logits.requires_grad
    assert torch.allclose(together.logits, alone, atol=1e-4)
    assert together.records[0].routing.mask is not None
