"""The module catalogue: a table row and a page for each module, from its declaration and its recorded status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasbench.errors import InputError
from nasbench.evidence.atlas import rows_of
from nasbench.library.expression import parse
from nasbench.library.modules import create_head, create_module, module_spec
from nasbench.library.registry import PROPERTIES, ModuleSpec
from nasbench.library.status import ModuleStatus, recorded_status
from nasbench.report.docstrings import render, wrap
from nasbench.report.formatting import with_interval
from nasbench.report.hosts import is_expression
from nasbench.text import human

__all__ = [
    "DEFAULT_CHANNELS",
    "DEFAULT_SIZES",
    "ModulePage",
    "default_count",
    "describe",
    "heads_table",
    "overview",
    "pretexts_table",
    "table",
]

DEFAULT_CHANNELS = 64
DEFAULT_SIZES = {1: (96,), 2: (16, 16)}
"""Input size at which a module's cost is counted, by dims. A module for one and two dimensions is counted in two."""

_FINEST_STRIDE = 4  # of the levels of a head
_HEAD_CLASSES = 10  # with which a head is counted
_HEAD_SCALE = 2
_DATA = {1: "series", 2: "images"}  # that a pretext learns from, by dims
_NEEDS = {
    "pooled": "one vector for each item",
    "segments": "one vector for each part of a series",
    "steps": "one vector for each time step",
    "tokens": "the tokens of a transformer",
    "maps": "the map after each stage",
    "patches": "the patches of a plain vision transformer",
}
_ORDERS = {1: "N", 2: "N²"}
_LABEL = 12  # width of the labels on a page
_WIDE = 120  # terminal width from which a table writes properties as words


