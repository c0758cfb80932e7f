"""The base class of pretexts: ways to learn from data without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

__all__ = ["FORMS", "READS", "Encoder", "Form", "Pretext", "Progress"]

Form = Literal["pooled", "segments", "steps", "tokens", "maps", "patches"]
"""What a pretext can read of a host.

- "pooled": one vector an item, `(B, C)`.
- "segments": one vector an item, also of a shorter part of a series, `(B, C)`.
- "steps": one vector a time step, `(B, C, L)`.
- "tokens": the tokens of a transformer for series, `(B, C, N)`, or `(B·D, C, N)` if each of the D series of an item has
  tokens of its own.
- "maps": the map after each stage, a list of `(B, Ck, Hk, Wk)`, in network order. The widths are a list of C.
- "patches": the tokens of a plain vision transformer, `(B, C, P + N)`: P prefix tokens and N patches, row by row.
"""

FORMS: tuple[Form, ...] = ("pooled", "segments", "steps", "tokens", "maps", "patches")

READS = ("items", "labels", "groups")
"""What a pretext can read besides inputs: the numbers of the training items, their labels, and the numbers of the
groups to which each item belongs, `(B, levels)` from the finest level to the coarsest. There are 0 levels if the data
has no groups."""


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        step: Number of the optimiser step, from 1.
        steps: Number of steps of the whole training.
        epoch: Number of the epoch, from 1.
    """

    step: int
    steps: int
    epoch: int = 1

    @property
    def share(self) -> float:
        """The share of the training that is done after this step, in [0, 1]."""
        return min(1.0, self.step / max(1, self.steps))


class Encoder(Protocol):
    """A host that returns its features, in the form that the pretext needs. It is an `nn.Module`."""

    def __call__(
        self,
        x: Tensor,
        *,
        hide: Tensor | None = None,
        keep: Tensor | None = None,
        add: list[Tensor] | None = None,
    ) -> Any:
        """Return the features of a view, in the form that the pretext needs (`FORMS`).

        Args:
            x: The view, normalised as the host expects it.
            hide: Which steps of series are hidden, `(B, L)`. They are set to zero after the host's input layer (its
                slot `embed`), or in the input if it has no such slot. Only with "steps".
            keep: Numbers of the patches that the blocks get, in their order, `(B, n)`. The others are removed after the
                positions were added. Prefix tokens stay. Only with "patches".
            add: A vector for each stage, `(B, Ck)`, that is added to all positions of its map. The following stages
                get the sum. Only with "maps".
        """
        ...

    def runs_at(self, size: tuple[int, ...]) -> bool:
        """Return whether the host runs on inputs of another size."""
        ...


class Pretext(nn.Module):
    """A pretext: views of a batch, heads on the host's features, and a loss. Labels are not read.

    A plug-in derives from this class and registers it with `kind="pretext"`. Its constructor takes the width C of the
    host's features as `channels`, and builds the heads. If it declares the keywords `items` (number of training items),
    `input_size` or `num_classes` (None if the items have no classes), it gets them. The methods are called in this
    order in each training step:

        before_step -> views -> forward -> loss -> (backward) -> after_backward -> (optimiser) -> after_step

    Everything that must survive an interruption is a parameter, a buffer or a submodule. `views`, `forward` and `loss`
    do not change any of it, except for running statistics of norms: a step that runs out of memory is tried again.

    Attributes:
        needs: The form of the features that it reads, one of `FORMS`.
        reads: What it reads besides inputs, of `READS`: "items" (numbers of the training items, `(B,)`), "labels" or
            "groups". `loss` gets each as a keyword.
        label_share: Name of the hyper-parameter that is the share of the training items whose labels are read, if
            `reads` has "labels". "" if those of all items are read.
        fewest: Smallest number of items in a batch.
        recipe: Settings of the training recipe that differ from those of the task.
        constant_rate: Names of submodules whose learning rate stays constant.
    """

    needs: ClassVar[Form] = "pooled"
    reads: ClassVar[tuple[str, ...]] = ()
    label_share: ClassVar[str] = ""
    fewest: ClassVar[int] = 2
    recipe: ClassVar[Mapping[str, Any]] = {}
    constant_rate: tuple[str, ...] = ()

    def start(self, encoder: nn.Module) -> None:
        """Make what depends on the host, such as a momentum teacher. It is called once, before training.

        An encoder of "patches" has the attributes `grid` (rows and columns of patches), `patch` (height and width of a
        patch), `prefix` (number of prefix tokens) and `positions` (the parameter of the host's positions, or None).
        """

    def views(self, x: Tensor, draw: torch.Generator) -> Any:
        """Return views of a batch: tensors in lists, tuples or dicts.

        Args:
            x: Images `(B, 3, H, W)` with pixels in [0, 1], or scaled series `(B, L, D)`. Views of images are normalised
                afterwards as the host expects them. A padded step of a series is NaN. The tensor is not changed.
            draw: The generator of all random numbers, on the CPU. It depends on the seed and the step alone, so every
                plan gets the same views.
        """
        raise NotImplementedError

    def forward(self, encoder: Encoder, views: Any) -> Any:
        """Return what the loss needs of the views: tensors in lists, tuples or dicts."""
        raise NotImplementedError

    def loss(self, outputs: Any) -> Tensor:
        """Return the scalar loss of a batch, from the outputs in float32."""
        raise NotImplementedError

    def project(self, features: Tensor) -> Tensor:
        """Return the projector's output for pooled features `(B, C)`, of which the rank is measured."""
        return features

    def kept(self, encoder: nn.Module) -> nn.Module:
        """Return the encoder whose weights are validated and kept: the trained one, or an average."""
        return encoder

    def before_step(self, progress: Progress) -> None:
        """Prepare a step. It is called again if the step is tried again."""

    def after_backward(self, progress: Progress) -> None:
        """Change gradients before the optimiser uses them."""

    def after_step(self, encoder: nn.Module, progress: Progress) -> None:
        """Update what follows the training: teachers, queues and banks."""
