"""Compare the MAC counter with known figures, and its time with that of stock fvcore.

    .venv/bin/python scripts/benchmarks/macs.py [BACKBONE...] [--rounds 3]

For each backbone it prints the GMACs of `nasbench.measurement.costs.measure` beside the known figure. It also prints
the time of a full audited count as a multiple of the time of stock fvcore's count on the CPU, with its interval over
the rounds. "first" is with an empty cache of inferred shapes, "again" with a full one.
The exit code is 1 if a figure is wrong, a count is not exact, or the geometric mean of the ratios exceeds the aim of
2.5.
"""

from __future__ import annotations

import math
import statistics
import sys
import warnings

import timm
import torch

from nasbench.backbones import default_input_size
from nasbench.measurement import costs
from nasbench.measurement.costs import inferred_shapes
from nasbench.measurement.costs.counter import FlopCountAnalysis
from scripts.benchmarks.paired import (
    Table,
    command_line,
    geometric_mean,
    interval_text,
    ratio_interval,
    times_side_by_side,
)

GMACS = {
    "resnet50": 4.089,
    "mobilenetv3_small_050": 0.0242,
    "convnext_atto": 0.547,
    "efficientvit_b0": 0.100,
    "vit_tiny_patch16_224": 1.254,
    "vit_small_patch16_384": 15.490,
    "deit3_small_patch16_224": 4.599,
    "swin_tiny_patch4_window7_224": 4.491,
    "mobilevit_s": 2.001,
    "maxvit_nano_rw_256": 4.417,
    "mvitv2_tiny": 4.677,
    "xcit_nano_12_p16_224": 0.551,
    "pvt_v2_b1": 2.108,
    "volo_d1_224": 6.919,
    "coatnet_0_rw_224": 4.406,
}
AIM = 2.5
KINDS = ("first", "again")


def stock_count(model: torch.nn.Module, batch: torch.Tensor) -> int:
    """Count as fvcore does by itself, without the audit."""
    analysis = FlopCountAnalysis(model, (batch,)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad():
        return analysis.total()


def first_count(model: torch.nn.Module) -> None:
    """Count with an empty cache of inferred shapes."""
    inferred_shapes.forget()
    costs.measure(model)


def times_of(model: torch.nn.Module, batch: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of stock fvcore's count, and of ours with an empty ("first") and a full ("again") cache."""
    works = {
        "stock": lambda: stock_count(model, batch),
        "first": lambda: first_count(model),
        "again": lambda: costs.measure(model),
    }
    return times_side_by_side(works, rounds=rounds)


def is_wrong(macs: float, known_gmacs: float) -> bool:
    """Whether a count differs from the known figure by more than its rounding. False if the figure is unknown (NaN)."""
    return abs(macs / 1e9 - known_gmacs) > max(0.0006, 0.0005 * known_gmacs)


def main() -> int:
    """Print the table and return the exit code."""
    parser = command_line(__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="BACKBONE", help="timm architectures, all with a known figure if none"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table = Table(
        {
            "backbone": "<30",
            "GMACs": ">8",
            "known": ">8",
            "exact": "<5",
            "fvcore ms": ">9",
            "first": ">18",
            "again": ">18",
        }
    )
    table.print_head()
    ratios: dict[str, list[float]] = {kind: [] for kind in KINDS}
    good = True
    for name in options.names or GMACS:
        model = timm.create_model(name).eval()
        cost = costs.measure(model)
        known = GMACS.get(name, math.nan)
        good &= cost.exact and not is_wrong(cost.macs, known)
        size = default_input_size(name)
        assert size is not None
        times = times_of(model, torch.zeros(1, *size), options.rounds)
        intervals = {kind: ratio_interval(times[kind], times["stock"]) for kind in KINDS}
        for kind, interval in intervals.items():
            ratios[kind].append(interval[0])
        told = (
            f"{cost.macs / 1e9:.4f}",
            f"{known:.4f}",
            str(cost.exact),
            f"{1e3 * statistics.median(times['stock']):.0f}",
        )
        table.print_row(name, *told, *map(interval_text, intervals.values()))
    means = {kind: geometric_mean(values) for kind, values in ratios.items()}
    print(
        "geometric mean: " + ", ".join(f"{kind} {mean:.2f}" for kind, mean in means.items()) + f" (aim: at most {AIM})"
    )
    return 0 if good and max(means.values()) <= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
