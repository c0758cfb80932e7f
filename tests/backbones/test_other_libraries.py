"""Insertion into models of torchvision, transformers and segmentation_models_pytorch. Nothing is downloaded."""

import pytest
import torch
from torch import nn

from nasbench.backbones.hooks import Plugin
from nasbench.backbones.insertion import bare_state_dict, insert, slots_of


def torchvision_classification():
    from torchvision.models import resnet18

    return resnet18(num_classes=3), 64, ["layer1.1", "layer2.1", "layer3.1", "layer4.1"]


def torchvision_segmentation():
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3), 64, ["backbone.1"]


def torchvision_detection():
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3), 320, []


SMALL = {"num_attention_heads": 2, "hidden_size": 32}


def transformers_vit():
    t = pytest.importorskip("transformers")
    config = t.ViTConfig(num_hidden_layers=4, intermediate_size=64, image_size=64, patch_size=16, **SMALL)
    return t.ViTForImageClassification(config), 64, ["vit.layers.0", "vit.layers.1", "vit.layers.2"]


def transformers_segformer():
    t = pytest.importorskip("transformers")
    heads = {"depths": [1] * 4, "hidden_sizes": [8, 16, 32, 32], "num_attention_heads": [1, 1, 2, 2]}
    model = t.SegformerForSemanticSegmentation(t.SegformerConfig(decoder_hidden_size=32, **heads))
    return model, 64, [f"segformer.stages.{stage}.blocks.0" for stage in range(4)]


def transformers_detr():
    t = pytest.importorskip("transformers")
    parts = {f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in LAYERS.items()}
    own = {"use_timm_backbone": True, "use_pretrained_backbone": False, "backbone": "resnet18", "backbone_kwargs": {}}
    model = t.DetrForObjectDetection(t.DetrConfig(**own, **parts, d_model=32, num_queries=5))
    return model, 128, [f"model.backbone.model.layer{k}.1" for k in (1, 2, 3, 4)]


LAYERS = {"layers": 1, "ffn_dim": 32, "attention_heads": 2}


def smp_unet():
    smp = pytest.importorskip("segmentation_models_pytorch")
    return smp.Unet("resnet18", encoder_weights=None), 64, [f"encoder.layer{k}.1" for k in (1, 2, 3, 4)]


def tensors(output):
    """Return all tensors in an output, whatever its structure."""
    if isinstance(output, torch.Tensor):
        return [output]
    items = output.values() if hasattr(output, "values") else output if isinstance(output, (list, tuple)) else ()
    return [tensor for item in items for tensor in tensors(item)]


@pytest.mark.parametrize(
    "build",
    [
        torchvision_classification,
        torchvision_segmentation,
        torchvision_detection,
        transformers_vit,
        transformers_segformer,
        transformers_detr,
        smp_unet,
    ],
    ids=lambda build: build.__name__,
)
def test_insertion(build):
    torch.manual_seed(0)
    bare, side, modules = build()
    bare.eval()
    model = insert(bare, {"stage1": "se", "stage2": "coord_attention"}, input_size=(3, side, side)).eval()
    stages = [slot.module for slot in slots_of(model) if "block" not in slot.name]
    assert stages[: len(modules)] == modules
    assert len(stages) >= 2
    # Random images between 0 and 1, as torchvision's detectors expect.
    x = torch.rand(2, 3, side, side)
    with torch.no_grad():
        before, after = tensors(bare(x)), tensors(model(x))
        assert before
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
        # An untrained detector gives every box the same score, so its features are compared.
        parts = [getattr(net, "backbone", net) for net in (bare, model)]
        for plugin in model.modules():
            if isinstance(plugin, Plugin):
                nn.init.constant_(plugin.gate, 0.5)
        before, after = (tensors(part(x)) for part in parts)
    assert not all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    bare.load_state_dict(bare_state_dict(model))
