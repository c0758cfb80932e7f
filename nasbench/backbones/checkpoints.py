"""Read a file of weights, as training scripts, Lightning, DistributedDataParallel, EMA and `torch.compile` write it."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasbench.backbones.names import check_checkpoint
from nasbench.errors import BackboneError

__all__ = ["read_checkpoint"]

_ENTRIES = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Entries of a checkpoint that hold weights. Averaged weights come first, as in timm."""

_COMPILED = "_orig_mod."
"""The prefix that `torch.compile` writes before the names inside a compiled module."""


def read_checkpoint(file: Path, own: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """Return the weights in a file, named as in a network, and a text about what was read ("" for plain weights).

    Wrappers write a prefix before each name: `model.` (Lightning), `module.` (DistributedDataParallel, EMA). The prefix
    under which the most names of the network are found is removed. Entries without this prefix are left out.

    Args:
        file: A .pt, .pth, .ckpt or .safetensors file. A pickled file must contain nothing but tensors and plain values.
        own: Names of the network's weights.

    Raises:
        BackboneError: If the file does not exist, or cannot be read as a checkpoint.
    """
    check_checkpoint(file)
    try:
        stored = _stored(file)
    except Exception as error:
        raise BackboneError(f"cannot read {file} as a checkpoint: {error}") from error
    entry = next((e for e in _ENTRIES if isinstance(stored.get(e), Mapping)), None)
    state = {str(k).replace(_COMPILED, ""): v for k, v in (stored[entry] if entry else stored).items()}
    prefix = _prefix(state, own)
    known = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    known = {key: value for key, value in known.items() if isinstance(value, Tensor)}
    said = [f"the entry {entry!r}"] if entry else []
    said += [f"names without the prefix {prefix!r}"] if prefix else []
    said += [f"{len(state) - len(known)} other entries left out"] if len(state) > len(known) else []
    return known, ", ".join(said)


def _stored(file: Path) -> dict[str, Any]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(file))
    # timm's training script stores its arguments beside the weights.
    with torch.serialization.safe_globals([argparse.Namespace]):
        stored = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(stored, Mapping):
        raise TypeError(f"it contains a {type(stored).__name__}, not a state dict")
    return dict(stored)


def _prefix(state: Collection[str], own: Collection[str]) -> str:
    """Return the prefix under which the state contains the most names of the network. "" wins a tie."""
    # Long names are specific. A name like "weight" would be found under every prefix.
    samples = sorted(own, key=len)[-3:]
    prefixes = {key[: -len(name)] for name in samples for key in state if key.endswith(f".{name}")}
    # A checkpoint can contain the trained weights and their average. The average is preferred, as in timm.
    ranked = sorted(prefixes, key=lambda prefix: ("ema" not in prefix, len(prefix), prefix))
    return max(["", *ranked], key=lambda prefix: sum(prefix + name in state for name in own))
