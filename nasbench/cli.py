"""The `nasbench` command. Nothing here imports torch before a command needs it, so that `--help` is instant."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasbench import console
from nasbench.errors import InputError, NasbenchError, NothingMatched, UnknownNameError

if TYPE_CHECKING:
    from nasbench.runs import Run
    from nasbench.study import Event

__all__ = ["app", "main"]

app = typer.Typer(
    name="nasbench",
    help="Which plug-and-play modules help a network, where, at what real cost, and how sure that is.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Modules = Annotated[list[str] | None, typer.Option("--modules", metavar="PATH", help="Plug-in file or folder to load.")]
Size = Annotated[int | None, typer.Option("--size", metavar="PX", help="Image side in pixels.")]


_SIGINT = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 done; 1 done, but some trials or checks failed; 2 interrupted, state saved; 3 internal error; 4 what the user
    gave is wrong; 5 nothing matched.
    """
    warnings.showwarning = lambda message, *_, **__: console.narrate(f"warning: {message}")
    try:
        code = int(app(args=None if arguments is None else list(arguments), standalone_mode=False) or 0)
        if code == _SIGINT:  # typer turns Ctrl-C into an exit code of its own
            raise KeyboardInterrupt
        return code
    except NasbenchError as error:
        console.narrate(f"error: {error}")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        console.narrate("interrupted; what was finished is saved, the same command goes on from there")
        return 2
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the option parser
            console.narrate(
                f"error: {error.format_message()}\n`nasbench --help` and `nasbench COMMAND --help` tell more"
            )
            return InputError.exit_code
        traceback.print_exc()
        console.narrate("this is a fault of nasbench, not of what you typed; please report it with the lines above")
        return NasbenchError.exit_code


