"""The same invariants for every method in the registry, and each family against its oracle."""

from dataclasses import asdict, fields

import peft
import pytest
import torch
import torch.nn.functional as F
from encoders import loaded, tiny
from pydantic import ValidationError
from transformers import ASTConfig as HubConfig
from transformers import ASTForAudioClassification

from softmoa.data.audio import pad_batch
from softmoa.data.values import sentence
from softmoa.methods import METHODS, attach, bundle, share, trained_state
from softmoa.methods.adapters import ClipNorm, ConvAdapter, LookAside
from softmoa.methods.budget import matched_options, parameters_of
from softmoa.methods.mixtures import ConvExperts
from softmoa.methods.tokens import Prompts
from softmoa.model import weights
from softmoa.model.ast import AST, ASTConfig, plugins
from softmoa.model.moa import auxiliary_loss
from softmoa.model.weights import hub_state

CASES = [
    *((name, {}) for name in "linear full bitfit ln-tuning last-blocks ssf ia3".split()),
    ("dora", {"rank": 4}),
    ("lora", {"rank": 4}),
    ("lora", {"rank": 2, "alpha": 4, "targets": "all"}),
    ("shallow-prompt", {"length": 5}),
    ("deep-prompt", {"length": 3}),
    ("prefix", {"length": 3}),
    ("adapter", {"reduction": 8}),
    ("adapter", {"reduction": 8, "placement": "houlsby"}),
    ("conv-adapter", {"reduction": 8, "kernel": 7}),
    ("conv-adapter", {"reduction": 8, "kernel": 4, "along": "time", "placement": "ffn"}),
    ("adaptformer", {"reduction": 8}),
    ("look-aside", {"reduction": 8}),
    ("soft-lora", {"rank": 4, "slots": 2}),
    ("dense-moa", {"reduction": 8, "experts": 3}),
    ("topk-moa", {"reduction": 8, "experts": 3, "balance": "bias"}),
    ("topk-moa", {"reduction": 8, "experts": 3, "k": 2, "balance": "loss", "placement": "ffn"}),
    ("soft-moa", {"reduction": 8}),
    ("soft-moa", {"reduction": 8, "placement": "ffn", "slots": 2}),
    ("soft-moa", {"reduction": 8, "placement": "houlsby", "experts": 3, "normalize": True}),
    ("soft-moa", {"reduction": 8, "slots": 4, "module": "convolution"}),
]
EVERY = pytest.mark.parametrize("name, options", CASES, ids=lambda value: str(value))
SMALL = ASTConfig(384, 6, 6, 1536, 16, 16, 16, classes=0)


def test_every_method_has_a_case():
    assert {name for name, _ in CASES} == set(METHODS)


@pytest.fixture
def base() -> AST:
    return tiny()


def attached(base: AST, name: str, options: dict, seed: int = 0) -> AST:
    model = share(base)
    attach(model, name, METHODS[name].options(**options), 4, seed)
    return model


def randomised(model: AST) -> AST:
    """All that trains at random values, so that every part takes part."""
    for weight in trained_state(model).values():
        torch.nn.init.normal_(weight, std=0.1)
    return model.eval()


def train(model: AST, mel: torch.Tensor, labels: torch.Tensor, steps: int, rate=0.01) -> None:
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], rate)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        (F.cross_entropy(model(mel), labels) + auxiliary_loss(model)).backward()
        optimizer.step()
    model.eval()


@EVERY
def test_a_fresh_method_leaves_the_features_unchanged_unless_it_says_so(base, name, options):
    mel = torch.randn(2, 64, 128)
    with torch.inference_mode():
        tokens, _ = attached(base, name, options).features(mel)
        same = torch.equal(tokens, base.features(mel)[0])
    assert same == (METHODS[name].family != "Tokens")  # no token is neutral


@EVERY
def test_all_that_trains_moves_and_nothing_else(base, name, options):
    model, mel = attached(base, name, options), torch.randn(8, 64, 128)
    before = {key: w.clone() for key, w in model.state_dict().items()}
    original = {key: w.clone() for key, w in base.state_dict().items()}
    train(model, mel, torch.arange(8) % 4, steps=4)
    trained = trained_state(model).keys()
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, before[key]) != (key in trained), key
    assert all(torch.equal(weight, original[key]) for key, weight in base.state_dict().items())


