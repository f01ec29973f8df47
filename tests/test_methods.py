"""The same invariants for every method in the registry."""

import pytest
import torch

from softmoa.ast import AST, ASTConfig, plugins
from softmoa.methods import METHODS, attach, share, trained_parameters, trained_state
from softmoa.methods.mixtures import SoftMoAOptions

CASES = [
    ("linear", {}),
    ("soft-moa", {"reduction": 8}),
    ("soft-moa", {"reduction": 8, "placement": "ffn", "slots": 2}),
    ("soft-moa", {"reduction": 8, "placement": "houlsby", "experts": 3, "normalize": True}),
]


def test_every_method_has_a_case():
    assert {name for name, _ in CASES} == set(METHODS)


@pytest.fixture
def base() -> AST:
    torch.manual_seed(0)
    model = AST(ASTConfig(32, 2, 4, 64, max_frames=64, classes=0, pool="mean")).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model


def attached(base: AST, name: str, options: dict, seed: int = 0) -> AST:
    model = share(base)
    attach(model, name, METHODS[name].options(**options), 4, seed)
    return model


def step(model: AST, mel: torch.Tensor, steps: int = 4) -> None:
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        labels = torch.arange(len(mel)) % 4
        torch.nn.functional.cross_entropy(model(mel), labels).backward()
        optimizer.step()


@pytest.mark.parametrize("name, options", CASES)
def test_freshly_attached_leaves_the_features_unchanged(base, name, options):
    mel = torch.randn(2, 64, 128)
    with torch.inference_mode():
        tokens, _ = attached(base, name, options).features(mel)
        assert torch.equal(tokens, base.features(mel)[0])


@pytest.mark.parametrize("name, options", CASES)
def test_all_that_trains_moves_and_nothing_else(base, name, options):
    model, mel = attached(base, name, options), torch.randn(8, 64, 128)
    before = {key: w.clone() for key, w in model.state_dict().items()}
    original = {key: w.clone() for key, w in base.state_dict().items()}
    step(model, mel)
    trained = trained_state(model).keys()
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, before[key]) != (key in trained), key
    assert all(torch.equal(weight, original[key]) for key, weight in base.state_dict().items())


@pytest.mark.parametrize("name, options", CASES)
def test_base_keys_are_kept(base, name, options):
    model = attached(base, name, options)
    assert base.state_dict().keys() <= model.state_dict().keys()


@pytest.mark.parametrize("name, options", CASES)
def test_the_seed_decides_the_start(base, name, options):
    first, again, other = (trained_state(attached(base, name, options, s)) for s in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    if any("beside" in key for key in first):
        assert not all(torch.equal(first[key], other[key]) for key in first)


def test_attaching_leaves_the_global_random_state_alone(base):
    state = torch.get_rng_state()
    attached(base, "soft-moa", {})
    assert torch.equal(state, torch.get_rng_state())


def test_a_second_method_is_refused(base):
    model = attached(base, "soft-moa", {})
    with pytest.raises(ValueError, match="already carries a method, at blocks.0.beside_attn"):
        attach(model, "linear", METHODS["linear"].options(), 4)


@pytest.mark.parametrize("options", [{"experts": 0}, {"slots": 0}, {"placement": "everywhere"}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SoftMoAOptions(**options)


def test_unknown_methods_and_wrong_options_are_refused(base):
    with pytest.raises(ValueError, match="no method 'magic'"):
        attach(base, "magic", None, 4)
    with pytest.raises(ValueError, match="takes LinearOptions"):
        attach(base, "linear", SoftMoAOptions(), 4)


def test_placement_fills_the_stated_slots(base):
    for placement, slots in (("mhsa", ["attn"]), ("ffn", ["mlp"]), ("houlsby", ["attn", "mlp"])):
        model = attached(base, "soft-moa", {"placement": placement})
        expected = [f"blocks.{i}.beside_{slot}" for i in range(2) for slot in slots]
        assert [path for path, _ in plugins(model)] == expected


@pytest.mark.parametrize(
    "options, count",
    [
        ({}, 922_104),
        ({"experts": 2}, 276_624),
        ({"experts": 15}, 1_954_872),
        ({"slots": 2}, 986_616),
        ({"placement": "ffn"}, 922_104),
        ({"placement": "houlsby"}, 2 * 922_104),
    ],
)
def test_trained_parameters_at_the_base_size_equal_the_closed_formula(options, count):
    """12 layers of n (2 d r + r + d) + d n p + 2 d, with d = 768 and r = 6."""
    with torch.device("meta"):
        model = AST(ASTConfig())
        attach(model, "soft-moa", SoftMoAOptions(**options), 10)
    assert trained_parameters(model) == count
    assert trained_parameters(model, head=True) == count + 2 * 768 + 768 * 10 + 10
