"""Random views of images, for a whole batch at once: crop, flip, colours, grey, blur.

Each image has random numbers of its own. They come from a generator on the CPU, so they do not depend on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ImageViews", "adjusted", "blurred", "cropped", "grey_of"]

_RATIO = (3 / 4, 4 / 3)
_BLUR = (0.1, 2.0)  # standard deviation in pixels of an image of side 224
_SIDE = 224
_REACH = 3  # standard deviations of the blur's kernel on each side


@dataclass(frozen=True)
class ImageViews:
    """Draw views as SimCLR does: crop and resize, flip, colour jitter, grey, blur.

    Attributes:
        crop: Smallest area of a crop, as a share of the image. If it is 1, images are not cropped.
        largest: Largest area of a crop, as a share of the image.
        size: Height and width of the views. None means those of the images.
        flip: Whether half of the images are mirrored left to right.
        colour: Strength of the jitter of brightness, contrast, saturation and hue. A factor is drawn from
            [max(0, 1 − s), 1 + s]. The hue is turned by up to s of a full turn.
        colour_share: Share of the images whose colours are changed.
        grey: Share of the images that become grey.
        blur: Share of the images that are blurred, with a standard deviation from 0.1 to 2 pixels for a side of 224.
        solarise: Share of the images whose bright pixels are inverted.
    """

    crop: float = 0.08
    largest: float = 1.0
    size: tuple[int, int] | None = None
    flip: bool = True
    colour: Sequence[float] = (0.8, 0.8, 0.8, 0.2)
    colour_share: float = 0.8
    grey: float = 0.2
    blur: float = 0.5
    solarise: float = 0.0

    def __call__(self, x: Tensor, draw: torch.Generator) -> Tensor:
        """Return one view of each image, `(B, 3, *size)` with pixels in [0, 1]."""
        count = len(x)

        def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
            return (low + (high - low) * torch.rand(count, generator=draw)).to(x.device, x.dtype)

        area, shape = uniform(self.crop, self.largest), uniform(math.log(_RATIO[0]), math.log(_RATIO[1])).exp()
        height, width = (area / shape).sqrt().clamp(max=1.0), (area * shape).sqrt().clamp(max=1.0)
        if self.crop == 1:
            height, width = torch.ones_like(height), torch.ones_like(width)
        mirrored = uniform() < (0.5 if self.flip else 0.0)
        x = cropped(x, uniform(), uniform(), height, width, mirrored, self.size)
        factors = [uniform(max(0.0, 1.0 - s), 1.0 + s) for s in self.colour[:3]] + [
            uniform(-self.colour[3], self.colour[3])
        ]
        changed, order = uniform() < self.colour_share, torch.randperm(4, generator=draw).tolist()
        if any(self.colour):
            x = torch.where(_each(changed), adjusted(x, factors, order), x)
        x = torch.where(_each(uniform() < self.grey), grey_of(x), x)
        soft, deviation = uniform() < self.blur, uniform(*_BLUR) * (x.shape[-1] / _SIDE)
        x = torch.where(_each(soft), blurred(x, deviation), x) if self.blur else x
        return torch.where(_each(uniform() < self.solarise) & (x >= 0.5), 1 - x, x) if self.solarise else x


def cropped(
    x: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    mirrored: Tensor,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Cut a part of each image and scale it bilinearly to one size.

    Args:
        x: Images `(B, C, H, W)`.
        top: Place of the part between the highest (0) and the lowest (1) that fits, `(B,)`.
        left: The same from left to right.
        height: Height of the part, as a share of the image's, `(B,)`.
        width: Width of the part, as a share of the image's, `(B,)`.
        mirrored: Whether it is mirrored left to right, `(B,)`.
        size: Height and width of the result. None means those of the images.
    """
    # In the coordinates of `affine_grid` an image reaches from −1 to 1. The part has the middle (across, down).
    across, down = (2 * left - 1) * (1 - width), (2 * top - 1) * (1 - height)
    zero = torch.zeros_like(width)
    sign = 1 - 2 * mirrored.to(width.dtype)
    theta = torch.stack([sign * width, zero, across, zero, height, down], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [*x.shape[:2], *(x.shape[2:] if size is None else size)], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def adjusted(x: Tensor, factors: Sequence[Tensor], order: Sequence[int]) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image, in an order. They are torchvision's functions.

    Args:
        x: Images `(B, 3, H, W)` with pixels in [0, 1].
        factors: The factors of brightness, contrast and saturation, and the turn of the hue, each `(B,)`.
        order: The numbers 0 to 3 in the order in which the changes are made.
    """
    for number in order:
        factor = _each(factors[number])
        if number == 3:
            x = _turned(x, factor)
            continue
        other = (torch.zeros_like(x), grey_of(x).mean((1, 2, 3), keepdim=True), grey_of(x))[number]
        x = (factor * x + (1 - factor) * other).clamp(0, 1)
    return x


def grey_of(x: Tensor) -> Tensor:
    """Return the brightness of each pixel in all three channels (ITU-R BT.601)."""
    weights = x.new_tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True).expand_as(x)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of each pixel by a share of the full circle, as in the colour model HSV."""
    largest, smallest = x.amax(1), x.amin(1)
    spread = largest - smallest
    safe = spread.clamp(min=1e-12)
    red, green, blue = ((largest - channel) / safe for channel in x.unbind(1))
    is_red, is_green = x[:, 0] == largest, (x[:, 1] == largest) & (x[:, 0] != largest)
    sixth = torch.where(is_red, blue - green, torch.where(is_green, 2 + red - blue, 4 + green - red))
    hue = (torch.where(spread > 0, sixth / 6, torch.zeros_like(sixth)) + turn.squeeze(1)) % 1.0
    # A channel is largest within a sixth of the circle around its own hue, and smallest within a sixth around the
    # opposite one. In between it changes linearly.
    places = x.new_tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1)
    distance = (places + 6 * hue.unsqueeze(1)) % 6
    fall = torch.minimum(distance, 4 - distance).clamp(0, 1)
    return largest.unsqueeze(1) - spread.unsqueeze(1) * fall


def blurred(x: Tensor, deviation: Tensor) -> Tensor:
    """Blur each image with a Gaussian of its own standard deviation `(B,)` in pixels. The border is reflected."""
    reach = max(1, min(math.ceil(_REACH * float(deviation.max())), min(x.shape[-2:]) - 1))
    steps = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (steps / deviation.clamp(min=1e-3).unsqueeze(1)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    batch, channels = x.shape[:2]
    groups = batch * channels
    weight = kernel.repeat_interleave(channels, 0)
    flat = F.pad(x, [reach] * 4, mode="reflect").reshape(1, groups, *(side + 2 * reach for side in x.shape[-2:]))
    flat = F.conv2d(flat, weight.view(groups, 1, 1, -1), groups=groups)
    return F.conv2d(flat, weight.view(groups, 1, -1, 1), groups=groups).view_as(x)


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