@EVERY
def test_the_seed_decides_the_start(base, name, options):
    first, again, other = (trained_state(attached(base, name, options, s)) for s in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    if list(plugins(attached(base, name, options))) and METHODS[name].family != "Scaling":
        assert not all(torch.equal(first[key], other[key]) for key in first)


@EVERY
def test_a_clip_does_not_depend_on_its_batch(base, name, options):
    model = randomised(attached(base, name, options))
    mels = [torch.randn(n, 128) for n in (16, 64, 40)]
    with torch.inference_mode():
        together = model(*pad_batch(mels))
        alone = torch.cat([model(mel[None]) for mel in mels])
    assert (together - alone).abs().max() < 1e-4 * alone.abs().max()


@EVERY
def test_a_method_takes_the_precision_of_its_encoder(base, name, options):
    half = attached(AST(base.config).bfloat16(), name, options)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    assert half(torch.randn(1, 40, 128, dtype=torch.bfloat16)).dtype == torch.bfloat16


@EVERY
def test_a_bundle_brings_the_same_logits_back(base, name, options, tmp_path):
    chosen = METHODS[name].options(**options)
    model = randomised(attached(base, name, options))
    info = bundle.BundleInfo("x", "task", name, asdict(chosen), tuple("abcd"), "tiny", "0123")
    bundle.save(tmp_path / "x.safetensors", trained_state(model), info)
    opened, read = bundle.load(tmp_path / "x.safetensors", loaded(base, "0123"))
    assert METHODS[name].options(**read.options) == chosen
    mel = torch.randn(2, 64, 128)
    with torch.inference_mode():
        assert torch.equal(opened(mel), model(mel))


@EVERY
def test_learns_a_separable_task(name, options):
    """Energy in the lower or the upper half of the bands; the clips that are judged are new."""

    def clips(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        mel, labels = 0.5 * torch.randn(count, 32, 128), torch.arange(count) % 2
        for clip, label in zip(mel, labels.tolist(), strict=True):
            clip[:, 64 * label : 64 * label + 64] += 2
        return mel, labels

    model = attached(tiny(0.05, matrices=True), name, options)
    train(model, *clips(16), steps=15, rate=0.005 if name == "full" else 0.01)
    mel, labels = clips(64)
    with torch.inference_mode():
        assert (model(mel).argmax(dim=1) == labels).float().mean() > 0.9


@pytest.mark.parametrize(
    "name, options",
    [
        ("soft-moa", {"experts": 0}),
        ("soft-moa", {"experts": 2.0}),
        ("adapter", {"placement": "everywhere"}),
        ("adapter", {"reduction": float("nan")}),
        ("lora", {"alpha": -1.0}),
        ("topk-moa", {"k": 8}),
        ("topk-moa", {"balance": "luck"}),
    ],
)
def test_impossible_options_are_refused(name, options):
    with pytest.raises(ValidationError) as error:
        METHODS[name].options(**options)
    assert sentence(error.value).startswith(f"{next(iter(options))} must be ")


@pytest.mark.parametrize("name", ["adapter", "conv-adapter", "dense-moa", "topk-moa", "soft-moa"])
def test_placement_fills_the_stated_slots(base, name):
    for placement, slots in (("mhsa", ["attn"]), ("ffn", ["mlp"]), ("houlsby", ["attn", "mlp"])):
        model = attached(base, name, {"placement": placement})
        expected = [f"blocks.{i}.beside_{slot}" for i in range(2) for slot in slots]
        assert [path for path, _ in plugins(model)] == expected


@pytest.mark.parametrize(
    "name, options, count",
    [
        ("linear", {}, 0),
        ("full", {}, 86_187_264 - 2 * 768),
        ("bitfit", {}, 102_144),
        ("lora", {}, 221_184),
        ("dora", {}, 221_184 + 12 * 2 * 768),
        ("ln-tuning", {}, 12 * 2 * 2 * 768),
        ("last-blocks", {}, 12 * 768**2 + (4 + 5 + 4) * 768),
        ("ssf", {}, 12 * 2 * (5 * 768 + 3072) + 12 * 2 * 2 * 768),
        ("ia3", {}, 12 * (2 * 768 + 3072)),
        ("adaptformer", {}, 12 * (2 * 64 * 768 + 64 + 768 + 2 * 768)),
        ("look-aside", {}, 12 * (2 * 8 * 768 * 3 + 8 + 768 + 2 * 768)),
        ("soft-lora", {}, 12 * (7 * 2 * 6 * 768 + 7 * 768 + 2 * 768)),
        ("shallow-prompt", {}, 230_400),
        ("deep-prompt", {}, 230_400),
        ("prefix", {}, 221_184),
        ("adapter", {}, 248_976),
        ("adapter", {"placement": "houlsby"}, 497_952),
        ("conv-adapter", {}, 270_720),
        ("dense-moa", {}, 922_188),
        ("dense-moa", {"experts": 15}, 1_955_052),
        ("topk-moa", {}, 922_188),
        ("topk-moa", {"balance": "bias"}, 922_188 + 12 * 7),
        ("soft-moa", {"experts": 2}, 276_624),
        ("soft-moa", {}, 922_104),
        ("soft-moa", {"experts": 15}, 1_954_872),
        ("soft-moa", {"slots": 2, "experts": 15}, 2_093_112),
        ("soft-moa", {"placement": "houlsby"}, 2 * 922_104),
        ("soft-moa", {"module": "convolution"}, 922_104 + 12 * 7 * (3 * 6 * 6 + 6)),
    ],
)
def test_trained_parameters_at_the_base_size_are_the_papers(name, options, count):
    """As the papers count: without the head and the final norm, which train as well."""
    assert parameters_of(ASTConfig(), name, METHODS[name].options(**options)) == count


@pytest.mark.parametrize("config, budget", [(ASTConfig(), 922_104), (SMALL, 133_758)])
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.sizes])
def test_methods_meet_a_budget(name, config, budget):
    """The budget is that of Soft-MoA at its defaults, on the base and on the small encoder."""
    options = matched_options(config, name, budget)
    assert abs(parameters_of(config, name, options) / budget - 1) < 0.05
    defaults = METHODS[name].options()
    for field in fields(defaults):
        if field.name not in METHODS[name].sizes:
            assert getattr(options, field.name) == getattr(defaults, field.name)


