"""The documentation page of one module, made from what it declares and from measuring it at a default size."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch

from nasbench import costs
from nasbench.library import create_module, module_spec
from nasbench.registry import ModuleSpec

__all__ = ["DEFAULT_CHANNELS", "DEFAULT_SIZES", "ModulePage", "default_count", "describe"]

DEFAULT_CHANNELS = 64
DEFAULT_SIZES = {1: (96,), 2: (16, 16)}
"""The size at which a module's own cost is quoted, by dims."""


@dataclass(frozen=True)
class ModulePage:
    """All that is known of one module.

    Attributes:
        spec: What it declares.
        params: Parameters at the default size; None where it cannot be built there.
        macs: MACs there, for one item.
        exact: Whether the count is exact.
    """

    spec: ModuleSpec
    params: int | None
    macs: int | None
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        s = self.spec
        return {
            **{key: getattr(s, key) for key in ("name", "kind", "family", "properties", "cost_order", "paper", "year")},
            **{key: getattr(s, key) for key in ("dims", "limits", "starts_as_identity")},
            "doc": inspect.getdoc(s.cls) or "",
            "hyperparameters": [
                {"name": h.name, "default": h.default, "values": list(h.values), "type": h.annotation}
                for h in s.hyperparameters.values()
            ],
            "default_channels": DEFAULT_CHANNELS,
            "default_size": DEFAULT_SIZES[max(s.dims)],
            "params": self.params,
            "macs": self.macs,
            "exact": self.exact,
            "source": s.origin,
        }

    def text(self) -> str:
        """Return it as a page for a terminal."""
        s = self.spec
        size = "x".join(map(str, DEFAULT_SIZES[max(s.dims)]))
        lines = [
            f"{s.name} ({s.kind}, {s.family})",
            f"paper       {s.paper}",
            f"properties  {', '.join(s.properties) or 'none declared'}; cost of order {'N' if s.cost_order == 1 else 'N²'}",
            f"dims        {', '.join(map(str, s.dims))}{'; ' + s.limits if s.limits else ''}",
        ]
        if self.params is not None:
            bound = "" if self.exact else ", at least"
            lines.append(
                f"cost        {self.params:,} params, {self.macs:,} MACs{bound} (C={DEFAULT_CHANNELS}, {size}, one item; "
                "1 MAC = 1 multiply-add)"
            )
        lines += ["", inspect.getdoc(s.cls) or "", ""]
        if s.hyperparameters:
            lines.append("hyper-parameters")
            for h in s.hyperparameters.values():
                searched = f"; searched: {', '.join(map(repr, h.values))}" if h.values else ""
                lines.append(f"  {h.name} = {h.default!r}  {h.annotation}{searched}")
        return "\n".join([*lines, f"source      {s.origin}"])


def describe(name: str) -> ModulePage:
    """Return the page of a module.

    Raises:
        UnknownNameError: If there is no such module.
    """
    spec = module_spec(name)
    return ModulePage(spec, *default_count(spec))


def default_count(spec: ModuleSpec) -> tuple[int | None, int | None, bool]:
    """Return params, MACs and exactness of a module with its defaults, at the default size, for one item."""
    dims = max(spec.dims)
    levels = [DEFAULT_CHANNELS, 2 * DEFAULT_CHANNELS, 4 * DEFAULT_CHANNELS]
    size = DEFAULT_SIZES[dims]
    with torch.device("meta"):
        if spec.kind == "neck":
            module = create_module(spec.name, levels)
            maps = [torch.empty(1, c, *(max(1, s >> i) for s in size)) for i, c in enumerate(levels)]
            inputs: tuple[Any, ...] = (maps,)
        else:
            module = create_module(spec.name, DEFAULT_CHANNELS, dims=dims)
            inputs = tuple(torch.empty(1, DEFAULT_CHANNELS, *size) for _ in range(2 if spec.kind == "fusion" else 1))
    cost = costs.count(module, *inputs)
    return sum(p.numel() for p in module.parameters()), cost.macs, cost.exact
