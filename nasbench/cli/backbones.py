"""Commands on backbones: their slots, and their costs with and without a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasbench.cli import console
from nasbench.cli._app import PLAN_HELP, AsJson, Lookback, Modules, Series, Size, app, load_plugins
from nasbench.cli._hosts import Fill, Head, Neck, Scale, Set, Task, host_of_options
from nasbench.text import human

if TYPE_CHECKING:
    from nasbench.backbones import Slot


@app.command()
def slots(
    backbone: Annotated[str, typer.Argument(help="A timm name, a forecasting backbone, or FILE.py:build.")],
    size: Size = None,
    lookback: Lookback = 96,
    series: Series = 7,
    task: Task = None,
    neck: Neck = None,
    head: Head = None,
    scale: Scale = None,
    fill: Fill = None,
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """List the slots of a backbone: name, channels, size, layout.

    Example: nasbench slots resnet18 --size 64

    With neck and levels: nasbench slots test_resnet --task scenes-segment --neck fpn
    """
    options: dict[str, Any] = {"size": size, "lookback": lookback, "series": series}
    of_task = {"neck": neck, "head": head, "scale": scale, "fill": fill}
    places = host_of_options(backbone, task, of_task, set_, **options).slots()
    if as_json:
        fields = ("name", "channels", "levels", "size", "layout", "module", "prefix_tokens")
        console.print_json("slots", [{field: getattr(slot, field) for field in fields} for slot in places])
        return
    rows = [(s.name, _channels(s), "x".join(map(str, s.size)), s.layout, s.module) for s in places]
    console.print_table(("slot", "channels", "size", "layout", "module"), rows)


def _channels(slot: Slot) -> str:
    """Return the channels of a slot as text, those of every level for a neck."""
    return ", ".join(map(str, slot.levels or [slot.channels]))


@app.command()
def measure(
    backbone: Annotated[str, typer.Argument(help="A timm name, a forecasting backbone, or FILE.py:build.")],
    plan: Annotated[str | None, typer.Option(help=PLAN_HELP)] = None,
    size: Size = None,
    batch: Annotated[int, typer.Option(min=1, max=65_536, help="Batch size at which memory is measured.")] = 1,
    lookback: Lookback = 96,
    series: Series = 7,
    task: Task = None,
    neck: Neck = None,
    head: Head = None,
    scale: Scale = None,
    fill: Fill = None,
    set_: Set = None,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """Count parameters, MACs, operations, activations and memory.

    1 MAC = 1 multiply-add. Operations are elementwise operations, and memory is peak memory.

    Example: nasbench measure resnet18 --plan "eca >> triplet_attention" --size 64
    """
    load_plugins(modules)
    given: dict[str, Any] = {
        "plans": [] if plan is None else [plan],
        "size": size,
        "lookback": lookback,
        "series": series,
    }
    of_task = {"neck": neck, "head": head, "scale": scale, "fill": fill}
    host = host_of_options(backbone, task, of_task, set_, **given)
    from nasbench.measurement import costs

    shape = host.input_size
    models = {"bare": host.model(None), **({} if plan is None else {"plan": host.model(plan)})}
    rows = []
    for label, model in models.items():
        cost = costs.measure(model, input_size=shape, batch_size=batch, peak_memory=True)
        fields = (
            "params",
            "trainable_params",
            "macs",
            "elementwise_flops",
            "activations",
            "peak_memory_bytes",
            "training_memory_bytes",
            "exact",
            "unknown_ops",
            "notes",
        )
        rows.append({"model": label, **{field: getattr(cost, field) for field in fields}})
    if as_json:
        data = {
            "backbone": backbone,
            **host.ending,
            "plan": plan,
            "input_size": shape,
            "batch_size": batch,
            "rows": rows,
        }
        console.print_json("costs", data | ({"added": _added(rows)} if plan is not None else {}))
        return
    _print_costs(rows, f"{host.title}, input {'x'.join(map(str, shape))}, batch {batch}; 1 MAC = 1 multiply-add")


_COUNTS = {
    "params": "params",
    "trainable_params": "trainable params",
    "macs": "MACs",
    "elementwise_flops": "elementwise operations",
    "activations": "activations",
    "peak_memory_bytes": "peak memory, inference, bytes",
    "training_memory_bytes": "peak memory, training step, bytes",
}


def _added(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return what the plan (second row) adds to the bare backbone, for each count that both rows have."""
    bare, plan = rows
    return {name: plan[name] - bare[name] for name in _COUNTS if bare[name] is not None and plan[name] is not None}


def _print_costs(rows: list[dict[str, Any]], title: str) -> None:
    table = []
    for field, label in _COUNTS.items():
        values = [row[field] for row in rows]
        cells = ["-" if value is None else human(value) for value in values]
        if len(rows) == 2:
            added = _added(rows).get(field)
            cells.append("-" if added is None else human(added))
            cells.append("-" if added is None or not values[0] else f"{values[1] / values[0]:.3f}x")
        table.append((label, *cells))
    bounds = [row for row in rows if not row["exact"]]
    header = ("", *(row["model"] for row in rows), *(["added", "ratio"] if len(rows) == 2 else []))
    console.print_table(header, table, title)
    for row in rows:
        for note in row["notes"]:
            console.print_text(f"{row['model']}: {note}")
    for row in bounds:
        console.print_text(f"{row['model']}: a LOWER BOUND, no formula for {', '.join(row['unknown_ops'])}")
