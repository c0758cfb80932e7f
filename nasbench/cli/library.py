"""Commands on the library: list its modules, heads and pretexts, show one of them."""

from __future__ import annotations

from typing import Annotated

import typer

from nasbench.cli import console
from nasbench.cli._app import AsJson, Modules, app, load_plugins, load_project
from nasbench.errors import NothingMatched, UnknownNameError, nearest
from nasbench.text import narrate


@app.command()
def modules(
    pattern: Annotated[str, typer.Argument(help="Shell pattern of names.")] = "*",
    property: Annotated[
        str | None, typer.Option(help="locality, globality, sparsity, multiscale, or complexity (at most linear cost).")
    ] = None,
    dims: Annotated[
        int | None, typer.Option(min=1, max=2, help="Only modules for this number of spatial dimensions.")
    ] = None,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """List the modules of the library with properties and costs, the heads with their tasks, and the pretexts.

    The table also says whether torch can compile and export each module. `nasbench show` and --json name the
    paper of each.

    Example: nasbench modules "*attention*" --property globality
    """
    from nasbench.library import modules as library
    from nasbench.report import catalogue

    load_plugins(modules)
    specs = library.module_specs(pattern, property=property, dims=dims)
    apart = {kind: library.module_specs(pattern, property=property, dims=dims, kind=kind) for kind in library.APART}
    if not specs and not any(apart.values()):
        known = [name for kind in (None, *library.APART) for name in library.list_modules(kind=kind)]
        near = [] if pattern in known else nearest(pattern, known)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise NothingMatched(f"no module matches {pattern!r} with these filters; {hint}`nasbench modules` lists all")
    rows = catalogue.overview(specs)
    if as_json:
        console.print_json("modules", [*rows, *(row for found in apart.values() for row in catalogue.overview(found))])
        return
    if specs:
        console.print_table(*catalogue.table(rows, console.width()))
        narrate(
            "L locality, G globality, S sparsity, M multi-scale\n"
            "cost as a function of the number N of positions\n"
            f"params and MACs at C={catalogue.DEFAULT_CHANNELS} on a map of 16x16, or a sequence of 96\n"
            f"{len(specs)} modules; `nasbench show NAME` shows one in full"
        )
    if apart["head"]:
        console.print_table(*catalogue.heads_table(apart["head"]))
    if apart["pretext"]:
        console.print_table(*catalogue.pretexts_table(apart["pretext"]))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A module's name.")],
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """Show one module: definition, hyper-parameters, cost at a default size, source.

    Example: nasbench show se
    """
    from nasbench.report import catalogue

    load_plugins(modules)
    try:
        page = catalogue.describe(name)
    except UnknownNameError:  # perhaps a module of the project, whose files are loaded only if they are needed
        if not load_project():
            raise
        page = catalogue.describe(name)
    if as_json:
        console.print_json("module", page.to_dict())
    else:
        console.print_text(page.text(min(console.width(), 100)))
