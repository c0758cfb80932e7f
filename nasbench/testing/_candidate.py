"""The subject of a check: a module with fixed hyper-parameters, dimensions and channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import InputError
from nasbench.library.registry import ModuleSpec

__all__ = ["Candidate", "candidates", "seeded", "variants"]

# These are tried in order. A variant is checked with the first number of channels that it supports.
_CHANNELS = (32, 48, 64, 96)


@dataclass(frozen=True)
class Candidate:
    """A variant of a module, ready to be built.

    Attributes:
        spec: The module's declaration.
        hyper: Hyper-parameters that differ from the defaults.
        dims: Number of spatial dimensions, 1 or 2.
        channels: Number of channels C. For a neck, one number for each level, fine to coarse.
        inputs: Number of maps that a fusion joins.
    """

    spec: ModuleSpec
    hyper: Mapping[str, Any] = field(default_factory=dict)
    dims: int = 2
    channels: int | tuple[int, ...] = _CHANNELS[0]
    inputs: int = 2

    def __str__(self) -> str:
        return f"{self.spec.name}({self.variant})"

    @property
    def variant(self) -> str:
        """A description of the variant: "32 channels, 2-D, reduction=4"."""
        words = [f"{self.channels} channels", f"{self.dims}-D"]
        if "inputs" in self.spec.socket:
            words.append(f"{self.inputs} inputs")
        return ", ".join(words + [f"{key}={value!r}" for key, value in self.hyper.items()])

    def build(self) -> nn.Module:
        """Return a new instance of the module. Exceptions of its constructor are passed on."""
        # `dims` and `inputs` are passed only if the constructor declares them.
        socket = {"dims": self.dims, "inputs": self.inputs}
        passed = {key: value for key, value in socket.items() if key in self.spec.socket}
        channels = list(self.channels) if isinstance(self.channels, tuple) else self.channels
        return self.spec.cls(channels, **passed, **self.hyper)

    def shapes(self, size: Sequence[int], batch: int = 2) -> list[tuple[int, ...]]:
        """Return the shape of each input map.

        Each level of a pyramid has half the size of the level before, rounded up.
        """
        if isinstance(self.channels, tuple):
            return [(batch, c, *(-(-s // 2**level) for s in size)) for level, c in enumerate(self.channels)]
        count = self.inputs if self.spec.kind == "fusion" else 1
        return [(batch, self.channels, *size)] * count

    def maps(self, size: Sequence[int], batch: int = 2, seed: int = 0) -> list[Tensor]:
        """Return input maps `(batch, C, *size)` with standard normal values, one for each input or level."""
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(shape, generator=generator) for shape in self.shapes(size, batch)]

    def run(self, module: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the module's output for `maps`, always as a list."""
        if self.spec.kind == "neck":
            return list(module(list(maps)))
        return [module(*maps)]


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Seed the random generator for a block of code. Afterwards, restore the random state from before the block."""
    # The checks run on the CPU, so the state of GPUs need not be saved.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def variants(spec: ModuleSpec) -> list[dict[str, Any]]:
    """Return the variants of a module to check.

    The first variant has the defaults, `{}`. Each other variant sets one hyper-parameter to one of the values that a
    search tries.
    """
    return [{}] + [
        {name: value}
        for name, values in spec.space.items()
        for value in values
        if value != spec.hyperparameters[name].default
    ]


def candidates(spec: ModuleSpec, hypers: Sequence[Mapping[str, Any]] | None = None) -> list[Candidate]:
    """Return every variant, in one and in two dimensions if the module supports both.

    For a fusion that takes any number of inputs, each of these is returned with 2 inputs and with 3 inputs.

    Args:
        spec: The module.
        hypers: The variants. None means all of `variants(spec)`.
    """
    inputs = (2, 3) if "inputs" in spec.socket else (2,)
    return [
        _at_served_channels(spec, hyper, dims, count)
        for dims in spec.dims
        for hyper in (variants(spec) if hypers is None else hypers)
        for count in inputs
    ]


def _at_served_channels(spec: ModuleSpec, hyper: Mapping[str, Any], dims: int, inputs: int) -> Candidate:
    """Return the variant with the first of `_CHANNELS` that it supports. If it supports none, use the first."""
    trials = [
        Candidate(spec, hyper, dims, (c // 4, c // 2, c) if spec.kind == "neck" else c, inputs) for c in _CHANNELS
    ]
    return next((trial for trial in trials if _builds(trial)), trials[0])


def _builds(candidate: Candidate) -> bool:
    try:
        # On the meta device nothing is allocated, so this attempt is cheap.
        with seeded(), torch.device("meta"):
            candidate.build()
    except InputError:  # the module reports that it does not support these channels
        return False
    except (Exception, SystemExit):  # another error, which the checks report
        return True
    return True
