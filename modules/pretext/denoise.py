"""Denoising (Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, arXiv:2006.11239)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.averaging import MomentumCopy
from nasbench.ops.image_views import ImageViews
from nasbench.ops.position import sinusoidal
from nasbench.ops.pretext import Encoder, Pretext, Progress

_TIMES = 128  # width of the sinusoidal embedding of a time
_FIRST, _LAST = 1e-4, 0.02  # the smallest and the largest β of the paper


@register_module(
    name="denoise",
    kind="pretext",
    dims=2,
    paper="Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020, arXiv:2006.11239",
    limits="needs a host with maps",
    ranges={"steps": "at least 1", "width": "at least 1", "crop": "at least 0.01, at most 1"},
)
class Denoise(Pretext):
    """Find the noise in an image, at every strength from almost none to noise alone.

    .. math:: L = \\lVert \\epsilon - \\hat\\epsilon(x_t, t) \\rVert^2,\\quad
              x_t = \\sqrt{\\bar\\alpha_t}\\, x + \\sqrt{1 - \\bar\\alpha_t}\\, \\epsilon,\\quad
              \\bar\\alpha_t = \\prod_{s=1}^{t} (1 - \\beta_s)

    The pixels of x are in [−1, 1]. β rises linearly from .0001 to .02. The time t is drawn from 1 to T. A vector of t
    is added to the map after each stage of the host. It is zero at t = 0, so the host alone computes the features of
    clean images. A light decoder joins the maps from coarse to fine, and the noisy image at last, and predicts ε.

    The paper's network has no batch norms, and the host can have some. Their running statistics are those of noisy
    images, so a copy of the host with the same weights runs on the clean images, without gradients. This copy is kept.

    The paper uses a U-Net, without crops.

    Args:
        channels: Width C of the host's map after each stage.
        steps: Number T of times.
        width: Width of the decoder. At the size of the image, a quarter of it.
        crop: Smallest area of a crop, as a share of the image.
        flip: Whether images are mirrored left to right.
    """

    needs = "maps"
    fewest = 1
    recipe: ClassVar = {"epochs": 10, "batch_size": 32, "learning_rate": 1e-3}
    kept_share: Tensor
    times: Tensor

    def __init__(
        self, channels: Sequence[int], *, steps: int = 1000, width: int = 64, crop: float = 1.0, flip: bool = True
    ) -> None:
        super().__init__()
        share = (1.0 - torch.linspace(_FIRST, _LAST, steps, dtype=torch.float64)).cumprod(0)
        # Entry t belongs to time t. There is no noise at t = 0.
        self.register_buffer("kept_share", torch.cat([share.new_ones(1), share]).float(), persistent=False)
        self.register_buffer("times", sinusoidal((steps + 1,), _TIMES), persistent=False)
        self.embed = nn.Sequential(nn.Linear(_TIMES, _TIMES), nn.SiLU(), nn.Linear(_TIMES, _TIMES), nn.SiLU())
        # Without a bias, so that equal embeddings add nothing.
        self.to_stages = nn.ModuleList(nn.Linear(_TIMES, each, bias=False) for each in channels)
        self.decoder = _Decoder(channels, width)
        self.view = ImageViews(crop=crop, flip=flip, colour=(0, 0, 0, 0), grey=0.0, blur=0.0)

    def start(self, encoder: nn.Module) -> None:
        """Make the copy that runs on clean images."""
        self.clean = MomentumCopy(encoder)

    def kept(self, encoder: nn.Module) -> nn.Module:
        """Return the copy."""
        return self.clean.module

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Return clean and noisy images, the noise `(B, 3·H·W)` and the times `(B,)`."""
        x = self.view(x, draw)
        noise = torch.randn(x.shape, generator=draw).to(x.device)
        t = torch.randint(1, len(self.kept_share), (len(x),), generator=draw).to(x.device)
        noisy = noised(2 * x - 1, noise, self.kept_share[t])
        # The host's normalisation starts from [0, 1], so at t = 0 it gets what it gets in validation. The noise is
        # flat, so that it is not taken for an image and normalised.
        return {"clean": x, "image": (noisy + 1) / 2, "noise": noise.flatten(1), "t": t}

    def forward(self, encoder: Encoder, views: Any) -> dict[str, Tensor]:
        """Return the noise that is predicted and the true one, `(B, 3·H·W)` each."""
        image = views["image"]
        vectors = self.vectors_of(views["t"])
        predicted = self.decoder(encoder(image, add=vectors), image)
        if self.training:
            # Norms that are frozen in the host are so in the copy.
            for own, other in zip(self.clean.module.modules(), cast(nn.Module, encoder).modules(), strict=True):
                own.training = other.training
            self.clean(views["clean"])
        return {"predicted": predicted.flatten(1), "noise": views["noise"]}

    def vectors_of(self, t: Tensor) -> list[Tensor]:
        """Return the vectors `(B, Ck)` of times `(B,)` for all stages. They are zero at t = 0."""
        embedded = self.embed(self.times[t]) - self.embed(self.times[:1])
        return [layer(embedded) for layer in self.to_stages]

    def loss(self, outputs: Any) -> Tensor:
        """Return the mean squared error of the noise."""
        return F.mse_loss(outputs["predicted"], outputs["noise"])

    def after_step(self, encoder: nn.Module, progress: Progress) -> None:
        """Give the copy the weights of the host."""
        self.clean.update(encoder, 0.0)


def noised(x: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Return √ᾱ x + √(1 − ᾱ) ε for images and noise `(B, C, H, W)` and a share ᾱ for each image `(B,)`."""
    share = share.view(-1, 1, 1, 1)
    return share.sqrt() * x + (1 - share).sqrt() * noise


class _Decoder(nn.Module):
    """Joins maps from coarse to fine, and the image, to a prediction of the image's size."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.join = nn.ModuleList(_layers(width, width) for _ in channels)
        # Most of the cost is at the size of the image.
        narrow = max(1, width // 4)
        self.narrow = nn.Conv2d(width, narrow, 1)
        self.last = nn.Sequential(_layers(narrow + 3, narrow), nn.Conv2d(narrow, 3, 3, padding=1))

    def forward(self, maps: list[Tensor], image: Tensor) -> Tensor:
        x = maps[-1].new_zeros(1)
        for number in reversed(range(len(maps))):
            own = self.lateral[number](maps[number])
            x = self.join[number](own if x.ndim == 1 else own + F.interpolate(x, size=own.shape[2:]))
        x = F.interpolate(self.narrow(x), size=image.shape[2:])
        return self.last(torch.cat([x, image.to(x.dtype)], dim=1))


def _layers(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(1, after), nn.SiLU())
