"""Commands on measured properties: the fingerprint of a module, and the properties that a network lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasbench.cli import console
from nasbench.cli._app import AsJson, Force, Lookback, Modules, Series, Size, Trust, app, input_size, load_plugins
from nasbench.errors import InputError
from nasbench.text import human, narrate

if TYPE_CHECKING:
    from nasbench.measurement.properties.fingerprint import Fingerprint
    from nasbench.report.suggestion import Advice


@app.command()
def fingerprint(
    module: Annotated[str, typer.Argument(help="A module's name, an expression, or a run folder with --trial.")],
    size: Annotated[
        str | None,
        typer.Option(metavar="16x16", help="Number of positions: HxW, or L for one dimension. By default 16x16 or 64."),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, max=65_536, help="Number of channels of the input.")] = 8,
    inputs: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of random draws of input and initial weights.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the draws.")] = 0,
    exact: Annotated[
        bool | None,
        typer.Option("--exact/--estimate", help="Whole Jacobian, or a sample of it. The default depends on the size."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Measure the trained plan of this trial of a run.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture as .svg, .png or .pdf.")] = None,
    force: Force = False,
    modules: Modules = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Measure the five properties of a module or a trained plan.

    They are locality, globality, sparsity, multi-scale and complexity.

    Example: nasbench fingerprint coord_attention --size 16x16 --figure coord.svg
    """
    console.check_file(figure, force=force, option="--figure", kinds=(".svg", ".png", ".pdf"))
    load_plugins(modules)
    if trial is not None:
        from nasbench.runs.run import load_run

        run = load_run(module, trust=trust)
        run.plan_of(trial)  # a wrong number is an error before torch is imported
        from nasbench.measurement.properties.fingerprint import fingerprint_plan

        fingerprints = fingerprint_plan(run.build(trial), seed=seed, inputs=inputs, exact=exact)
        if not fingerprints:
            raise InputError(
                f"trial {trial} has only a neck or modules on a single position: there is nothing to measure"
            )
    else:
        if (Path(module) / "config.yaml").is_file():
            raise InputError(
                f"{module} is a run; choose one of its plans with --trial N (`nasbench report {module}` lists them)"
            )
        from nasbench.report.hosts import check_module

        check_module(module)
        shape = _positions(size) if size else None
        from nasbench.measurement.properties.fingerprint import fingerprint as measured

        module_fingerprint = measured(module, size=shape, channels=channels, seed=seed, inputs=inputs, exact=exact)
        fingerprints = {module_fingerprint.name: module_fingerprint}
    if as_json:
        rows = [{"slot": slot, **each.to_dict()} for slot, each in fingerprints.items()]
        console.print_json("fingerprint", rows if trial is not None else rows[0])
    else:
        for slot, each in fingerprints.items():
            _print_fingerprint(each, f"{slot}: " if trial is not None else "", inputs)
    if figure is not None:
        from nasbench.report import fingerprints as pictures
        from nasbench.report.plotting import save_figure

        for slot, each in fingerprints.items():
            file = figure.with_stem(f"{figure.stem}-{slot}") if len(fingerprints) > 1 else figure
            save_figure(pictures.draw_fingerprint(pictures.fingerprint_data(each)), file)
            narrate(f"plot: {file}")


def _positions(text: str) -> tuple[int, ...]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise InputError(f"--size {text!r}: write HxW, such as 16x16, or L, such as 64, for one dimension")
    return tuple(int(side) for side in sides)


