"""PSNR and SSIM of images as super-resolution reports them: on the luma, without a border."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["SMALLEST_PX", "luma", "psnr", "ssim"]

_PEAK = 255.0
_SIGMA, _RADIUS = 1.5, 5  # the window of Wang et al. (IEEE TIP 2004): 11 x 11
_K1, _K2 = 0.01, 0.03

SMALLEST_PX = 2 * _RADIUS + 1
"""SSIM needs images of at least this side, its border already cut off."""


def luma(image: Tensor, border: int) -> Tensor:
    """Return the luma of an image as doubles `(H - 2 border, W - 2 border)`, from 16 to 235 (ITU-R BT.601).

    Args:
        image: Bytes `(3, H, W)` in red, green and blue.
        border: Number of pixels that are cut off at each side.
    """
    _, height, width = image.shape
    inside = image[:, border : height - border, border : width - border].double()
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64).view(3, 1, 1)
    return 16 + (weights * inside).sum(0) / _PEAK


def psnr(found: Tensor, truth: Tensor) -> float:
    """Return the peak signal-to-noise ratio of two images `(H, W)`, in dB, for a peak of 255.

    The PSNR of equal images would be infinite. They count as if one pixel differed by one grey level.
    """
    error = float(((found - truth) ** 2).mean())
    return 10 * math.log10(_PEAK**2 / (error or 1 / truth.numel()))


def ssim(found: Tensor, truth: Tensor) -> float:
    """Return the structural similarity of two images `(H, W)` of doubles, for a range of 255. 1 if they are equal.

    It is that of Wang et al. (IEEE TIP 2004): a Gaussian window of 11 x 11 with deviation 1.5, population covariances,
    and the mean over all windows inside the image.
    """
    steps = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
    window = torch.exp(-(steps**2) / (2 * _SIGMA**2))
    window = window / window.sum()
    stacked = torch.stack([found, truth, found * found, truth * truth, found * truth]).double()[:, None]
    a, b, aa, bb, ab = F.conv2d(F.conv2d(stacked, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))[:, 0]
    c1, c2 = (_K1 * _PEAK) ** 2, (_K2 * _PEAK) ** 2
    alike = (2 * a * b + c1) * (2 * (ab - a * b) + c2)
    return float((alike / ((a * a + b * b + c1) * (aa - a * a + bb - b * b + c2))).mean())