@dataclass(frozen=True)
class ModulePage:
    """The page of one module.

    Attributes:
        spec: Its declaration.
        status: Its recorded status. If there is no record, it contains counts that were made now.
        atlas: Its rows of the atlas, as `nasbench.evidence.atlas.rows_of` returns them.
    """

    spec: ModuleSpec
    status: ModuleStatus
    atlas: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the page as JSON-serialisable data."""
        s = self.spec
        return {
            **_row(s, self.status),
            "exact": self.status.exact,
            "limits": s.limits,
            "starts_as_identity": s.starts_as_identity,
            "doc": s.doc,
            "hyperparameters": [
                {
                    "name": h.name,
                    "default": h.default,
                    "values": list(h.values),
                    "type": h.annotation,
                    "allowed": h.allowed,
                }
                for h in s.hyperparameters.values()
            ],
            "default_channels": DEFAULT_CHANNELS,
            "default_size": DEFAULT_SIZES[max(s.dims)],
            "atlas": list(self.atlas),
            "source": s.origin,
        }

    def text(self, width: int = 100) -> str:
        """Return the page as text for a terminal of `width` columns."""
        s = self.spec
        facts = [("paper", s.paper), *(self._facts_of_pretext() if s.kind == "pretext" else self._facts_of_network())]
        lines = [f"{s.name}: a {s.kind} of the family {s.family}", ""]
        lines += [wrap(fact, width, f"{label:{_LABEL}}", " " * _LABEL) for label, fact in facts if fact]
        lines += ["", render(s.doc, width), ""]
        if s.hyperparameters:
            lines += ["Hyper-parameters:", *(wrap(h, width, "    ", 8 * " ") for h in self._hyperparameters()), ""]
        if s.kind == "module":
            lines += [*self._atlas(width), ""]
        return "\n".join([*lines, f"{'source':{_LABEL}}{s.origin}"])

    def _facts_of_pretext(self) -> list[tuple[str, str]]:
        s = self.spec
        needs = _NEEDS[getattr(s.cls, "needs")]  # noqa: B009  (the class is a `Pretext`)
        return [
            ("learns from", _data_of(s)),
            ("of the host", needs),
            ("labels", self._labels_read()),
            ("limits", s.limits),
            ("cost", "none in the model that is used: it is dropped after training"),
            ("used by", f"nasbench search --learn {s.name}"),
        ]

    def _labels_read(self) -> str:
        cls: Any = self.spec.cls
        if "labels" not in cls.reads:
            return "none are read"
        return f"those of a share of the items are read, {cls.label_share}" if cls.label_share else "all are read"

    def _facts_of_network(self) -> list[tuple[str, str]]:
        s = self.spec
        return [
            ("tasks", ", ".join(s.tasks)),
            ("properties", "" if s.tasks else ", ".join(s.properties) or "none declared"),
            ("dims", ", ".join(f"{d}-D" for d in s.dims)),
            ("limits", s.limits),
            ("start", "an identity, bit for bit, when it is built" if s.starts_as_identity else ""),
            ("cost", self._cost()),
            ("compile", self.status.compile or "not recorded; `nasbench check FILE` runs the contract tests"),
            ("export", self.status.export or "not recorded"),
            ("onnx", self.status.onnx or "not recorded"),
        ]

    def _cost(self) -> str:
        size = "x".join(map(str, DEFAULT_SIZES[max(self.spec.dims)]))
        counted = ""
        if self.status.params is not None:
            bound = "" if self.status.exact else "at least "
            counted = (
                f"{self.status.params:,} params, {bound}{self.status.macs:,} MACs at C={DEFAULT_CHANNELS}, {size}; "
            )
        return f"{counted}of order {_ORDERS[self.spec.cost_order]} (one item; 1 MAC = 1 multiply-add)"

    def _atlas(self, width: int) -> list[str]:
        """Return the lines that say what the module brought where it was measured."""
        if not self.atlas:
            told = f"not measured; `nasbench search --plan {self.spec.name}` measures it on your task"
            return [wrap(told, width, f"{'atlas':{_LABEL}}", " " * _LABEL)]
        cells = [
            (
                f"{row['data']}, {row['host']}, {row['slots']}",
                with_interval(row["difference"], row["low"], row["high"], "+"),
                row["verdict"],
                f"{human(row['macs'])} MACs",
                "" if row["latency_ratio"] is None else f"latency {row['latency_ratio']:.2f}x",
            )
            for row in self.atlas
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["    " + "  ".join(map(str.ljust, each, widths)).rstrip() for each in cells]
        title = wrap("Atlas: difference from the bare host, positive is better (docs/atlas.md):", width)
        # aligned where that fits, because `wrap` keeps no blanks
        return [title, *(line if len(line) <= width else wrap(line, width, 4 * " ", 8 * " ") for line in lines)]

    def _hyperparameters(self) -> list[str]:
        return [
            f"{h.name} = {h.default!r}"
            + (f" ({allowed})" if (allowed := h.allowed or h.annotation) else "")
            + (f"; searched: {', '.join(map(repr, h.values))}" if h.values else "")
            for h in self.spec.hyperparameters.values()
        ]


def describe(name: str) -> ModulePage:
    """Return the page of a module. If the module is not recorded, its costs are counted now.

    Raises:
        UnknownNameError: If there is no such module.
        InputError: If the name is an expression. The message names its modules.
    """
    if is_expression(name):
        pages = dict.fromkeys(f"`nasbench show {spec.name}`" for spec in parse(name).specs())
        raise InputError(
            f"{name!r} is an expression; for its modules and their hyper-parameters: {', '.join(pages)}; for its cost: "
            f"`nasbench measure BACKBONE --plan '{name}'`"
        )
    spec = module_spec(name)
    status = recorded_status(name)
    rows = tuple(rows_of(name)) if spec.kind == "module" else ()
    return ModulePage(spec, ModuleStatus(*default_count(spec)) if status.params is None else status, rows)


def overview(specs: Sequence[ModuleSpec]) -> list[dict[str, Any]]:
    """Return a row for each module, sorted by family and name. Numbers that are not recorded are None or ""."""
    return [_row(s, recorded_status(s.name)) for s in sorted(specs, key=lambda s: (s.family, s.name))]


def table(rows: Sequence[dict[str, Any]], width: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and cells of `overview`'s rows as text.

    A narrow terminal gets properties as letters, and no column for ONNX.
    """
    wide = width >= _WIDE
    columns = (
        "name",
        "dims",
        "properties" if wide else "LGSM",
        "cost",
        f"{'params':>6}",
        f"{'MACs':>6}",
        "compile",
        "export",
        *(("onnx",) if wide else ()),
        "year",
    )
    return columns, [_cells(row, wide=wide) for row in rows]


