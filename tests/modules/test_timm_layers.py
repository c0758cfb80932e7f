"""timm's layers under our socket: against the raw layer, at sizes and channels it refuses, and in expressions."""

from __future__ import annotations

import inspect
import pickle

import pytest
import timm.layers
import torch
import torch.nn.functional as F
from support.modules import noise
from timm.layers import create_attn

from nasbench.errors import UnknownNameError, UnsupportedError
from nasbench.library.building import build
from nasbench.library.expression import parse
from nasbench.library.modules import create_module, list_modules, module_spec

NAMES = tuple(name.removeprefix("timm/") for name in list_modules("timm/*"))
MULTIPLE = {"halo": 8, "bat": 7}


def pair(name: str, channels: int = 32, **timms: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The raw layer with random weights and statistics, and ours of the same name holding the same ones."""
    torch.manual_seed(0)
    raw = create_attn(name, channels, **timms).double().eval()
    with torch.no_grad():
        for parameter in raw.parameters():
            parameter.normal_(0, 0.3)
    ours = create_module(f"timm/{name}", channels).double().eval()
    ours.layer.load_state_dict(raw.state_dict())
    return raw, ours


def test_every_layer_of_create_attn_is_offered_or_refused_with_a_reason():
    source = inspect.getsource(timm.layers.create_attn.__globals__["get_attn"])
    known = {line.split("'")[1] for line in source.splitlines() if "attn_type == '" in line}
    refused = {name for name in known if name not in NAMES}
    assert len(known) > 15
    assert set(NAMES) <= known
    assert refused == {"ge", "bottleneck"}
    for name in refused:
        with pytest.raises((TypeError, AssertionError)):
            create_attn(name, 64)
        with pytest.raises(UnsupportedError, match=rf"timm/{name}.*timm's .*"):
            create_module(f"timm/{name}", 64)


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_computes_what_timms_does(name: str):
    raw, ours = pair(name)
    x = noise(2, 32, 56, 56 if name in MULTIPLE else 15)
    assert torch.equal(ours(x), raw(x))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in raw.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 7), (13, 6)])
def test_every_size_is_served(name: str, size: tuple[int, int]):
    raw, ours = pair(name)
    x, m = noise(2, 32, *size), MULTIPLE.get(name, 1)
    assert ours(x).shape == x.shape
    padded = F.pad(x, (0, -size[1] % m, 0, -size[0] % m))
    assert torch.equal(ours(x), raw(padded)[..., : size[0], : size[1]])


@pytest.mark.parametrize(
    ("name", "ours", "timms"),
    [
        ("se", {"reduction": 4}, {"rd_ratio": 1 / 4}),
        ("cbam", {"reduction": 8, "kernel": 3}, {"rd_ratio": 1 / 8, "spatial_kernel_size": 3}),
        ("lambda", {"heads": 2, "kernel": 5}, {"num_heads": 2, "r": 5}),
        ("halo", {"heads": 4, "window": 4}, {"num_heads": 4, "block_size": 4}),
        ("bat", {"reduction": 2, "window": 4}, {"rd_ratio": 1 / 2, "block_size": 4}),
        ("strip", {"kernel": 5}, {"kernel_size": 5}),
    ],
)
def test_hyper_parameters_reach_timm_under_its_names(name: str, ours: dict, timms: dict):
    module, raw = create_module(f"timm/{name}", 64, **ours), create_attn(name, 64, **timms)
    assert {k: v.shape for k, v in module.layer.state_dict().items()} == {
        k: v.shape for k, v in raw.state_dict().items()
    }
    assert module.window == ours.get("window", 1)


@pytest.mark.parametrize(
    ("name", "channels", "hyper", "message"),
    [
        ("halo", 12, {}, "`heads` .8. divides"),
        ("lambda", 6, {}, "should be divided by num_heads"),
        ("sk", 3, {}, "even channel counts"),
        ("splat", 3, {}, "even channel counts"),
        ("cbam", 32, {"kernel": 4}, "kernel is 4; allowed: a whole number, odd, at least 1"),
        ("se", 32, {"reduction": 0}, "reduction is 0; allowed: a whole number, at least 1"),
    ],
)
def test_what_a_layer_cannot_serve_is_said(name: str, channels: int, hyper: dict, message: str):
    with pytest.raises(UnsupportedError, match=message):
        create_module(f"timm/{name}", channels, **hyper)


def test_a_layer_that_this_timm_lacks_is_said(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str, channels: int, **kwargs: object) -> None:
        raise AssertionError(f"Invalid attn module ({name})")

    monkeypatch.setattr(timm.layers, "create_attn", absent)
    with pytest.raises(UnsupportedError, match=r"Invalid attn module \(ela\).*versions of timm that have the layer"):
        create_module("timm/ela", 32)


def test_unknown_hyper_parameters_are_refused():
    with pytest.raises(UnknownNameError, match="reduction"):
        create_module("timm/se", 32, reductoin=4)
    with pytest.raises(TypeError, match="bogus"):
        module_spec("timm/se").cls(32, bogus=1)


@pytest.mark.parametrize("text", ["timm/gca", "timm/halo(window=4)", "timm/lambda", "gate(timm/lambda(heads=2), se)"])
def test_layers_are_names_in_expressions(text: str):
    assert parse(text).canonical() == text
    assert parse(f"timm/eca >> {text}").canonical() == f"timm/eca >> {text}"
    x = torch.randn(2, 16, 5, 9)
    assert build(text, channels=16, dims=2)(x).shape == x.shape


def test_the_classes_are_found_by_name_and_pickle():
    for name in NAMES:
        spec = module_spec(f"timm/{name}")
        assert spec.cls.__name__ == f"Timm{name.capitalize()}"
        assert pickle.loads(pickle.dumps(spec.cls)) is spec.cls
        assert spec.family == "timm"
        assert spec.dims == (2,)
    raw, ours = pair("coord")
    x = noise(1, 32, 4, 4)
    assert torch.equal(pickle.loads(pickle.dumps(ours))(x), raw(x))


def test_nl_alone_starts_as_an_identity():
    starting = {name for name in NAMES if module_spec(f"timm/{name}").starts_as_identity}
    assert starting == {"nl"}
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(create_module("timm/nl", 16).train()(x), x)


def test_the_rank_5_weight_of_lambda_survives_every_conversion():
    raw, ours = pair("lambda", 16)
    x = noise(2, 16, 6, 5)
    converted = ours.to(memory_format=torch.channels_last)
    assert ours.layer.conv_lambda.weight.shape == raw.conv_lambda.weight.shape
    assert torch.allclose(converted(x.to(memory_format=torch.channels_last)), raw(x))
    assert ours.float().layer.conv_lambda.weight.dtype == torch.float32
    assert ours.to_empty(device="meta")(x.to("meta").float()).shape == x.shape
