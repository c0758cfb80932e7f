"""The spaces a search may draw from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nasbench import console
from nasbench.cli._app import AsJson, Modules, Size, app, input_size, load_plugins


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="A space's name, or a YAML file.")] = None,
    backbone: Annotated[str, typer.Option(help="Count the plans in this backbone.")] = "",
    size: Size = None,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """List the ready-made spaces, or show one, with how many plans each holds in a backbone.

    Example: nasbench spaces five-properties --backbone resnet18
    """
    from nasbench import backbones
    from nasbench.spaces import list_spaces, load_space

    load_plugins(modules)
    rows = []
    for each in [name] if name else list_spaces():
        space = load_space(each)
        host = backbone or ("patchtst" if space.name == "forecasting" else "resnet18")
        resolved = space.resolve(backbones.slots(host, input_size=input_size(host, size)))
        rows.append(
            {
                "name": space.name,
                "description": space.description,
                "backbone": host,
                "plans": resolved.count,
                "slots": [slot.slot for slot in resolved.slots],
                "compositions": list(space.compositions),
                "variants": [variant.canonical() for variant in space.expand()],
                "excluded": [list(row) for row in resolved.excluded],
            }
        )
    if as_json:
        console.print_json("spaces", rows)
    elif name is None:
        columns = ("name", "backbone", "plans", "description")
        console.print_table(columns, [[row[column] for column in columns] for row in rows])
    else:
        _print_space(rows[0])


def _print_space(row: dict[str, Any]) -> None:
    lines = [
        f"{row['name']}: {row['description']}",
        f"plans in {row['backbone']}: {row['plans']:,}",
        f"slots: {', '.join(row['slots'])}",
        f"compositions: {', '.join(row['compositions'])}",
        "variants:",
        *(f"  {variant}" for variant in row["variants"]),
    ]
    if row["excluded"]:
        lines += ["left out here:", *(f"  {slot} {variant}: {reason}" for slot, variant, reason in row["excluded"])]
    console.print_text("\n".join(lines))