def _print_fingerprint(measured: Fingerprint, prefix: str, inputs: int) -> None:
    from nasbench.library.registry import PROPERTIES
    from nasbench.measurement.properties.record import has

    meaning = {
        "locality": "share of the influence of other positions that comes from within distance 1",
        "globality": "mean distance of that influence, divided by that of a uniform influence; 0 is pointwise",
        "sparsity": "share of the other positions in reach whose influence is negligible",
        "multiscale": "how evenly influence is spread over rings of doubling radius; 0 is like a uniform influence",
        "complexity": "exponent of MACs + elementwise operations in the number of positions",
        "self_influence": "share of the influence on a position that comes from this position itself",
    }
    rows = []
    for name, words in meaning.items():
        value, error = getattr(measured, name), measured.error.get(name)
        counts = "yes" if name in PROPERTIES and has(measured, name) else ""
        rows.append(
            (name, "-" if value is None else f"{value:.3f}", "" if error is None else f"{error:.3f}", counts, words)
        )
    size = "x".join(map(str, measured.size))
    how = "exact Jacobian" if measured.exact else "estimated from random positions"
    title = f"{prefix}{measured.name}, {size}, {measured.channels} channels, {inputs} draws, {how}"
    console.print_table(("", "value", "±", "has it", "meaning"), rows, title)
    each = [f"{human(v)} {unit}" for v, unit in ((measured.macs, "MACs"), (measured.params, "params"))]
    per_position = ((measured.macs_per_position, "MACs"), (measured.params_per_position, "params"))
    per = [f"{human(v)} {unit}" for v, unit in per_position]
    console.print_text(f"{', '.join(each)} for one item; per position: {', '.join(per)} (1 MAC = 1 multiply-add)")
    for note in measured.notes:
        console.print_text(f"note: {note}")


@app.command()
def suggest(
    host: Annotated[str, typer.Argument(help="A backbone, a module's name or expression, or a run folder.")],
    size: Size = None,
    lookback: Lookback = 96,
    series: Series = 7,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Measure the backbone with timm's weights.")] = False,
    each: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of modules proposed for each missing property.")
    ] = 3,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the modules as a space for `search`.")] = None,
    force: Force = False,
    modules: Modules = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Propose modules for the properties that a network lacks.

    Each stage is measured. For each missing property, the modules that add it with the fewest MACs are proposed,
    each with what the atlas has of it.

    Example: nasbench suggest resnet18 --size 64 --out suggested.yaml
    """
    from nasbench.report.hosts import check_host, is_backbone

    console.check_file(out, force=force)
    load_plugins(modules)
    check_host(host)
    from nasbench.report.suggestion import suggest as advise

    shape = input_size(host, size, lookback, series) if is_backbone(host) else None
    advice = advise(host, input_size=shape, pretrained=pretrained, each=each, trust=trust)
    if as_json:
        console.print_json("suggest", advice.to_dict())
    else:
        _print_advice(advice)
    if out is not None:
        console.write_file(out, advice.space_yaml)
        narrate(f"space: {out}; next: {console.command('search', out)}{advice.search_options}")


def _print_advice(advice: Advice) -> None:
    def text(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    stages = advice.backbone is not None
    rows = [
        (
            *([slot] if stages else []),
            *(text(getattr(row, p)) for p in ("locality", "globality", "sparsity", "multiscale")),
            ", ".join(lacks) or "nothing",
        )
        for row, (slot, lacks) in zip(advice.measured, advice.missing.items(), strict=True)
    ]
    columns = ("locality", "globality", "sparsity", "multiscale", "lacks")
    if stages:
        title = f"{advice.host}: properties of each stage, from the slot before it to its own slot"
        console.print_table(("slot", *columns), rows, title)
    else:
        console.print_table(columns, rows, f"{advice.host}: its properties")
    known = any(s.atlas is not None for s in advice.suggestions)
    table = [
        (
            *([s.slot] if stages else []), s.property, s.module, f"{s.figure:.2f}", human(s.macs),
            *([] if s.macs_share is None else [f"{100 * s.macs_share:.2g} %"]), human(s.params),
            *([] if not known else ["-" if s.atlas is None else s.atlas.text]),
        )
        for s in advice.suggestions
    ]  # fmt: skip
    header = (
        "adds",
        "module",
        "value",
        "MACs",
        *(["of the host"] if stages else []),
        "params",
        *(["in the atlas"] * known),
    )
    console.print_table((*(["slot"] if stages else []), *header), table)
    for row in advice.measured:
        for note in row.notes:
            console.print_text(f"note: {getattr(row, 'slot', advice.host)}: {note}")
