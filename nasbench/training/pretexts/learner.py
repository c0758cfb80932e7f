"""What the training loop trains in a pretext: the host and the pretext together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.errors import InputError, PluginError
from nasbench.library.pretexts import build_pretext, spec_of
from nasbench.ops.pretext import Progress
from nasbench.tasks import item_count, map_tensors
from nasbench.training.optimisation import as_float, autocast
from nasbench.training.pretexts.encoder import HostEncoder, encoder_of, pooled_encoder, width_of

__all__ = ["GROUPS", "ITEMS", "LABELS", "Learner"]

ITEMS, LABELS, GROUPS = "items", "labels", "groups"
"""Names of what the targets of a batch contain, as in `nasbench.ops.pretext.READS`."""

_VALIDATION = 2**32 - 1  # in place of a step's number, for the views of validation batches


class Learner(nn.Module):
    """A host with a pretext. Its state dict is the whole state of the training, except for the optimiser's.

    Args:
        model: The host with its plan. It is trained in place.
        learn: The pretext, as an expression.
        items: Number of training items.
        input_size: `(3, H, W)` or `(L, D)`.
        num_classes: Number of classes of the items. None if they have none.
        pixels: Mean and standard deviation with which the task normalises pixels in [0, 1]. None for series.
        seed: Seed of the views.

    Raises:
        UnsupportedError: If the pretext does not support the host or the data.
    """

    def __init__(
        self,
        model: nn.Module,
        learn: str,
        *,
        items: int,
        input_size: Sequence[int],
        num_classes: int | None = None,
        pixels: tuple[Sequence[float], Sequence[float]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.name, self.seed, self.input_size = spec_of(learn).name, seed, tuple(input_size)
        needs = getattr(spec_of(learn).cls, "needs")  # noqa: B009  (the class is a `Pretext`)
        self.encoder = encoder_of(model, needs, input_size)
        width = width_of(self.encoder, input_size)
        self.pretext = build_pretext(learn, width, items=items, input_size=input_size, num_classes=num_classes)
        self.pretext.start(self.encoder)
        mean, std = ((0.0,), (1.0,)) if pixels is None else pixels
        self.images = pixels is not None
        shape = (1, -1, 1, 1)
        # They belong to the data, so they are not in the state dict.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(shape), persistent=False)
        self.to(next(model.parameters()).device)
        self._draw = self._generator(0)
        self._progress = Progress(0, 1)

    mean: Tensor
    std: Tensor

    @property
    def model(self) -> nn.Module:
        """The host that is trained."""
        return self.encoder.model

    @property
    def kept(self) -> nn.Module:
        """The host whose weights are validated and kept."""
        encoder = self.pretext.kept(self.encoder)
        assert isinstance(encoder, HostEncoder)
        return encoder.model

    def _generator(self, step: int) -> torch.Generator:
        """Return a generator that depends on seed and step alone, so that an interrupted training draws the same."""
        state = np.random.SeedSequence((self.seed, step)).generate_state(1)[0]
        return torch.Generator().manual_seed(int(state))

    def before_step(self, progress: Progress) -> None:
        """Prepare the step, also if it is tried again."""
        self._draw, self._progress = self._generator(progress.step), progress
        self._take_aux()
        self.pretext.before_step(progress)

    def after_backward(self) -> None:
        """Let the pretext change the gradients."""
        self.pretext.after_backward(self._progress)

    def after_step(self) -> None:
        """Let teachers, queues and banks follow."""
        self.pretext.after_step(self.encoder, self._progress)

    def loss(self, inputs: Any, targets: Mapping[str, Tensor], amp: str = "none") -> Tensor:
        """Return the loss of a batch, with the auxiliary losses of the modules.

        Args:
            inputs: Inputs of the task.
            targets: What the pretext can read, by name. Only what it declares is given to it.
            amp: Autocast, as in `Recipe.amp`.

        Raises:
            InputError: If there are fewer items than the pretext needs.
            PluginError: If the loss is no scalar tensor.
        """
        return self._loss(inputs, targets, self._draw, amp) + self._take_aux()

    def _take_aux(self) -> Tensor | float:
        """Return the auxiliary losses of the host, and of copies of it that a pretext trains too."""
        encoders = [module for module in self.modules() if isinstance(module, HostEncoder)]
        return sum((encoder.take_aux() for encoder in encoders), 0.0)

    def validation_loss(self, inputs: Any, targets: Mapping[str, Tensor], amp: str = "none") -> Tensor:
        """Return the loss of a batch of the validation split. Its views are the same at every call."""
        return self._loss(inputs, targets, self._generator(_VALIDATION), amp)

    def _loss(self, inputs: Any, targets: Mapping[str, Tensor], draw: torch.Generator, amp: str) -> Tensor:
        if not isinstance(inputs, Tensor):
            raise InputError(f"{self.name} learns from inputs that are one tensor; leave out covariates")
        count = item_count(inputs)
        if count < self.pretext.fewest:
            raise InputError(
                f"{self.name} compares the items of a batch and needs at least {self.pretext.fewest}, got {count}; "
                "choose a larger batch_size"
            )
        with torch.no_grad():
            views = self.pretext.views(self._pixels(inputs), draw)
            views = map_tensors(self._normalised, views) if self.images else views
        with autocast(inputs.device, amp):
            outputs = self.pretext(self.encoder, views)
        known = {name: targets[name] for name in self.pretext.reads}
        loss = self.pretext.loss(map_tensors(as_float, outputs), **known)
        if not isinstance(loss, Tensor) or loss.shape:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise PluginError(f"the loss of {self.name} must be a scalar tensor, got {got}")
        return loss

    def _pixels(self, x: Tensor) -> Tensor:
        return (x * self.std + self.mean).clamp(0, 1) if self.images else x

    def _normalised(self, view: Tensor) -> Tensor:
        return (view - self.mean) / self.std if view.ndim == 4 and view.is_floating_point() else view

    def pooled(self) -> HostEncoder:
        """Return the encoder of pooled features of the host that is kept."""
        return pooled_encoder(self.kept, self.input_size)
