"""MoCo (He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
arXiv:1911.05722).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.averaging import MomentumCopy, base_momentum
from nasbench.ops.contrast import unit_rows
from nasbench.ops.image_views import ImageViews
from nasbench.ops.pretext import Encoder, Pretext, Progress

_MOST = 65536  # keys in the queue of the paper
_MOMENTUM = 0.999  # of the paper, for a million steps


@register_module(
    name="moco",
    kind="pretext",
    dims=2,
    paper="He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020, arXiv:1911.05722",
    limits="a queue must have fewer keys than there are training images",
    ranges={
        "temperature": "at least 0.001, at most 100",
        "width": "at least 1",
        "queue": "at least 1",
        "momentum": "at least 0, at most 1",
        "crop": "at least 0.01, at most 1",
    },
)
class MoCo(Pretext):
    """Find the key of the same image among a queue of keys of other images.

    .. math:: L = -\\log \\frac{\\exp(q \\cdot k_+ / \\tau)}
              {\\exp(q \\cdot k_+ / \\tau) + \\sum_{i=1}^{K} \\exp(q \\cdot k_i / \\tau)}

    The query q is a projection by the trained network, and the key k₊ one of another view by the key encoder, whose
    parameters follow those of the trained network with a momentum. Both are unit vectors. The queue has the keys of
    earlier batches. The keys of a batch enter it after its step. Only parameters are averaged. The key encoder runs in
    training mode, so its batch norms have statistics of their own.

    Args:
        channels: Width C of the host's pooled features.
        items: Number of training images.
        temperature: Temperature τ.
        width: Width of queries and keys.
        queue: Number K of keys in the queue. None means half the number of training images, at most 65,536: a queue
            that has the image of the query would push its views apart.
        momentum: Momentum of the key encoder. None means that it follows from the number of steps, because .999 belongs
            to the million steps of the paper.
        crop: Smallest area of a crop, as a share of the image.
        flip: Whether images are mirrored left to right.
    """

    recipe: ClassVar = {"epochs": 10, "batch_size": 64}
    queue: Tensor
    place: Tensor

    def __init__(
        self,
        channels: int,
        *,
        items: int,
        temperature: float = 0.07,
        width: int = 128,
        queue: int | None = None,
        momentum: float | None = None,
        crop: float = 0.2,
        flip: bool = True,
    ) -> None:
        super().__init__()
        keys = max(1, min(_MOST, items // 2)) if queue is None else queue
        if keys >= items:
            raise UnsupportedError(f"queue={keys} must be below the number of training images, {items}")
        self.temperature, self.momentum = temperature, momentum
        self.projector = nn.Linear(channels, width)
        self.key_projector = MomentumCopy(self.projector)
        self.register_buffer("queue", unit_rows(keys, width))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        self.view = ImageViews(crop=crop, flip=flip, colour=(0.4, 0.4, 0.4, 0.4), colour_share=1.0, blur=0.0)
        self._new: list[Tensor] = []

    def start(self, encoder: nn.Module) -> None:
        """Make the key encoder, a copy of the host."""
        self.key_encoder = MomentumCopy(encoder)

    def views(self, x: Tensor, draw: torch.Generator) -> list[Tensor]:
        """Return a view for the query and one for the key of each image."""
        return [self.view(x, draw), self.view(x, draw)]

    def before_step(self, progress: Progress) -> None:
        """Forget the keys of a step that was not finished."""
        self._new = []

    def forward(self, encoder: Encoder, views: Any) -> dict[str, Tensor]:
        """Return queries and keys, `(B, width)` each."""
        return {"query": self.projector(encoder(views[0])), "key": self.key_projector(self.key_encoder(views[1]))}

    def loss(self, outputs: Any) -> Tensor:
        """Return the cross-entropy of the logits [positive, queue] / τ, in which the positive is the class 0."""
        query, key = (F.normalize(outputs[name], dim=1) for name in ("query", "key"))
        if self.training:
            self._new.append(key.detach())
        positive = (query * key).sum(1, keepdim=True)
        logits = torch.cat([positive, query @ self.queue.to(query).T], dim=1) / self.temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))

    def project(self, features: Tensor) -> Tensor:
        """Return the queries `(B, width)` of features `(B, C)`."""
        return self.projector(features)

    def after_step(self, encoder: nn.Module, progress: Progress) -> None:
        """Put the keys of the batch into the queue, over the oldest ones, and let the key encoder follow."""
        # The paper updates the key encoder at the start of the next step, which is the same.
        for keys in self._new:
            count = len(self.queue)
            keys = keys[-count:]
            places = (int(self.place) + torch.arange(len(keys), device=keys.device)) % count
            self.queue[places] = keys.to(self.queue.dtype)
            self.place.fill_((int(self.place) + len(keys)) % count)
        self._new = []
        momentum = base_momentum(progress.steps, most=_MOMENTUM) if self.momentum is None else self.momentum
        self.key_encoder.update(encoder, momentum)
        self.key_projector.update(self.projector, momentum)
