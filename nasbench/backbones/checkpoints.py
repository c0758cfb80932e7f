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
        BackboneError: If the file does not exist, or cannot be read as a checkpoint, if it has weights of two networks
            that fit and neither is an average, or if weights are NaN.
    """
    check_checkpoint(file)
    try:
        stored = _stored(file)
    except Exception as error:
        raise BackboneError(f"cannot read {file} as a checkpoint: {error}") from error
    entry = next((e for e in _ENTRIES if isinstance(stored.get(e), Mapping)), None)
    state = {str(k).replace(_COMPILED, ""): v for k, v in (stored[entry] if entry else stored).items()}
    prefix = _prefix(file, state, own)
    known = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    known = {key: value for key, value in known.items() if isinstance(value, Tensor)}
    _check_numbers(file, known, own)
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


def _prefix(file: Path, state: Mapping[str, Any], own: Collection[str]) -> str:
    """Return the prefix under which the state contains the most names of the network. "" wins a tie.

    Raises:
        BackboneError: If the state has as many names under another prefix, with other weights, and if neither is an
            average.
    """
    # Long names are specific. A name like "weight" would be found under every prefix.
    samples = sorted(own, key=len)[-3:]
    prefixes = {key[: -len(name)] for name in samples for key in state if key.endswith(f".{name}")}
    # A checkpoint can contain the trained weights and their average. The average is preferred, as in timm.
    ranked = ["", *sorted(prefixes, key=lambda prefix: ("ema" not in prefix, len(prefix), prefix))]
    counts = {prefix: sum(prefix + name in state for name in own) for prefix in ranked}
    best = max(ranked, key=counts.__getitem__)
    rivals = [p for p in ranked if p != best and counts[p] == counts[best] and not _same(state, own, best, p)]
    if best and "ema" not in best and rivals:
        raise BackboneError(
            f"{file} has weights of two networks that fit, under {best!r} and {rivals[0]!r}; save the one to load "
            f"alone, such as torch.save({{k.removeprefix({best!r}): v for k, v in state.items() if "
            f"k.startswith({best!r})}}, FILE)"
        )
    return best


def _same(state: Mapping[str, Any], own: Collection[str], one: str, other: str) -> bool:
    """Return whether the weights under two prefixes are equal, as if one network has two names."""
    pairs = [(state.get(one + name), state.get(other + name)) for name in own]
    return all(a is b or (isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)) for a, b in pairs)


def _check_numbers(file: Path, known: Mapping[str, Tensor], own: Collection[str]) -> None:
    for name in own:
        value = known.get(name)
        if value is not None and value.is_floating_point() and torch.isnan(value.float()).any():
            raise BackboneError(
                f"{file}: the weights {name!r} contain NaN; give a checkpoint from before the training diverged"
            )