@pytest.fixture
def twins():
    """Transformers' tiny encoder with a head, and ours with the same weights, names by ours."""
    torch.manual_seed(0)
    config = HubConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_length=64, num_labels=4,
    )  # fmt: skip
    hub = ASTForAudioClassification(config).eval()
    ours = AST(weights.HubConfig.model_validate_json(hub.config.to_json_string()).ours()).eval()
    ours.load_state_dict(hub_state(hub.state_dict(), ours.config.bands))
    return ours, hub


PEFT = {  # ours -> the oracle's configuration, and (our slot, our weight, its weight) by layer
    "lora": (
        peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "v_proj"]),
        {"rank": 3, "alpha": 7},
        [
            (f"attn.{p}.delta.{mine}.weight", f"attention.{p}_proj.lora_{its}.default.weight")
            for p in "qv"
            for mine, its in (("down", "A"), ("up", "B"))
        ],
    ),
    "dora": (
        peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "v_proj"], use_dora=True),
        {"rank": 3, "alpha": 7},
        [
            (f"attn.{p}.delta.{mine}", f"attention.{p}_proj.lora_{its}.default.weight")
            for p in "qv"
            for mine, its in (
                ("down.weight", "A"),
                ("up.weight", "B"),
                ("length", "magnitude_vector"),
            )
        ],
    ),
    "ia3": (
        peft.IA3Config(target_modules=["k_proj", "v_proj", "fc2"], feedforward_modules=["fc2"]),
        {},
        [
            ("attn.k.delta.scale", "attention.k_proj.ia3_l.default"),
            ("attn.v.delta.scale", "attention.v_proj.ia3_l.default"),
            ("mlp.down.delta.scale", "mlp.fc2.ia3_l.default"),
        ],
    ),
}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's to mend
@pytest.mark.parametrize("name", PEFT)
def test_it_equals_peft(twins, name):
    """The same weights on transformers' encoder: the same logits and the same gradients."""
    ours, hub = twins
    config, options, names = PEFT[name]
    head, pooling = ours.head, ours.pooling
    attach(ours, name, METHODS[name].options(**options), 4)
    ours.head, ours.pooling = head, pooling
    theirs = peft.get_peft_model(hub, config)
    encoder = theirs.base_model.model.audio_spectrogram_transformer
    pairs = [
        (block.get_parameter(mine), encoder.layers[layer].get_parameter(its))
        for layer, block in enumerate(ours.blocks)
        for mine, its in names
    ]
    for mine, oracle in pairs:
        torch.nn.init.normal_(mine, mean=1.0 if mine.ndim == 1 else 0.0, std=0.3)
        oracle.data.copy_(mine.detach().view_as(oracle))
    mel, labels = torch.randn(3, 64, 128), torch.tensor([0, 1, 2])
    logits, expected = ours(mel), theirs(mel).logits
    assert torch.allclose(logits, expected, atol=1e-5)
    F.cross_entropy(logits, labels).backward()
    F.cross_entropy(expected, labels).backward()
    for mine, oracle in pairs:
        assert mine.grad.abs().max() > 0
        assert torch.allclose(mine.grad, oracle.grad.view_as(mine), atol=1e-6)


