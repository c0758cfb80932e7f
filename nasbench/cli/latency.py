"""The command that measures the latency of plans, of the parts of a space, or of a run's Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasbench.cli import console
from nasbench.cli._app import PLAN_HELP, AsJson, Force, Lookback, Modules, Series, Size, Trust, app, load_plugins
from nasbench.cli._hosts import Fill, Head, Host, Neck, Scale, Set, Task, host_of_options
from nasbench.errors import DeviceError, InputError, NasbenchError
from nasbench.text import duration_s, human, narrate

if TYPE_CHECKING:
    from nasbench.measurement.latency.per_slot import PerSlot
    from nasbench.measurement.latency.profiler import Profile

_FIRST = "give one of: BACKBONE [--plan PLAN]..., BACKBONE --space SPACE --out FILE.json, --run RUN --front"


@app.command()
def profile(
    backbone: Annotated[
        str | None, typer.Argument(help="A timm name, a forecasting backbone, or FILE.py:build.")
    ] = None,
    plan: Annotated[list[str] | None, typer.Option(help=f"{PLAN_HELP} Repeatable.")] = None,
    space: Annotated[str | None, typer.Option(help="Measure the parts of this space, for a device profile.")] = None,
    run: Annotated[Path | None, typer.Option(metavar="RUN", help="A run folder. It needs --front.")] = None,
    front: Annotated[bool, typer.Option("--front", help="Measure the Pareto front of --run on this device.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    batch: Annotated[
        list[int] | None, typer.Option(min=1, max=65_536, help="Batch size, 1 by default. Can be repeated.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="eager (default), compile or cudagraph.")] = None,
    channels_last: Annotated[
        bool | None, typer.Option("--channels-last/--channels-first", help="Memory format. By default channels first.")
    ] = None,
    amp: Annotated[str | None, typer.Option(help="Autocast: none (default), bfloat16 or float16.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. By default torch's own number.")] = None,
    time: Annotated[str, typer.Option(metavar="20s", help="Time limit of one measurement.")] = "20s",
    slots: Annotated[bool, typer.Option(help="Also measure each plan slot by slot. It takes --time each.")] = True,
    size: Size = None,
    lookback: Lookback = 96,
    series: Series = 7,
    task: Task = None,
    neck: Neck = None,
    head: Head = None,
    scale: Scale = None,
    fill: Fill = None,
    set_: Set = None,
    identity_init: Annotated[
        bool, typer.Option("--identity-init", help="Insert with gates, as a search with pretrained weights does.")
    ] = False,
    held_out: Annotated[
        int | None,
        typer.Option(min=2, max=10_000, help="Number of whole plans that check a device profile, 16 by default."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of inputs, of the order of the calls and of drawn plans.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="File for the device profile or raw samples.")
    ] = None,
    force: Force = False,
    modules: Modules = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> int:
    """Measure latency beside the bare backbone, with verdicts.

    Measures plans, the Pareto front of a run, or the parts of a space for searches on other machines. Every result has
    an interval.

    Example: nasbench profile test_resnet --plan se --size 32 --device cpu --time 2

    A device profile: nasbench profile resnet18 --space five-properties --device cuda --out devices/gpu.json
    """
    from nasbench.measurement.latency.devices import check_device_name
    from nasbench.measurement.latency.scenario import AMP, MODES, check_mode, check_threads

    load_plugins(modules)
    check_device_name(device)
    check_mode(mode or MODES[0], amp or AMP[0])
    check_threads(threads)
    begun = space is not None and out is not None and _is_device_profile(out)  # it is continued, not overwritten
    console.check_file(out, force=force or begun)
    given = {"device": device, "mode": mode, "channels_last": channels_last, "amp": amp, "threads": threads}
    options = {"time_s": duration_s(time), "seed": seed, **{k: v for k, v in given.items() if v is not None}}
    of_task = {"neck": neck, "head": head, "scale": scale, "fill": fill}
    with_task = {"task": task, **of_task, "set": set_}
    if run is None and front:
        raise InputError(f"--front needs --run RUN; {_FIRST}")
    if run is not None:
        of_backbones = {"BACKBONE": backbone, "plan": plan, "space": space, **with_task}
        _refuse("--run RUN --front", **of_backbones, size=size, out=out, held_out=held_out)
        return _front(run if front else None, {**options, **_one_batch(batch)}, slots, as_json, trust=trust)
    if backbone is None:
        raise InputError(_FIRST)
    if space is not None:
        _refuse("--space", plan=plan, **with_task)
        from nasbench.spaces import load_space

        load_space(space)  # an error in the space is reported before torch is loaded
        if out is None:
            raise InputError("--space makes a device profile; give its file with --out FILE.json")
    else:
        _refuse("plans", held_out=held_out)
    shape: dict[str, Any] = {"size": size, "lookback": lookback, "series": series}
    host = host_of_options(backbone, task, of_task, set_, plans=plan or [], **shape)
    from nasbench.measurement.latency.profiler import check_device  # imported here, because it imports torch

    check_device(device, host.input_size, mode=mode or MODES[0], amp=amp or AMP[0], channels_last=bool(channels_last))
    if space is not None and out is not None:
        counts = {} if held_out is None else {"held_out": held_out}
        made = {"input_size": host.input_size, "identity_init": identity_init}
        if force and not begun and out.is_file() and not out.is_symlink():
            out.unlink()  # otherwise the profiler would try to continue it
        return _space(backbone, space, out, {**made, **options, **_one_batch(batch), **counts}, as_json)
    return _plans(host, plan or [], batch or [1], identity_init, options, out, slots, as_json)


def _refuse(use: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            option = name if name.isupper() else f"--{name.replace('_', '-')}"
            raise InputError(f"{option} cannot be combined with {use}; {_FIRST}")


def _one_batch(sizes: list[int] | None) -> dict[str, int]:
    if sizes and len(sizes) > 1:
        raise InputError(
            f"one --batch at a time here, got {', '.join(map(str, sizes))}: latencies at two batch sizes are two "
            "objectives"
        )
    return {"batch_size": sizes[0]} if sizes else {}


# -- plans -------------------------------------------------------------------------------------------------------------


def _plans(
    host: Host,
    texts: Sequence[str],
    batches: Sequence[int],
    identity_init: bool,
    options: Mapping[str, Any],
    out: Path | None,
    per_slot: bool,
    as_json: bool,
) -> int:
    from nasbench.backbones.insertion import plan_of
    from nasbench.measurement.latency.per_slot import profile_slots
    from nasbench.measurement.latency.profiler import profile_batches

    models = {text or "bare": host.model(text, identity_init=identity_init) for text in (None, *texts)}
    # A plan that inserts nothing has no slot that could be measured alone.
    apart = [text for text in models if text != "bare" and not plan_of(models[text]).is_bare] if per_slot else []
    # At each batch size, all models share one measurement, and each plan has one more for its slots.
    most = len(batches) * options["time_s"] * (1 + len(apart))
    narrate(f"{len(models)} models side by side, {len(apart)} slot by slot: at most {_seconds(most)}")
    made: dict[str, Any] = {"input_size": host.input_size, "identity_init": identity_init, "attach": host.attach}
    by_batch = profile_batches(models, batches, input_size=host.input_size, reference="bare", **options)
    measured = []
    for size, answer in by_batch.items():
        if isinstance(answer, DeviceError):  # a batch that is too large must not lose the results of the others
            narrate(f"error: batch size {size}: {answer}")
            measured.append({"batch_size": size, "error": str(answer)})
            continue
        parts = {text: profile_slots(host.bare(), text, **made, batch_size=size, **options) for text in apart}
        measured.append({"batch_size": size, "profile": answer, "slots": parts})
    if all("error" in one for one in measured):
        raise DeviceError(measured[-1]["error"])
    head = {"backbone": host.backbone, **host.ending, "input_size": host.input_size}
    if as_json:
        console.print_json("latency", {**head, "measurements": [_document(one, raw=False) for one in measured]})
    else:
        for one in measured:
            _print_measured(one)
    if out is not None:
        _save(out, "latency", {**head, "measurements": [_document(one, raw=True) for one in measured]})
        narrate(f"raw samples: {out}")
    return 1 if any("error" in one for one in measured) else 0


def _document(measurement: Mapping[str, Any], *, raw: bool) -> dict[str, Any]:
    """Return the measurement at one batch size as JSON-serialisable data. If `raw`, the data contains all samples."""
    if "error" in measurement:
        return dict(measurement)
    profile: Profile = measurement["profile"]
    parts: dict[str, PerSlot] = measurement["slots"]
    ranks = profile.ranks()
    rows = [{**row, "rank": ranks[row["name"]]} for row in profile.frame().to_dict("records")]
    slots = [{"plan": text, **part.to_dict()} for text, part in parts.items()]
    if not raw:
        slots = [{"plan": text, "rows": part.frame().to_dict("records")} for text, part in parts.items()]
    fields = ("reference", "stopped", "resolution", "confidence", "warm_up_rounds", "steady", "wall_s", "gpu_after")
    return {
        "batch_size": measurement["batch_size"],
        "rows": rows,
        **{field: getattr(profile, field) for field in fields},
        "blocks": len(profile.blocks),
        "scenario": profile.scenario.to_dict(),
        "scenario_text": profile.scenario.text,
        "slots": slots,
        **({"profile": profile.to_dict()} if raw else {}),
    }


def _print_measured(measurement: Mapping[str, Any]) -> None:
    if "error" in measurement:
        console.print_text(f"batch size {measurement['batch_size']}: not measured, {measurement['error']}")
        return
    profile: Profile = measurement["profile"]
    cuda = any(row.launch_bound is not None for row in profile.rows)
    ranks = profile.ranks()
    columns = ["model", "median ms", f"{_share(profile.confidence)} interval", "ratio", "interval", "verdict", "rank"]
    columns += ["calls", "left out", *(["wall ms", "launch bound"] if cuda else [])]
    rows = []
    for row in profile.rows:
        cells = [row.name, *_figures(row), row.verdict, ranks[row.name], row.samples, row.discarded]
        rows.append(cells + ([f"{row.wall_ms:.4g}", f"{row.launch_bound or 0:.2f}"] if cuda else []))
    console.print_table(columns, rows, f"latency, batch size {measurement['batch_size']}; ratio to {profile.reference}")
    _print_ending(profile)
    for text, part in measurement["slots"].items():
        _print_slots(part, f"\n{text}: slot by slot, each expression alone in the bare backbone")


def _figures(row: Any) -> list[str]:
    return [
        f"{row.latency_ms:.4g}",
        f"{row.low_ms:.4g} to {row.high_ms:.4g}",
        f"{row.ratio:.4f}",
        f"{row.ratio_low:.4f} to {row.ratio_high:.4f}",
    ]


def _print_ending(profile: Profile) -> None:
    why = {
        "resolution": f"every interval of a ratio is within ±{100 * profile.resolution:g} %",
        "time": "the time limit was reached",
        "blocks": "the maximum number of blocks was reached",
        "no accepted samples": "NO ACCEPTED SAMPLES: the GPU's clock stayed below 75 % of its default",
    }
    steady = "" if profile.steady else "; no steady state was reached in the warm-up"
    length = f"{len(profile.blocks)} blocks, {profile.wall_s:.1f} s"
    console.print_text(f"stopped after {length}: {why[profile.stopped]}{steady}")
    console.print_text(f"scenario: {profile.scenario.text}")


def _print_slots(per_slot: PerSlot, title: str) -> None:
    rows = [
        (
            row["slot"],
            row["expression"] if row["slot"] != "whole" else "",
            f"{human(row['added_macs'])}",
            f"{100 * row['added_macs_share']:+.2f} %",
            f"{row['added_ms']:+.4g}",
            f"{100 * row['added_share']:+.2f} %",
            f"{100 * row['added_share_low']:+.2f} to {100 * row['added_share_high']:+.2f} %",
            row["verdict"],
        )
        for row in per_slot.frame().to_dict("records")
    ]
    columns = (
        "slot",
        "expression",
        "MACs",
        "of the bare backbone",
        "ms",
        "of the bare backbone",
        "interval",
        "verdict",
    )
    console.print_table(columns, rows, title)
    console.print_text(f"stopped by {per_slot.profile.stopped} after {len(per_slot.profile.blocks)} blocks")


# -- a device profile --------------------------------------------------------------------------------------------------


def _is_device_profile(file: Path) -> bool:
    from nasbench.measurement.latency.device_profile import load_device_profile

    try:
        return file.is_file() and bool(load_device_profile(file))
    except NasbenchError:
        return False


def _space(backbone: str, space: str, out: Path, options: dict[str, Any], as_json: bool) -> int:
    from dataclasses import asdict

    from nasbench import backbones
    from nasbench.measurement.latency.space_profiler import HELD_OUT, estimate_s, profile_device
    from nasbench.spaces import load_space

    places = backbones.slots(backbone, input_size=options["input_size"])
    resolved = load_space(space).resolve(places)
    most = estimate_s(resolved, held_out=options.get("held_out", HELD_OUT), time_s=options["time_s"])
    narrate(f"estimate: at most {_seconds(most)} for the whole profile, not counting compilation and waiting")

    def on_group(done: int, total: int, left_s: float) -> None:
        narrate(f"{done} of {total} plans measured, at most {_seconds(left_s)} left")

    device_profile = profile_device(backbone, space, out, on_group=on_group, **options)
    quality = device_profile.quality()
    if as_json:
        data = {
            "file": str(out),
            "backbone": backbone,
            "input_size": device_profile.input_size,
            "bare_ms": device_profile.bare_ms,
            "added": device_profile.frame().to_dict("records"),
            "quality": None if quality is None else asdict(quality),
            "scenario": device_profile.scenario.to_dict(),
            "scenario_text": device_profile.scenario.text,
        }
        console.print_json("device_profile", data)
    else:
        rows = [
            (row["slot"], row["kind"], row["name"], f"{row['added_ms']:+.4g}", f"{100 * row['added_share']:+.2f} %")
            for row in device_profile.frame().to_dict("records")
        ]
        title = f"bare backbone: {device_profile.bare_ms:.4g} ms; each part adds:"
        console.print_table(("slot", "kind", "name", "added ms", "of the bare backbone"), rows, title)
        console.print_text(f"scenario: {device_profile.scenario.text}")
        console.print_text(
            f"predictions: {quality.text if quality else 'not checked, because the space has too few plans'}"
        )
    shape = options["input_size"]
    fit = f"--size {shape[-1]}" if len(shape) == 3 else f"--lookback {shape[0]}"
    narrate(
        f"device profile: {out}; next, on any machine: nasbench search {space} --backbone {backbone} {fit} "
        f'--latency-profile {out} --constraint "latency_ms<=1.2x"'
    )
    return 0


# -- a run's front -----------------------------------------------------------------------------------------------------


def _front(path: Path | None, options: dict[str, Any], per_slot: bool, as_json: bool, *, trust: bool) -> int:
    from nasbench.runs.run import load_run

    if path is None:
        raise InputError(f"--run needs --front; {_FIRST}")
    run = load_run(path, trust=trust)
    from nasbench.runs.front_latency import measure_front

    def on_start(measurements: int) -> None:
        most = _seconds(measurements * options["time_s"])
        narrate(f"measuring the front and the bare backbone: at most {most}")

    measured = measure_front(run, per_slot=per_slot, on_start=on_start, **options)
    if as_json:
        file = None if measured.file is None else str(measured.file)
        console.print_json("front_latency", {"run": str(path), "file": file, **measured.to_dict()})
    else:
        _print_front(measured)
    if measured.file is None:
        narrate(f"warning: the measurement is only shown here, because {path} cannot be written: {measured.fault}")
    else:
        narrate(f"raw samples: {measured.file}; next: {console.command('report', path)}")
    return 0


def _print_front(measured: Any) -> None:
    from nasbench.report.formatting import plan_name

    predicted = any("predicted_ms" in row for row in measured.rows)
    columns = ["trial", "rank", "median ms", "interval", "ratio", "interval", "verdict"]
    columns += ["predicted ms", "predicted ratio"] * predicted + ["MACs", "kernels", "plan"]
    rows = []
    for row in measured.rows:
        latency = measured.profile[row["plan_hash"]]
        cells = [row["number"], row["rank"], *_figures(latency), latency.verdict]
        if predicted:
            cells += [f"{row[name]:.4g}" if name in row else "" for name in ("predicted_ms", "predicted_ratio")]
        macs = "" if row["macs"] is None else human(row["macs"])
        rows.append([*cells, macs, row["kernels"], plan_name(row["plan"])])
    console.print_table(columns, rows, "the front, measured here")
    _print_ending(measured.profile)
    if measured.quality is not None:
        console.print_text(
            f"predicted ratios: {measured.quality.text}; predicted milliseconds: "
            f"{100 * measured.within_10pct_ms:.0f} % within ±10 %"
        )
    elif predicted:
        console.print_text("predictions: the front has too few plans to judge their quality")
    if measured.slots is not None:
        _print_slots(
            measured.slots, f"\n{measured.slots.plan.text}: slot by slot, each expression alone in the bare backbone"
        )


def _save(out: Path, kind: str, data: Mapping[str, Any]) -> None:
    import json

    console.write_file(out, json.dumps({"schema_version": console.SCHEMA_VERSION, "kind": kind, "data": data}) + "\n")


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _share(value: float) -> str:
    return f"{100 * value:g} %"
