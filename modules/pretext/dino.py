"""DINO (Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021, arXiv:2104.14294)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.averaging import MomentumCopy, base_momentum, cosine_momentum
from nasbench.ops.image_views import ImageViews
from nasbench.ops.pretext import Encoder, Pretext, Progress

_MOST = 65536  # outputs of the head in the paper
_LOCAL = 96 / 224  # side of a local crop to that of a global one, in the paper
_MULTIPLES = (1, 16, 32)  # sides that hosts accept, from any side to whole patches


@register_module(
    name="dino",
    kind="pretext",
    dims=2,
    paper="Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021, arXiv:2104.14294",
    ranges={
        "outputs": "at least 2",
        "hidden": "at least 1",
        "width": "at least 1",
        "local": "at least 0",
        "local_size": "at least 1",
        "split": "at least 0.01, at most 1",
        "crop": "at least 0.01, at most 1",
        "temperature": "at least 0.001, at most 100",
        "teacher_temperature": "at least 0.001, at most 100",
        "momentum": "at least 0, at most 1",
    },
)
class DINO(Pretext):
    """Give every crop of an image the output that a slowly following teacher gives another, larger crop of it.

    .. math:: L = \\frac{1}{|P|} \\sum_{(u, v) \\in P} -\\sum_k p_k(u) \\log q_k(v),\\quad
              p = \\mathrm{softmax}\\frac{t - c}{\\tau_t},\\quad q = \\mathrm{softmax}\\frac{s}{\\tau_s}

    t is the teacher's output for a global crop u, and s that of the trained network for any crop v. P are all pairs but
    those of a crop with itself. The centre c is a moving average of the teacher's outputs, which is updated after the
    step. Centring and a low temperature together keep the outputs from collapsing. The teacher's parameters are an
    average of those of the trained network, with a momentum that rises to 1 along a cosine.

    The head has three linear layers with GELU, then unit vectors, then a linear layer whose rows have length 1. This
    last layer does not change in the first epoch.

    Args:
        channels: Width C of the host's pooled features.
        items: Number of training images.
        input_size: Size of an image, `(3, H, W)`.
        outputs: Number of outputs of the head. None means the number of training images, at most the 65,536 of the
            paper.
        hidden: Width of the hidden layers of the head.
        width: Width of the unit vectors.
        local: Number of local crops of an image, beside two global ones.
        local_size: Height and width of a local crop in pixels. None means 96/224 of the image's, or the next multiple
            of 16 or 32 at which the host runs, or the image's own.
        split: Area that separates local crops from global ones, as a share of the image.
        crop: Smallest area of a local crop, as a share of the image.
        flip: Whether images are mirrored left to right.
        temperature: Temperature τ_s of the trained network.
        teacher_temperature: Temperature τ_t of the teacher.
        momentum: Base of the teacher's momentum. None means that it follows from the number of steps, because .996
            belongs to the long trainings of the paper.
    """

    # The paper's rate for a batch of 256. At higher rates the outputs of all images become equal.
    recipe: ClassVar = {"epochs": 10, "batch_size": 32, "learning_rate": 5e-4}
    centre: Tensor

    def __init__(
        self,
        channels: int,
        *,
        items: int,
        input_size: tuple[int, ...],
        outputs: int | None = None,
        hidden: int = 2048,
        width: int = 256,
        local: int = 8,
        local_size: int | None = None,
        split: float = 0.4,
        crop: float = 0.05,
        flip: bool = True,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        momentum: float | None = None,
    ) -> None:
        super().__init__()
        if crop > split:
            raise UnsupportedError(f"crop={crop} must not be above split={split}, which is the largest local crop")
        count = max(2, min(_MOST, items)) if outputs is None else outputs
        self.local, self.momentum = local, momentum
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.sides, self.local_size = (input_size[1], input_size[2]), local_size
        self.head = _Head(channels, hidden, width, count)
        self.teacher_head = MomentumCopy(self.head)
        self.register_buffer("centre", torch.zeros(1, count))
        shared: dict[str, Any] = {"flip": flip, "colour": (0.4, 0.4, 0.2, 0.1)}
        self.view = ImageViews(crop=split, blur=1.0, **shared)
        self.other_view = ImageViews(crop=split, blur=0.1, solarise=0.2, **shared)
        self.local_view = ImageViews(crop=crop, largest=split, blur=0.5, **shared)
        self._new: list[Tensor] = []

    def start(self, encoder: nn.Module) -> None:
        """Make the teacher, a copy of the host, and choose the size of local crops."""
        self.teacher = MomentumCopy(encoder)
        size = self._size_for(encoder)
        self.local_view = ImageViews(**{**vars(self.local_view), "size": size})

    def _size_for(self, encoder: Any) -> tuple[int, int]:
        """Return the size of local crops at which the host runs."""
        if self.local_size is not None:
            size = (self.local_size, self.local_size)
            if not encoder.runs_at((3, *size)):
                raise UnsupportedError(f"local_size={self.local_size}: the host does not run on images of this size")
            return size
        for multiple in _MULTIPLES:
            height, width = (max(1, round(_LOCAL * side / multiple)) * multiple for side in self.sides)
            if (height, width) < self.sides and encoder.runs_at((3, height, width)):
                return height, width
        return self.sides

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, list[Tensor]]:
        """Return two `global` and some `local` crops of each image."""
        return {
            "global": [self.view(x, draw), self.other_view(x, draw)],
            "local": [self.local_view(x, draw) for _ in range(self.local)],
        }

    def before_step(self, progress: Progress) -> None:
        """Forget the outputs of a step that was not finished."""
        self._new = []

    def forward(self, encoder: Encoder, views: Any) -> dict[str, list[Tensor]]:
        """Return the outputs `(B, outputs)` of the network for all crops and of the teacher for the global ones."""
        large, small = views["global"], views["local"]
        # Crops of one size pass the host as one batch.
        features = [encoder(torch.cat(crops)) for crops in (large, small) if crops]
        student = self.head(torch.cat(features))
        teacher = self.teacher_head(self.teacher(torch.cat(large)))
        return {"student": list(student.chunk(len(large) + len(small))), "teacher": list(teacher.chunk(len(large)))}

    def loss(self, outputs: Any) -> Tensor:
        """Return the mean cross-entropy over all pairs of a global crop and another crop."""
        if self.training:
            self._new.append(torch.cat(outputs["teacher"]))
        shares = [F.log_softmax(each / self.temperature, dim=1) for each in outputs["student"]]
        targets = [((each - self.centre) / self.teacher_temperature).softmax(dim=1) for each in outputs["teacher"]]
        pairs = [(p, q) for u, p in enumerate(targets) for v, q in enumerate(shares) if u != v]
        return torch.stack([-(p * q).sum(1).mean() for p, q in pairs]).mean()

    def project(self, features: Tensor) -> Tensor:
        """Return the vectors `(B, width)` of features `(B, C)`, before they get length 1."""
        return self.head.layers(features)

    def after_backward(self, progress: Progress) -> None:
        """Drop the gradient of the last layer in the first epoch."""
        if progress.epoch == 1:
            self.head.rows.grad = None

    def after_step(self, encoder: nn.Module, progress: Progress) -> None:
        """Let the centre and the teacher follow."""
        if self._new:
            self.centre.lerp_(torch.cat(self._new).mean(0, keepdim=True).to(self.centre.dtype), 0.1)
        self._new = []
        base = base_momentum(progress.steps) if self.momentum is None else self.momentum
        momentum = cosine_momentum(base, (progress.step - 1) / max(1, progress.steps))
        self.teacher.update(encoder, momentum)
        self.teacher_head.update(self.head, momentum)


class _Head(nn.Module):
    """Three linear layers with GELU, unit vectors, and the cosines with learned directions."""

    def __init__(self, channels: int, hidden: int, width: int, outputs: int) -> None:
        super().__init__()
        linear = [nn.Linear(channels, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, width)]
        for layer in linear:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(linear[0], nn.GELU(), linear[1], nn.GELU(), linear[2])
        # Weight norm with a fixed length of 1: only the direction of a row has an effect.
        self.rows = nn.Parameter(torch.randn(outputs, width) / width**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(self.layers(x), dim=1), F.normalize(self.rows, dim=1))
