"""The command that tests this machine: versions, devices, and the latency profiler on each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nasbench.cli import console
from nasbench.cli._app import AsJson, app
from nasbench.text import duration_s, narrate


@app.command()
def doctor(
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1. By default all devices.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="30s", help="Time for the trials of each device. By default at most 40 s.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Test this machine: versions, devices, latency profiler.

    The profiler is tested on two identical models, and on a model that is 5 % slower.

    Example: nasbench doctor --device cpu --time 2
    """
    from nasbench.measurement.latency.devices import all_devices, check_device_name, usable_device

    if device is not None:
        check_device_name(device)
    from nasbench.measurement.latency import doctor as examination
    from nasbench.runs.environment import package_versions

    seconds = examination.TIME_S if time is None else duration_s(time)
    names = all_devices() if device is None else [str(usable_device(device))]
    results = []
    for name in names:
        narrate(f"{name}: {examination.MIN_TRIALS} trials of each kind, {seconds:g} s")
        results.append({**examination.examine(name, time_s=seconds), "supports": examination.supported(name)})
    if as_json:
        console.print_json("doctor", {"versions": package_versions(), "devices": results})
    else:
        versions = [(name, version) for name, version in package_versions().items() if version]
        console.print_table(("package", "version"), versions)
        for result in results:
            _print_device(result)
    for place in _neighbours():
        narrate(
            f"{place} is another package with the import name nasbench (NAS-Bench-101 of google-research has it too); "
            "keep the two in separate environments"
        )
    wrong = [result["device"] for result in results if result["faults"]]
    for result in results:
        for fault in result["faults"]:
            narrate(f"{result['device']}: {fault}")
    return 1 if wrong else 0


def _neighbours() -> list[Path]:
    """Return the other packages called nasbench on the path. Which of them is imported depends on the order there."""
    ours = Path(__file__).resolve().parents[1]
    places = dict.fromkeys((Path(entry) / "nasbench").resolve() for entry in sys.path)
    return [place for place in places if place != ours and (place / "__init__.py").is_file()]


def _print_device(result: dict[str, Any]) -> None:
    from nasbench.measurement.latency.doctor import MIN_POWER, MIN_SAME

    def rate(key: str) -> str:
        low, high = result[f"{key}_interval"]
        return f"{100 * low:.0f} to {100 * high:.0f} %"

    name = result["scenario"]["device_name"]
    works = ", ".join(key for key, reason in result["supports"].items() if not reason)
    console.print_text(f"\n{result['device']}: {name}\nsupports: {works}")
    for key, reason in result["supports"].items():
        if reason:
            console.print_text(f"  not {key}: {reason}")
    rows = [
        ("identical models called SAME", f"{100 * result['aa_same_rate']:.1f} %", rate("aa_same")),
        ("5 % slower model called SLOWER", f"{100 * result['power_5pct']:.1f} %", rate("power_5pct")),
    ]
    aims = (f"at least {100 * MIN_SAME:.0f} %", f"at least {100 * MIN_POWER:.0f} %")
    table = [(*row, aim) for row, aim in zip(rows, aims, strict=True)]
    console.print_table((f"of {result['trials']} trials", "rate", "95 % Wilson interval", "aim"), table)
    deviation = "-" if result["aa_sd"] is None else f"{100 * result['aa_sd']:.2f} %"
    console.print_text(
        f"log-ratio of identical models: standard deviation {deviation}; {100 * result['settled_share']:.0f} % of the "
        f"trials reached ±{100 * result['resolution']:g} %; {100 * result['discarded_share']:.1f} % of calls were "
        "excluded"
    )
    console.print_text(f"scenario: {result['scenario_text']}; {result['wall_s']:.1f} s")
