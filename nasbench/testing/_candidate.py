"""What is checked: a module with its hyper-parameters, dimensions and channels fixed."""

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

_CHANNELS = (32, 48, 64, 96)  # tried in this order: the first count that a variant serves is the one it is checked at


@dataclass(frozen=True)
class Candidate:
    """A variant of a module, ready to be built.

    Attributes:
        spec: What the module declares.
        hyper: Hyper-parameters that differ from the defaults.
        dims: Spatial dimensions, 1 or 2.
        channels: Channels C; for a neck one count a level, fine to coarse.
        inputs: Number of maps a fusion joins.
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
        """The variant in words: "32 channels, 2-D, reduction=4"."""
        words = [f"{self.channels} channels", f"{self.dims}-D"]
        if "inputs" in self.spec.socket:
            words.append(f"{self.inputs} inputs")
        return ", ".join(words + [f"{key}={value!r}" for key, value in self.hyper.items()])

    def build(self) -> nn.Module:
        """Return a new instance; what its constructor raises is passed on."""
        socket = {"dims": self.dims, "inputs": self.inputs}
        passed = {key: value for key, value in socket.items() if key in self.spec.socket}
        channels = list(self.channels) if isinstance(self.channels, tuple) else self.channels
        return self.spec.cls(channels, **passed, **self.hyper)

    def shapes(self, size: Sequence[int], batch: int = 2) -> list[tuple[int, ...]]:
        """Return the shape of each input map; the levels of a pyramid halve, rounded up."""
        if isinstance(self.channels, tuple):
            return [(batch, c, *(-(-s // 2**level) for s in size)) for level, c in enumerate(self.channels)]
        count = self.inputs if self.spec.kind == "fusion" else 1
        return [(batch, self.channels, *size)] * count

    def maps(self, size: Sequence[int], batch: int = 2, seed: int = 0) -> list[Tensor]:
        """Return standard normal input maps `(batch, C, *size)`, one an input or level."""
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(shape, generator=generator) for shape in self.shapes(size, batch)]

    def run(self, module: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return what `module` makes of `maps`, always as a list."""
        if self.spec.kind == "neck":
            return list(module(list(maps)))
        return [module(*maps)]


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Draw from a given seed inside, and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def variants(spec: ModuleSpec) -> list[dict[str, Any]]:
    """Return the defaults, `{}`, and each search value of each hyper-parameter with the others at their defaults."""
    return [{}] + [
        {name: value}
        for name, values in spec.space.items()
        for value in values
        if value != spec.hyperparameters[name].default
    ]


def candidates(spec: ModuleSpec, hypers: Sequence[Mapping[str, Any]] | None = None) -> list[Candidate]:
    """Return every variant in every dimension it serves, a fusion with 2 and with 3 inputs where it takes them.

    Args:
        spec: The module.
        hypers: The variants; all of `variants(spec)` by default.
    """
    inputs = (2, 3) if "inputs" in spec.socket else (2,)
    return [
        _at_served_channels(spec, hyper, dims, count)
        for dims in spec.dims
        for hyper in (variants(spec) if hypers is None else hypers)
        for count in inputs
    ]


def _at_served_channels(spec: ModuleSpec, hyper: Mapping[str, Any], dims: int, inputs: int) -> Candidate:
    """Return the variant at the first channel count it serves; at the first of all where it serves none."""
    trials = [
        Candidate(spec, hyper, dims, (c // 4, c // 2, c) if spec.kind == "neck" else c, inputs) for c in _CHANNELS
    ]
    return next((trial for trial in trials if _builds(trial)), trials[0])


def _builds(candidate: Candidate) -> bool:
    try:
        with seeded(), torch.device("meta"):
            candidate.build()
    except InputError:
        return False
    except Exception:  # a fault of the module: it is for the checks to report
        return True
    return True
