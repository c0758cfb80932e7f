"""The command that lists spaces and shows one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nasbench.cli import console
from nasbench.cli._app import AsJson, Modules, Size, app, check_names, input_size, load_plugins, load_project
from nasbench.errors import InputError
from nasbench.text import narrate


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="A space's name, or a YAML file.")] = None,
    backbone: Annotated[str, typer.Option(help="Count the plans in this backbone.")] = "",
    size: Size = None,
    modules: Modules = None,
    as_json: AsJson = False,
) -> int:
    """List the ready-made spaces, or show one. Both say how many plans a space has in a backbone.

    Example: nasbench spaces five-properties --backbone resnet18
    """
    from nasbench.spaces import list_spaces

    load_plugins(modules)
    if backbone:
        check_names(backbone, size=size)
    if name is not None:
        row = _row(name, backbone, size)
        if as_json:
            console.print_json("spaces", [row])
        else:
            console.print_text(_page(row))
        return 0
    rows, faults, uncounted, unfitting = [], {}, [], []
    for space_name in sorted(
        list_spaces(), key=_is_of_project
    ):  # the project's spaces come last, because they can load the project's modules
        try:
            if _is_of_project(space_name) and not (as_json or backbone or size or modules):
                rows.append(_uncounted(space_name))
                uncounted.append(space_name)
            else:
                rows.append(_row(space_name, backbone, size))
        except InputError as error:  # one broken file of a project must not hide the others
            if backbone and not _is_of_project(space_name):
                unfitting.append(space_name)  # given plans with slots that this backbone does not have
            else:
                faults[space_name] = str(error)
    if as_json:
        console.print_json("spaces", rows)
    else:
        columns = ("name", "backbone", "plans", "description")
        console.print_table(columns, [[row[column] for column in columns] for row in rows])
    for space_name, fault in faults.items():
        narrate(f"skipped: {space_name}: {fault}")
    if unfitting:
        narrate(f"left out, because their plans do not fit {backbone}: {', '.join(unfitting)}")
    if uncounted:
        narrate(
            f"plans of this project's own spaces are not counted here ({', '.join(uncounted)}); "
            f"`nasbench spaces NAME` counts those of one space, such as `nasbench spaces {uncounted[0]}`"
        )
    if faults and not modules:
        narrate("a space with your own modules needs --modules PATH, or a run.yaml in this folder that names them")
    narrate("`nasbench spaces NAME` shows one space; `nasbench search NAME` searches it")
    return 1 if faults else 0


def _row(name: str, backbone: str, size: int | None) -> dict[str, Any]:
    """Return the description of a space as JSON-serialisable data, from the stored overview if the space is in it."""
    from nasbench.report.spaces import describe_space, recorded_space, usual_backbone
    from nasbench.spaces import load_space

    if not backbone and size is None and (row := recorded_space(name)) is not None:
        return row
    if _is_of_project(name):
        load_project()
    space = load_space(name)
    host = backbone or usual_backbone(space)
    return describe_space(space, host, input_size(host, size))


def _is_of_project(name: str) -> bool:
    """Whether a space with this name is in the project's folder."""
    from nasbench.spaces import list_spaces, ready_made

    return name in list_spaces() and name not in ready_made()


def _uncounted(name: str) -> dict[str, Any]:
    """Return the row of a project's own space. Its plans are not counted, because counting takes seconds."""
    from nasbench.spaces import read_space_file

    description = read_space_file(name).written.get("description", "")
    return {"name": name, "backbone": "", "plans": None, "description": description}


def _page(row: dict[str, Any]) -> str:
    lines = [
        f"{row['name']}: {row['description']}",
        f"plans in {row['backbone']}: {row['plans']:,}",
        f"slots: {', '.join(row['slots'])}",
    ]
    lines += [f"the same expression in {', '.join(group)}" for group in row["same"]]
    if plans := row["narrowed_by"].get("plans"):
        return "\n".join([*lines, "exactly these plans:", *(f"  {plan}" for plan in plans)])
    kinds = {(tuple(each["compositions"]), tuple(each["variants"])) for each in row["choices"]}
    if len(kinds) == 1:
        lines += [f"compositions: {', '.join(row['compositions'])}", "variants:"]
        lines += [f"  {variant}" for variant in row["variants"]]
    else:
        for each in row["choices"]:
            lines += [
                f"{each['slot']}: {', '.join(each['compositions'])}; each letter stands for one of these variants:"
            ]
            lines += [f"  {variant}" for variant in each["variants"]]
    if row["narrowed_by"]:
        lines += ["narrowed by:", *_indented(row["narrowed_by"])]
    if row["excluded"]:
        lines += ["excluded here:", *(f"  {slot} {text}: {reason}" for slot, text, reason in row["excluded"])]
    return "\n".join(lines)


def _indented(written: dict[str, Any]) -> list[str]:
    import yaml

    return [f"  {line}" for line in yaml.safe_dump(written, sort_keys=False, default_flow_style=None).splitlines()]
