"""Peak memory of a model: measured by CUDA's allocator on a GPU, estimated from live tensors elsewhere."""

from __future__ import annotations

import warnings
import weakref
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasbench.errors import BackboneError
from nasbench.library.faults import fault_text
from nasbench.measurement.costs.shadow import on_meta, rng_kept, shadow

__all__ = ["LiveStorages", "peak_memory_of"]


def peak_memory_of(model: nn.Module, inputs: tuple[Any, ...], *, training: bool) -> int:
    """Return the peak memory of one pass in bytes, including weights, buffers and inputs.

    On a GPU the value is measured: the allocator's peak while a copy of the model runs, minus the memory that was
    allocated before.

    On any other device the value is an estimate. A copy without data runs on the meta device. After every operator, the
    bytes of all live storages are summed: weights, activations stored for the backward pass, and gradients. The
    estimate leaves out the workspace of kernels, fragmentation and Python's own memory.

    Neither value includes an optimiser's state.

    Args:
        model: Any module. It does not change.
        inputs: The arguments of the model's forward.
        training: Whether to run a training step (forward in training mode, and backward from the sum of the outputs)
            instead of inference.

    Raises:
        BackboneError: If the pass fails.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if device.type == "cuda":
                return _allocated(model, inputs, device, training)
            return _estimated(model, inputs, device, training)
    except (Exception, SystemExit) as error:  # a module can raise anything
        raise BackboneError(f"peak memory of {type(model).__name__}: {fault_text(error)}") from error


def _step(model: nn.Module, inputs: tuple[Any, ...], training: bool) -> None:
    with nullcontext() if training else torch.no_grad():
        outputs = [leaf for leaf in tree_leaves(model(*inputs)) if isinstance(leaf, Tensor)]
        losses = [t.sum() for t in outputs if training and t.requires_grad]
        del outputs
        if losses:
            sum(losses[1:], losses[0]).backward()


def _allocated(model: nn.Module, inputs: tuple[Any, ...], device: torch.device, training: bool) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    with rng_kept(device):
        twin = shadow(model, meta=False, training=training)
        batch = tuple(_copy_on(device, t) if isinstance(t, Tensor) else t for t in inputs)
        # The first pass also allocates workspaces, which libraries keep until the process ends. So the second is
        # measured.
        _step(twin, batch, training)
        twin.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats(device)
        _step(twin, batch, training)
        torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _copy_on(device: torch.device, tensor: Tensor) -> Tensor:
    # A tensor on the meta device has a size but no data.
    return torch.zeros_like(tensor, device=device) if tensor.is_meta else tensor.to(device, copy=True)


def _estimated(model: nn.Module, inputs: tuple[Any, ...], device: torch.device, training: bool) -> int:
    try:
        return _tracked(shadow(model, meta=True, training=training), on_meta(inputs), torch.device("meta"), training)
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        if any(p.is_meta for p in model.parameters()):
            raise  # a model without data has no other device to run on
        real = tuple(torch.zeros_like(t, device=device) if isinstance(t, Tensor) else t for t in inputs)
        return _tracked(shadow(model, meta=False, training=training), real, device, training)


def _tracked(model: nn.Module, inputs: tuple[Any, ...], device: torch.device, training: bool) -> int:
    live = LiveStorages()
    # These tensors were made before `live` was active, so they are added here.
    live.add([*model.parameters(), *model.buffers(), *tree_leaves(list(inputs))])
    with rng_kept(device), device, live:
        _step(model, inputs, training)
    return live.peak


class LiveStorages(TorchDispatchMode):
    """Sum the bytes of all live storages that were made while this mode was active, or that were added.

    Attributes:
        current: Number of bytes that are live now.
        peak: Largest number of bytes that were live at one time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current = 0
        self.peak = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def add(self, values: list[Any]) -> None:
        """Count the storages of `values`. A storage counts once, even if many tensors share it."""
        for value in values:
            if isinstance(value, Tensor) and value.layout is torch.strided:
                self._add(value.untyped_storage())
        self.peak = max(self.peak, self.current)

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return

        def freed(_: object) -> None:
            del self._alive[key]
            self.current -= size

        # The callback runs when the last tensor that uses this storage is gone.
        self._alive[key] = weakref.ref(storage, freed)
        self.current += size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.add(tree_leaves(out))
        return out
