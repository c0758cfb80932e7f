"""torch.fx traces a host with plug-ins wherever it traces the bare host. A plug-in is one node of the graph."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace

from nasbench.backbones import create_backbone
from nasbench.backbones.insertion import insert
from nasbench.library.modules import module_specs
from nasbench.testing import candidates

FAMILIES = {  # of each layout: maps with channels first and last, tokens with and without a class token, time series
    "test_resnet": (3, 64, 64),
    "test_mambaout": (3, 64, 64),
    "test_efficientnet": (3, 64, 64),
    "deit_tiny_patch16_224": (3, 224, 224),
    "resmlp_12_224": (3, 224, 224),
    "selecsls42": (3, 64, 64),  # a stage returns a list
    "patchtst": (96, 7),
    "dlinear": (96, 7),
}
MODULES = [spec for spec in module_specs() if spec.kind == "module"]


def opened(model: nn.Module) -> nn.Module:
    """Open every gate, so that the plug-ins have a part in the output."""
    for plugin in model.nasbench.values():
        if plugin.gate is not None:
            nn.init.constant_(plugin.gate, 0.5)
    return model.eval()


def plugin_nodes(graph: GraphModule) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if str(node.target).startswith("nasbench.")]


def same(graph: nn.Module, model: nn.Module, x: Tensor) -> bool:
    with torch.no_grad():
        return torch.allclose(graph(x), model(x), atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_hosts_of_every_layout(name):
    size = FAMILIES[name]
    model = opened(insert(create_backbone(name, input_size=size), "self_attention", input_size=size))
    graph = symbolic_trace(model)
    # A plug-in after one of torch's own layers runs in the hook of this layer, and is no node of its own.
    assert plugin_nodes(graph) or name == "dlinear"
    assert same(graph, model, torch.randn(2, *size))


def test_a_host_of_torchvision():
    model = opened(insert(torchvision.models.resnet18(), "se", input_size=(3, 64, 64)))
    assert same(symbolic_trace(model), model, torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("spec", MODULES, ids=lambda spec: spec.name)
def test_every_module_is_a_node_of_the_graph(spec):
    name = "test_resnet" if 2 in spec.dims else "patchtst"
    model = opened(insert(name, {"stage1": spec.name}, input_size=FAMILIES[name]))
    graph = symbolic_trace(model)
    assert plugin_nodes(graph) == ["nasbench.stage1"]
    assert same(graph, model, torch.randn(2, *FAMILIES[name]))


def test_tokens_of_another_image_in_the_graph():
    """The size of the image comes from the graph's own input, not from the last run of the model."""
    bare = timm.create_model("xcit_nano_12_p16_224", img_size=64)
    model = opened(insert(bare, {"stage1": "coord_attention"}, input_size=(3, 64, 64)))
    graph = symbolic_trace(model)
    wide, tall = torch.randn(1, 3, 64, 144), torch.randn(1, 3, 144, 64)
    with torch.no_grad():
        expected = model(wide)
        model(tall)
        assert torch.allclose(graph(wide), expected, atol=1e-5)


def test_a_replaced_module_is_a_node_too():
    model = insert("test_resnet", "none", input_size=(3, 64, 64), replace={"act1": "se"}).eval()
    assert same(symbolic_trace(model), model, torch.randn(1, 3, 64, 64))


def test_features_by_name():
    model = opened(insert("test_resnet", "se", input_size=(3, 64, 64)))
    extractor = torchvision.models.feature_extraction.create_feature_extractor(model, ["layer2"])
    assert extractor(torch.randn(1, 3, 64, 64))["layer2"].shape == (1, 48, 8, 8)


def test_the_page_lists_the_modules_that_can_be_traced_by_themselves():
    traced = set()
    for spec in module_specs():
        with contextlib.suppress(Exception):
            symbolic_trace(next(iter(candidates(spec, [{}]))).build().eval())
            traced.add(spec.name)
    page = (Path(__file__).parents[2] / "docs/inserting.md").read_text(encoding="utf-8")
    listed = page.partition("traced by themselves:")[2].partition(". All others")[0]
    assert set(re.findall(r"`(.+?)`", listed)) == traced
