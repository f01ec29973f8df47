"""The encoder against transformers', and its own promises."""

import pytest
import torch
from torch import nn
from transformers import ASTConfig as HubConfig
from transformers import ASTForAudioClassification

from softmoa.model import weights
from softmoa.model.ast import AST, ASTConfig, attend, plugins
from softmoa.model.weights import hub_state

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def randomised(model: nn.Module, std: float = 0.1, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=std, generator=generator)
    return model.eval()


def compare_with_transformers(**config) -> float:
    hub = randomised(ASTForAudioClassification(HubConfig(num_labels=5, **config)), std=0.05)
    ours = AST(weights.HubConfig.model_validate_json(hub.config.to_json_string()).ours()).eval()
    ours.load_state_dict(hub_state(hub.state_dict(), ours.config.bands))
    mel = torch.randn(2, hub.config.max_length, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return (ours(mel) - hub(mel).logits).abs().max().item()


@pytest.mark.parametrize("stride", [10, 16])
@pytest.mark.parametrize("frames", [128, 250])
def test_equals_transformers(stride, frames):
    difference = compare_with_transformers(
        **TINY, intermediate_size=64, max_length=frames, frequency_stride=stride, time_stride=stride
    )
    assert difference < 1e-5


def test_equals_transformers_at_base_width():
    assert compare_with_transformers(num_hidden_layers=2) < 1e-5


def test_base_configuration_has_the_published_size():
    config = ASTConfig()
    assert (config.bands, config.columns(1024)) == (12, 101)
    with torch.device("meta"):
        model = AST(config)
    assert sum(w.numel() for w in model.parameters()) == 86_594_063


@pytest.fixture(scope="module")
def model() -> AST:
    return randomised(AST(ASTConfig(32, 2, 4, 64, max_frames=256, classes=3, pool="mean")))


def test_padding_beyond_the_stated_frames_is_never_read(model):
    mel = torch.randn(1, 100, 128)
    loud = torch.cat([mel, torch.full((1, 60, 128), 1e3)], dim=1)
    with torch.inference_mode():
        assert torch.allclose(model(mel), model(loud, torch.tensor([100])), atol=1e-5)


def test_the_end_of_a_clip_is_heard(model):
    """Frames that fill no patch are completed with zeros, up to the checkpoint's longest clip."""
    columns = model.config.columns
    assert [columns(n) for n in (15, 16, 17, 26, 27)] == [0, 1, 2, 2, 3]
    assert [columns(n) for n in (246, 251, 256, 265, 266)] == [24, 25, 25, 25, 26]
    assert ASTConfig().columns(1024) == 101 and ASTConfig().columns(998) == 100
    mel, other = torch.randn(2, 1, 43, 128)
    other[:, :42] = mel[:, :42]
    with torch.inference_mode():
        assert not torch.allclose(model(mel), model(other))
        padded = torch.nn.functional.pad(mel, (0, 0, 0, 3))
        assert torch.allclose(model(mel), model(padded), atol=1e-6)


def test_positions_are_cut_in_the_middle_or_interpolated(model):
    grid = model.pos_grid  # (12, 25, 32)
    cut = model._positions(9, 9).unflatten(0, (12, 9))
    assert torch.equal(cut, grid[:, 8:17])
    assert torch.equal(model._positions(25, 25), grid.flatten(0, 1))
    longer = model._positions(50, 50).unflatten(0, (12, 50))
    assert torch.allclose(longer[:, 1], 0.75 * grid[:, 0] + 0.25 * grid[:, 1], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 100, 64), (100, 128), (1, 15, 128)])
def test_impossible_input_is_refused(model, shape):
    with pytest.raises(ValueError):
        model(torch.zeros(shape))


class Constant(nn.Module):
    """A plug-in that returns a fixed value and remembers what it read."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x, mask=None, layer=None):
        self.read = x
        return self.value


def test_a_branch_reads_the_normed_input_and_is_added_once():
    model = randomised(AST(ASTConfig(32, 1, 4, 64, max_frames=64, classes=0, pool="mean")))
    block, x = model.blocks[0], torch.randn(1, 7, 32)
    plain = block(x)
    block.beside_mlp = Constant(torch.full((1, 7, 32), 2.0))
    assert torch.allclose(block(x), plain + 2, atol=1e-5)
    block.beside_mlp, block.beside_attn = None, Constant(torch.ones(1, 7, 32))
    after = x + block.attn(block.ln_attn(x)) + 1
    assert torch.allclose(block(x), after + block.mlp(block.ln_mlp(after)), atol=1e-5)
    assert torch.equal(block.beside_attn.read, block.ln_attn(x))
    assert [path for path, _ in plugins(model)] == ["blocks.0.beside_attn"]


def test_prefix_adds_keys_and_values(model):
    """One extra key with a huge match and value v makes every token attend to v alone."""
    attention = randomised(AST(ASTConfig(8, 1, 1, 8, max_frames=64, classes=0))).blocks[0].attn
    with torch.no_grad():
        attention.q.weight.zero_()
        attention.q.bias.fill_(1.0)
    value = torch.randn(1, 1, 1, 8)

    class Prefix(nn.Module):
        def forward(self, b):
            return torch.full((b, 1, 1, 8), 1e4), value.expand(b, -1, -1, -1)

    attention.prefix = Prefix()
    expected = attention.out(value[:, 0])
    x, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    assert torch.allclose(attention(x, mask), expected.expand(2, 5, 8), atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_the_attention_of_short_clips_in_training_is_that_of_torch(masked):
    """In bfloat16, whose products have three digits; and its gradients."""
    mask = torch.arange(40).expand(3, 40)[:, None, None] < 30 if masked else None
    wide = torch.randn(3, 3, 4, 40, 16, generator=torch.Generator().manual_seed(0))
    exact = [part.requires_grad_() for part in wide.unbind()]
    short = [part.detach().bfloat16().requires_grad_() for part in exact]
    truth = nn.functional.scaled_dot_product_attention(*exact, attn_mask=mask)
    found = attend(*short, mask)
    assert found.grad_fn.name().startswith("UnsafeView")  # a product, not torch's own function
    assert torch.allclose(found.float(), truth, atol=2e-2)
    (truth**2).sum().backward()
    (found.float() ** 2).sum().backward()
    for one, other in zip(exact, short, strict=True):
        assert torch.allclose(other.grad.float(), one.grad, atol=0.1)
