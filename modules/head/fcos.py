"""FCOS (Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, arXiv:1904.01355)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.detection import MOST_DETECTIONS, Detections, Objects
from nasbench.ops.nd import at_least_float32, conv
from nasbench.ops.pyramid import check_levels

_GROUPS = 32  # of torchvision's group norms
_WIDTH = 256  # the paper's


@register_module(
    name="fcos",
    kind="head",
    tasks=("detection",),
    dims=2,
    paper="Tian et al., FCOS: Fully Convolutional One-Stage Object Detection, ICCV 2019, arXiv:1904.01355",
    ranges={"width": "at least 1", "convs": "at least 1"},
    limits="widths that are multiples of 32",
)
class FcosHead(nn.Module):
    """Let each position of each level predict classes, the distances to four sides of a box, and its centredness.

    Layers, loss and decoding are those of torchvision's FCOS, which are called one by one. Its forward is never called,
    because it resizes and normalises images. Every position has one anchor, whose size is the stride. The classes get
    the focal loss, the boxes the GIoU loss, the centredness a binary cross-entropy, and each sum is divided by the
    number of positions with an object (at least 1). The score is √(class · centredness).

    Every distance starts at one stride, which is exp(0) in the paper. torchvision has a ReLU instead of the exponential
    and starts it at 0, where it can die: on BCCD all distances were 0, without a gradient, after 15 steps.

    torchvision puts the centre of the anchor of column i at i times the stride. The images must be padded to the
    coarsest stride.

    Shapes: a list of `(B, C_i, H_i, W_i)` to `cls_logits` `(B, N, num_classes)`, `bbox_regression` `(B, N, 4)`,
    `bbox_ctrness` `(B, N, 1)`, and `anchors`, a list of `(B, N_i, 4)` in pixels. N_i is the number of positions of a
    level, and N is their sum.

    Args:
        channels: C_i of every level, fine to coarse.
        num_classes: Number of classes, without a background.
        strides: Stride of every level in pixels.
        width: Channels of the layers, a multiple of 32. None means the channels of the levels if they are all the same
            multiple of 32, and otherwise 256. Levels with other channels pass through a 1x1 convolution first.
        convs: 3x3 convolutions before the last ones. The paper has 4. For small images 2 are enough.

    Raises:
        UnsupportedError: If `width` is not a multiple of 32.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int,
        strides: Sequence[int],
        width: int | None = None,
        convs: int = 4,
    ) -> None:
        super().__init__()
        if width is None:
            width = channels[0] if len(set(channels)) == 1 and channels[0] % _GROUPS == 0 else _WIDTH
        if width % _GROUPS:
            raise UnsupportedError(f"width is {width}; allowed: multiples of {_GROUPS}")
        self.strides = tuple(strides)
        self.narrow = nn.ModuleList(nn.Identity() if c == width else conv(2, c, width) for c in channels)
        body = nn.Identity()
        setattr(body, "out_channels", width)  # noqa: B010  (torchvision asks its backbone for this number)
        self.fcos = FCOS(
            body,
            num_classes,
            anchor_generator=AnchorGenerator(tuple((s,) for s in strides), ((1.0,),) * len(strides)),
            head=FCOSHead(width, 1, num_classes, convs),
            detections_per_img=MOST_DETECTIONS,
        )
        nn.init.ones_(self.fcos.head.regression_head.bbox_reg.bias)

    def forward(self, maps: Sequence[Tensor], inputs: Tensor) -> dict[str, Tensor | list[Tensor]]:
        """A list of `(B, C_i, H_i, W_i)` and the images `(B, 3, H, W)` to what the class describes."""
        check_levels(maps, len(self.narrow))
        levels = [narrow(x) for narrow, x in zip(self.narrow, maps, strict=True)]
        outputs = {key: at_least_float32(value) for key, value in self.fcos.head(levels).items()}
        anchors = self._anchors([tuple(x.shape[2:]) for x in maps], outputs["cls_logits"])
        return {**outputs, "anchors": [each.expand(inputs.shape[0], -1, -1) for each in anchors]}

    def loss(self, raw: dict[str, Tensor | list[Tensor]], targets: Objects) -> Tensor:
        """Return the sum of the three losses of torchvision's FCOS."""
        levels = [each.shape[1] for each in raw["anchors"]]
        anchors = list(torch.cat(list(raw["anchors"]), dim=1))
        return sum(self.fcos.compute_loss(list(targets), raw, anchors, levels).values(), torch.zeros(()))

    def decode(self, raw: dict[str, Tensor | list[Tensor]], sizes: Sequence[tuple[int, int]]) -> Detections:
        """Return boxes, scores and labels of each image."""
        levels = [each.shape[1] for each in raw["anchors"]]
        split = {key: list(value.split(levels, dim=1)) for key, value in raw.items() if isinstance(value, Tensor)}
        anchors = [list(each) for each in zip(*raw["anchors"], strict=True)]
        return self.fcos.postprocess_detections(split, anchors, list(sizes))

    def _anchors(self, grids: list[tuple[int, ...]], like: Tensor) -> list[Tensor]:
        """Return the anchors of each level, `(N_i, 4)`."""
        generator = self.fcos.anchor_generator
        generator.set_cell_anchors(like.dtype, like.device)
        # the strides that are given, not image by map, which is another number where the image is not padded
        steps = [[torch.tensor(stride, device=like.device)] * 2 for stride in self.strides]
        return generator.grid_anchors(grids, steps)