def heads_table(specs: Sequence[ModuleSpec]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and cells of a table of heads."""
    ordered = sorted(specs, key=lambda spec: (spec.tasks, spec.name))
    return ("head", "tasks", "year"), [(s.name, ", ".join(s.tasks), str(s.year or "")) for s in ordered]


def pretexts_table(specs: Sequence[ModuleSpec]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and cells of a table of pretexts."""
    ordered = sorted(specs, key=lambda spec: (_data_of(spec), spec.name))
    return ("pretext", "learns from", "year"), [(s.name, _data_of(s), str(s.year or "")) for s in ordered]


def _data_of(spec: ModuleSpec) -> str:
    return " and ".join(_DATA[dims] for dims in sorted(spec.dims, reverse=True))


def default_count(spec: ModuleSpec) -> tuple[int | None, int | None, bool]:
    """Return params, MACs and exactness of a module with its defaults, at the default size, for one item.

    A pretext has no counts: it is no part of the model that is used.
    """
    if spec.kind == "pretext":
        return None, None, True
    import torch

    from nasbench.measurement import costs  # imported here: it imports fvcore, which recorded numbers do not need

    dims = max(spec.dims)
    levels = [DEFAULT_CHANNELS, 2 * DEFAULT_CHANNELS, 4 * DEFAULT_CHANNELS]
    size = DEFAULT_SIZES[dims]
    with torch.device("meta"):  # counting needs only shapes, so no weight is allocated
        if spec.kind in ("neck", "head"):
            maps = [torch.empty(1, c, *(max(1, s >> i) for s in size)) for i, c in enumerate(levels)]
            inputs: tuple[Any, ...] = (maps,)
        if spec.kind == "neck":
            module = create_module(spec.name, levels)
        elif spec.kind == "head":
            enlarges = "super-resolution" in spec.tasks
            finest = 1 if enlarges else _FINEST_STRIDE
            known: dict[str, int] = {"scale": _HEAD_SCALE} if enlarges else {"num_classes": _HEAD_CLASSES}
            module = create_head(spec.name, levels, strides=[finest << i for i in range(len(levels))], **known)
            images: Any = torch.empty(1, 3, *(finest * s for s in size))
            inputs = (
                maps,
                {"image": images, "point": torch.empty(1, 2)} if "point_segmentation" in spec.tasks else images,
            )
        else:
            module = create_module(spec.name, DEFAULT_CHANNELS, dims=dims)
            inputs = tuple(torch.empty(1, DEFAULT_CHANNELS, *size) for _ in range(2 if spec.kind == "fusion" else 1))
    cost = costs.count(module, *inputs)
    return sum(p.numel() for p in module.parameters()), cost.macs, cost.exact


def _row(spec: ModuleSpec, status: ModuleStatus) -> dict[str, Any]:
    declared = ("name", "kind", "family", "dims", "properties", "cost_order", "tasks")
    known = ("params", "macs", "compile", "export", "onnx")
    row = {key: getattr(spec, key) for key in declared} | {key: getattr(status, key) for key in known}
    return row | {"year": spec.year, "paper": spec.paper}


def _cells(row: dict[str, Any], *, wide: bool) -> tuple[str, ...]:
    letters = "".join(p[0].upper() if p in row["properties"] else "·" for p in PROPERTIES[:4])
    counts = (f"{'' if row[key] is None else human(row[key]):>6}" for key in ("params", "macs"))
    return (
        *(row["name"], ", ".join(map(str, row["dims"])), ", ".join(row["properties"]) if wide else letters),
        *(_ORDERS[row["cost_order"]], *counts),
        *(row[key].partition(":")[0] for key in ("compile", "export", *(("onnx",) if wide else ()))),
        str(row["year"] or ""),
    )
