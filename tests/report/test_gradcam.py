"""Class activation maps: by their definition, equal to Grad-CAM where pooling and one linear layer end a model."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nasbench as nb
from nasbench.backbones.insertion import slots_of
from nasbench.errors import UnsupportedError
from nasbench.report.gradcam import cam, gradcam, is_cam

SIZE = (3, 64, 64)


def host(name, plan=None):
    torch.manual_seed(0)
    model = nb.insert(name, plan, input_size=SIZE, num_classes=5, identity_init=False)
    return model, torch.randn(3, *SIZE), slots_of(model)


@pytest.mark.parametrize(
    ("name", "plan"),
    [("test_resnet", {}), ("test_resnet", {"stage4": "se"}), ("regnetx_002", {"stage2": "eca"}), ("repvgg_a0", {})],
)
def test_cam_is_its_definition_and_equals_grad_cam(name, plan):
    """timm gives the last map and the linear layer: the map of a class is the sum of channels times its weights."""
    model, images, slots = host(name, plan)
    maps, classes = cam(model, images, slots)
    assert model.training
    with torch.no_grad():
        model.eval()
        assert classes == model(images).argmax(1).tolist()
        total = torch.einsum("bchw,bc->bhw", model.forward_features(images), model.get_classifier().weight[classes])
    total = F.interpolate(total.clamp(min=0)[:, None], SIZE[1:], mode="bilinear")[:, 0]
    expected = (total / total.amax((1, 2), keepdim=True)).numpy()
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    by_gradient, again = gradcam(model, images, slots)
    np.testing.assert_allclose(maps, by_gradient, atol=1e-5)
    assert again == classes
    assert is_cam(model, images, slots, by_gradient)


@pytest.mark.parametrize("name", ["test_convnext", "test_vit", "mobilenetv3_small_050"])
def test_a_host_that_ends_otherwise_has_no_cam(name):
    """A norm after the pooling, a class token, a convolution and an activation between the last map and the pooling."""
    model, images, slots = host(name)
    with pytest.raises(UnsupportedError, match="does not end in average pooling and one linear layer"):
        cam(model, images, slots)
    assert not is_cam(model, images, slots, gradcam(model, images, slots)[0])