def test_scaling_computes_what_its_figure_says(base):
    """SSF against scaled weights of the frozen encoder, merged by hand."""
    model, merged = randomised(attached(base, "ssf", {})), share(base)
    merged.reset_head(4)
    state = trained_state(model)
    merged.load_state_dict({k: w for k, w in state.items() if "delta" not in k}, strict=False)
    for path, delta in plugins(model):
        linear = merged.get_submodule(path.removesuffix(".delta"))
        linear.weight = torch.nn.Parameter(delta.scale[:, None] * linear.weight)
        linear.bias = torch.nn.Parameter(delta.scale * linear.bias + delta.shift)
    mel = torch.randn(2, 64, 128)
    assert torch.allclose(model(mel), merged.eval()(mel), atol=1e-4)


def test_a_look_aside_adapter_hears_its_neighbours_in_time_and_frequency(base):
    """One lit patch of 3 bands x 4 columns reaches the three columns and bands around it."""
    adapter = LookAside(6, 2, kernel=3, bands=3)
    for weight in adapter.parameters():
        torch.nn.init.ones_(weight) if weight.ndim > 1 else torch.nn.init.zeros_(weight)
    x = torch.zeros(1, 2 + 12, 6)
    x[:, 2 + 1 * 4 + 1] = 1.0  # band 1, column 1
    heard = adapter(x)[0].abs().sum(dim=1)
    assert not heard[:2].any()
    assert heard[2:].view(3, 4).gt(0).tolist() == [[True, True, True, False]] * 3


def test_a_convolution_of_experts_looks_at_three_slots_of_its_own():
    """Against torch's own convolution; an expert never sees another's slots."""
    experts = ConvExperts(16, 2, 4)
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    x = torch.randn(3, 2, 5, 16)
    wanted = []
    for j in range(2):
        hidden = F.gelu(x[:, j] @ experts.down[j] + experts.down_bias[j])
        kernel = experts.conv[j].permute(2, 1, 0)  # (out, in, taps)
        heard = F.conv1d(hidden.mT, kernel, experts.conv_bias[j], padding=1).mT
        wanted.append(F.gelu(heard) @ experts.up[j] + experts.up_bias[j])
    torch.testing.assert_close(experts(x), torch.stack(wanted, dim=1), rtol=1e-4, atol=1e-4)


def test_prompts_stand_behind_the_tokens_and_are_dropped():
    """What goes in keeps its place; deep prompts are replaced and shallow ones travel on."""
    x, mask = torch.randn(2, 6, 8), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    deep, shallow = Prompts(2, 3, 8, 16), Prompts(1, 3, 8, 16)
    first, extended = deep(x, mask, 0)
    assert torch.equal(first[:, :6], x) and torch.equal(first[1, 6:], deep.tokens[0])
    assert extended[:, 6:].all() and torch.equal(extended[:, :6], mask)
    second, extended = deep(first + 1, extended, 1)
    assert torch.equal(second[:, :6], x + 1) and torch.equal(second[0, 6:], deep.tokens[1])
    assert extended.shape == (2, 9)
    assert torch.equal(shallow(first, None, 1)[0], first)


@pytest.mark.parametrize("along, kernel", [("sequence", 5), ("sequence", 4), ("time", 3)])
def test_the_convolution_reaches_the_stated_neighbours(along, kernel):
    """One lit token of 2 + 3 bands x 4 columns; which tokens hear of it."""
    adapter = ConvAdapter(6, 2, kernel, bands=3 if along == "time" else None)
    h = torch.zeros(1, 14, 2)
    token = 2 + 1 * 4 + 0  # band 1, column 0
    h[:, token] = 1.0
    adapter.conv.bias.data.zero_()
    heard = adapter.heard(h).abs()[0].sum(dim=1) > 0
    before = {("sequence", 5): 2, ("sequence", 4): 2, ("time", 3): 0}[along, kernel]
    after = {("sequence", 5): 2, ("sequence", 4): 1, ("time", 3): 1}[along, kernel]
    assert heard.nonzero()[:, 0].tolist() == list(range(token - before, token + after + 1))


def test_the_clip_norm_is_batch_norm_on_one_clip_and_skips_padding():
    norm, x = ClipNorm(4), torch.randn(3, 9, 4)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    mask = torch.tensor([[True] * 9, [True] * 5 + [False] * 4, [False] * 2 + [True] * 7])
    for clip, real, y in zip(x, mask, norm(x, mask), strict=True):
        expected = F.batch_norm(clip[real], None, None, norm.weight, norm.bias, training=True)
        assert torch.allclose(y[real], expected, atol=1e-5)
    assert torch.allclose(norm(x)[1], norm(x[1:2])[0], atol=1e-6)