def _version(wanted: bool) -> None:
    if wanted:
        from nasbench import __version__

        console.print_text(f"nasbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
def modules(
    pattern: Annotated[str, typer.Argument(help="Shell pattern on the name.")] = "*",
    property: Annotated[
        str | None, typer.Option(help="locality, globality, sparsity, multiscale, or complexity (at most linear cost).")
    ] = None,
    dims: Annotated[int | None, typer.Option(min=1, max=2, help="Spatial dimensions served.")] = None,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """List the library: properties, costs, whether torch compiles and exports it. Papers with --json or `show`.

    Example: nasbench modules "*attention*" --property globality
    """
    from nasbench import catalogue, library

    _load(modules)
    specs = library.module_specs(pattern, property=property, dims=dims)
    if not specs:
        raise NothingMatched(f"no module matches {pattern!r} with these filters; `nasbench modules` lists all")
    rows = catalogue.overview(specs)
    if as_json:
        console.print_json("modules", rows)
        return
    console.print_table(*catalogue.table(rows, console.width()))
    console.narrate(
        "L locality, G globality, S sparsity, M multi-scale; cost in the number N of positions; params and MACs at "
        f"C={catalogue.DEFAULT_CHANNELS}, 16x16 or 96\n{len(specs)} modules; `nasbench show NAME` tells all about one"
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A module's name.")],
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """Show one module: definition, hyper-parameters, cost at a default size, source.

    Example: nasbench show se
    """
    from nasbench import catalogue

    _load(modules)
    page = catalogue.describe(name)
    if as_json:
        console.print_json("module", page.to_dict())
    else:
        console.print_text(page.text(min(console.width(), 100)))


@app.command()
def slots(
    backbone: Annotated[str, typer.Argument(help="A timm name, a stem, or FILE.py:build.")],
    size: Size = None,
    lookback: Annotated[int, typer.Option(help="Input steps of a stem.")] = 96,
    series: Annotated[int, typer.Option(help="Series of a stem.")] = 7,
    as_json: AsJson = False,
) -> None:
    """List the slots of a backbone: name, channels, spatial size, layout.

    Example: nasbench slots resnet18 --size 64
    """
    from nasbench import backbones

    found = backbones.slots(backbone, input_size=_input_size(backbone, size, lookback, series))
    if as_json:
        fields = ("name", "channels", "size", "layout", "module", "prefix_tokens")
        console.print_json("slots", [{field: getattr(slot, field) for field in fields} for slot in found])
        return
    rows = [(s.name, s.channels, "x".join(map(str, s.size)), s.layout, s.module) for s in found]
    console.print_table(("slot", "channels", "size", "layout", "module"), rows)


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

    _load(modules)
    rows = []
    for each in [name] if name else list_spaces():
        space = load_space(each)
        host = backbone or ("patchtst" if space.name == "forecasting" else "resnet18")
        resolved = space.resolve(backbones.slots(host, input_size=_input_size(host, size)))
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


@app.command()
def measure(
    backbone: Annotated[str, typer.Argument(help="A timm name, a stem, or FILE.py:build.")],
    plan: Annotated[str | None, typer.Option(help="JSON of slot to expression, or one expression.")] = None,
    size: Size = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size of the memory figures.")] = 1,
    lookback: Annotated[int, typer.Option(help="Input steps of a stem.")] = 96,
    series: Annotated[int, typer.Option(help="Series of a stem.")] = 7,
    modules: Modules = None,
    as_json: AsJson = False,
) -> None:
    """Count params, MACs (1 MAC = 1 multiply-add), elementwise operations, activations and peak memory.

    Example: nasbench measure resnet18 --plan "eca >> triplet_attention" --size 64
    """
    from nasbench import costs, insertion

    _load(modules)
    shape = _input_size(backbone, size, lookback, series)
    bare = insertion.insert(backbone, None, input_size=shape)
    models = (
        {"bare": bare} if plan is None else {"bare": bare, "plan": insertion.insert(backbone, plan, input_size=shape)}
    )
    rows = []
    for label, model in models.items():
        cost = costs.measure(model, input_size=shape, batch_size=batch, peak_memory=True)
        fields = (
            "params",
            "macs",
            "elementwise_flops",
            "activations",
            "peak_memory_bytes",
            "exact",
            "unknown_ops",
            "notes",
        )
        rows.append({"model": label, **{field: getattr(cost, field) for field in fields}})
    if as_json:
        console.print_json(
            "costs", {"backbone": backbone, "plan": plan, "input_size": shape, "batch_size": batch, "rows": rows}
        )
        return
    _print_costs(rows, f"{backbone}, input {'x'.join(map(str, shape))}, batch {batch}; 1 MAC = 1 multiply-add")


def _print_costs(rows: list[dict[str, Any]], title: str) -> None:
    named = {"params": "params", "macs": "MACs", "elementwise_flops": "elementwise operations"}
    named |= {"activations": "activations", "peak_memory_bytes": "peak memory, bytes"}
    table = []
    for field, label in named.items():
        values = [row[field] for row in rows]
        ratio = [f"{values[1] / values[0]:.3f}x"] if len(values) == 2 and values[0] else []
        table.append((label, *(console.human(value) for value in values), *ratio))
    bounds = [row for row in rows if not row["exact"]]
    header = ("", *(row["model"] for row in rows), *(["ratio"] if len(rows) == 2 else []))
    console.print_table(header, table, title)
    for row in rows:
        for note in row["notes"]:
            console.print_text(f"{row['model']}: {note}")
    for row in bounds:
        console.print_text(f"{row['model']}: a LOWER BOUND, no formula for {', '.join(row['unknown_ops'])}")


@app.command()
def search(
    space: Annotated[str | None, typer.Argument(help="A ready-made space, or a YAML file.")] = None,
    backbone: Annotated[str | None, typer.Option(help="A timm name, a stem, or FILE.py:build.")] = None,
    task: Annotated[
        str | None, typer.Option(help="digits, co2, folder:PATH, tar:TRAIN,TEST, csv:PATH, ett:PATH, FILE.py:Task.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Distinct plans to evaluate; 24 by default.")] = None,
    time: Annotated[str | None, typer.Option(metavar="30m", help="Stop starting trials after this long.")] = None,
    objective: Annotated[list[str] | None, typer.Option(help="A metric or cost; may be repeated.")] = None,
    constraint: Annotated[list[str] | None, typer.Option(help='Such as "params<=1.1x"; may be repeated.')] = None,
    sampler: Annotated[str | None, typer.Option(help="auto, gp, tpe, nsga2 or random.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of splits, weights, order and sampler.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds for each finalist; 3 by default.")] = None,
    size: Size = None,
    lookback: Annotated[int | None, typer.Option(help="Input steps of a forecast.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Steps to forecast.")] = None,
    fill: Annotated[str | None, typer.Option(help="Fill gaps of a series: linear or forward.")] = None,
    checkpoint: Annotated[str | None, typer.Option(metavar="FILE", help="Weights of the bare backbone.")] = None,
    pretrained: Annotated[bool | None, typer.Option("--pretrained", help="Start from timm's weights.")] = None,
    freeze: Annotated[
        str | None, typer.Option(help='"backbone": train what was inserted, and the head, alone.')
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1.")] = None,
    modules: Modules = None,
    keep: Annotated[str | None, typer.Option(help="Weights kept: of the front or of all.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The run folder; resumes the run there.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A training setting.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A YAML file with settings.")] = None,
    as_json: AsJson = False,
) -> int:
    """Search a space: which plans are worth having, at what cost, how surely. Leaves a run folder with a report.

    Example: nasbench search five-properties --backbone test_resnet --task digits --trials 6 --seeds 1 --out runs/try
    """
    from nasbench import report as reports
    from nasbench import study as engine

    extra, training = _settings(set_ or [])
    given: dict[str, Any] = dict(
        backbone=backbone, task=task, trials=trials, time_s=console.duration_s(time) if time else None,
        constraints=constraint, sampler=sampler, seed=seed, seeds=seeds, size=size, lookback=lookback,
        horizon=horizon, fill=fill, checkpoint=checkpoint, pretrained=pretrained, freeze=freeze, device=device,
        modules=modules, keep=keep, training=training or None, **extra,
    )  # fmt: skip
    with _Progress() as progress:
        run = engine.search(
            space,
            objectives=objective,
            out=out,
            config=config,
            on_event=progress.on_event,
            origin="command line",
            **given,
        )
        progress.note("building the report")
        page = reports.build(run)
    _print_front(run, as_json)
    console.narrate(f"report: {page}; next: nasbench report {run.path}, or the same search with more --trials")
    return 1 if (run.trials()["state"] == "failed").any() else 0


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: AsJson = False) -> None:
    """Build (again) the report, figures and tables of a run.

    Example: nasbench report runs/demo
    """
    from nasbench import report as reports
    from nasbench import runs as folders

    found = folders.load_run(run)
    page = reports.build(found)
    _print_front(found, as_json)
    console.narrate(f"report: {page}")


@app.command()
def runs(
    root: Annotated[Path, typer.Argument(help="The folder that holds run folders.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the runs here: state, trials, front.

    Example: nasbench runs
    """
    from nasbench import runs as folders

    found = [folders.load_run(path) for path in folders.list_runs(root)]
    if not found:
        raise NothingMatched(f"no run in {root}/; `nasbench search` makes one")
    rows = [folders.summary(run) for run in found]
    if as_json:
        console.print_json("runs", rows)
        return
    columns = ("name", "state", "trials", "of", "failed", "front", "backbone", "task", "created")
    console.print_table(columns, [[row[column] for column in columns] for row in rows])


def _print_front(run: Run, as_json: bool) -> None:
    front = run.front()
    if as_json:
        console.print_json("front", {"run": str(run.path), "rows": front.to_dict(orient="records")})
        return
    shown = [*run.directions, "difference", "difference_low", "difference_high", "verdict", "probability"]
    columns = ["number", *(column for column in shown if column in front), "plan"]
    console.print_table(columns, front[columns].itertuples(index=False), "front")


def _settings(pairs: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split `--set` pairs into settings of the search and of its training recipe."""
    from nasbench.recipe import Recipe
    from nasbench.settings import SearchSettings

    extra, training = {}, {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip().removeprefix("training.")
        if not equals:
            raise InputError(f"--set takes KEY=VALUE, as in --set epochs=5; got {pair!r}")
        if key in Recipe.model_fields:
            training[key] = value.strip()
        elif key in SearchSettings.model_fields:
            extra[key] = value.strip()
        else:
            raise UnknownNameError("setting", key, [*Recipe.model_fields, *SearchSettings.model_fields])
    return extra, training


def _input_size(backbone: str, size: int | None, lookback: int = 96, series: int = 7) -> tuple[int, ...]:
    """Return the input size that options stand for; the backbone's own where they say nothing."""
    from nasbench import backbones

    if backbones.is_stem(backbone):
        return (lookback, series)
    if size is not None:
        if size < 1:
            raise InputError(f"--size {size}: an image has at least 1 pixel")
        return (3, size, size)
    return backbones.default_input_size(backbone) or (3, 224, 224)


def _load(paths: list[str] | None) -> None:
    from nasbench import plugins

    for path in paths or []:
        plugins.load_path(path)


class _Progress:
    """Shows the events of a search: a bar on a terminal, a line each elsewhere, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        from rich.markup import escape

        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def on_event(self, event: Event) -> None:
        """Show one event of the search."""
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bar.add_task(event.stage, total=event.total)
        self._bar.update(self._tasks[event.stage], completed=event.done, total=event.total)
        self.note(f"{event.stage} {event.done}/{event.total}  {event.message}")


if __name__ == "__main__":
    sys.exit(main())
