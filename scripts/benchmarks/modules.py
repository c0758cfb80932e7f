"""Time every module beside its most direct public or plain-torch form, and measure how its memory grows.

    .venv/bin/python scripts/benchmarks/modules.py [NAME...] [--rounds 15] [--device cuda] [--json]

The ratio is (peer's time) / (our time) of a forward and backward pass. Above 1 we are faster. Our module and the peer
take turns in random order. The ratio is the median over the rounds of the paired ratios, with its 95 % interval. On a
CPU the times are processor time of one thread. A peer is a layer of timm, torchvision or torch if one of them has the
module, else a plain-torch form (plain_modules.py, plain_maps.py). It is never code of nasbench.

Growth is the exponent of a training step's peak memory in the number of positions N. It is 1 for linear growth, a
little more for N log N (probsparse_attention), and 2 if something of N x N is allocated.

The modules timm/* are timm's own layers in a wrapper, so there is nothing to compare. The exit code is 1 if an aim is
missed.
"""

from __future__ import annotations

import json
import math
import random
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nasbench import create_module
from nasbench.library import modules as library
from nasbench.library.registry import ModuleSpec
from nasbench.measurement.costs.memory import peak_memory_of
from nasbench.measurement.latency.intervals import Interval
from scripts.benchmarks.module_peers import PEERS, Peer
from scripts.benchmarks.paired import (
    Table,
    command_line,
    geometric_mean,
    interval_text,
    ratio_interval,
    times_side_by_side,
)

SIZES: dict[int, tuple[tuple[int, tuple[int, ...]], ...]] = {
    2: ((64, (32, 32)), (256, (14, 14))),
    1: ((64, (1024,)), (256, (192,))),
}
GROWTH: dict[int, tuple[tuple[int, ...], ...]] = {2: ((32, 32), (64, 32), (64, 64)), 1: ((1024,), (2048,), (4096,))}
BATCH = 8
LONG_ENOUGH_S = 0.01  # a shorter timing gets more calls until it takes this long
MEAN, LEAST, MOST = 1.0, 0.8, 1.25  # N log N grows by about 1.15 here, N x N by 2

Arguments = tuple[Tensor | list[Tensor], ...]
Row = dict[str, Any]


def inputs(spec: ModuleSpec, channels: int, size: tuple[int, ...], device: str, batch: int = BATCH) -> Arguments:
    """Return the input of a module of this kind: a map, two maps, or a pyramid of three levels."""
    if spec.kind == "neck":
        levels = [torch.randn(batch, channels << i, *(-(-s >> i) for s in size), device=device) for i in range(3)]
        return ([x.requires_grad_() for x in levels],)
    count = 2 if spec.kind == "fusion" else 1
    return tuple(torch.randn(batch, channels, *size, device=device, requires_grad=True) for _ in range(count))


def ours(spec: ModuleSpec, channels: int, dims: int) -> nn.Module:
    """Build the module with its defaults."""
    if spec.kind == "neck":
        return create_module(spec.name, [channels, 2 * channels, 4 * channels])
    return create_module(spec.name, channels, dims=dims)


def train_step(module: nn.Module, arguments: Arguments) -> None:
    """Run one forward and backward pass, and drop the gradients."""
    outputs = flat(module(*arguments))
    torch.autograd.backward(outputs, [torch.ones_like(y) for y in outputs])
    for tensor in (*module.parameters(), *flat(arguments)):
        tensor.grad = None


def flat(values: Tensor | Sequence[Any]) -> list[Tensor]:
    """Return the tensors of nested sequences in order."""
    return [values] if isinstance(values, Tensor) else [t for value in values for t in flat(value)]


def compare(spec: ModuleSpec, peer: Peer, channels: int, size: tuple[int, ...], rounds: int, device: str) -> Interval:
    """Return the ratio of the peer's time to ours, with its interval."""
    torch.manual_seed(0)
    arguments = inputs(spec, channels, size, device)
    pair = {"ours": ours(spec, channels, len(size)), "peer": peer.build(channels, size)}
    shapes = {name: [y.shape for y in flat(m.to(device).train()(*arguments))] for name, m in pair.items()}
    if shapes["ours"] != shapes["peer"]:
        raise AssertionError(f"{spec.name} and its peer give other shapes: {shapes}")
    works = {name: partial(train_step, module, arguments) for name, module in pair.items()}
    times = times_side_by_side(works, rounds=rounds, device=device, at_least_s=LONG_ENOUGH_S)
    return ratio_interval(times["peer"], times["ours"])


def growth(spec: ModuleSpec, device: str) -> float:
    """Return the exponent in N of the peak memory of a training step.

    It comes from the differences between N, 2 N and 4 N, in which constant parts cancel.
    """
    dims = max(spec.dims)
    module = ours(spec, 64, dims).to(device)
    larger = 8 if spec.kind == "neck" else 1  # a neck's weights and their gradients hide the maps of a small pyramid
    sizes = [tuple(larger * side for side in size) for size in GROWTH[dims]]
    first, second, third = (
        peak_memory_of(module, inputs(spec, 64, size, device, batch=2), training=True) for size in sizes
    )
    return math.log2((third - second) / (second - first))


def benchmark(names: list[str], rounds: int, device: str, show: Callable[[Row], None]) -> list[Row]:
    """Compare the named modules, or all that have a peer. Show each row when it is done."""
    rows = []
    for spec in library.module_specs():
        if spec.name not in PEERS or (names and spec.name not in names):
            continue
        peer, dims = PEERS[spec.name], max(spec.dims)
        intervals = [compare(spec, peer, channels, size, rounds, device) for channels, size in SIZES[dims]]
        row = {
            "name": spec.name,
            "peer": peer.label,
            "cost_order": spec.cost_order,
            "sizes": [[BATCH, channels, *size] for channels, size in SIZES[dims]],
            "ratios": [interval[0] for interval in intervals],
            "intervals": intervals,
            "growth": growth(spec, device),
        }
        rows.append(row)
        show(row)
    return rows


def main() -> int:
    """Print the table, or JSON, and return the exit code."""
    parser = command_line(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="modules, all that have a peer if none")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = set(options.names) - set(PEERS)
    if unknown:
        parser.error(f"no peer of {', '.join(sorted(unknown))}, there are peers of {', '.join(sorted(PEERS))}")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    random.seed(0)
    table = Table({"module": "<24", "C=64": ">18", "C=256": ">18", "growth": ">7", "order": "<5", "peer": ""})

    def show(row: Row) -> None:
        figures = [interval_text(interval) for interval in row["intervals"]]
        table.print_row(row["name"], *figures, f"{row['growth']:.2f}", f"N^{row['cost_order']}", row["peer"])

    if not options.json:
        table.print_head()
    rows = benchmark(options.names, options.rounds, options.device, (lambda row: None) if options.json else show)
    ratios = [ratio for row in rows for ratio in row["ratios"]]
    mean = geometric_mean(ratios)
    slow = [row["name"] for row in rows if min(row["ratios"]) < LEAST]
    large = [row["name"] for row in rows if row["cost_order"] == 1 and row["growth"] > MOST]
    if options.json:
        print(json.dumps({"geometric_mean": mean, "slow": slow, "more_than_linear": large, "rows": rows}, indent=1))
    else:
        print(f"geometric mean {mean:.3f} of {len(ratios)} ratios (aim: {MEAN} or more)")
        print(f"under {LEAST}: {', '.join(slow) or 'none'}")
        print(f"of cost order 1 but not linear: {', '.join(large) or 'none'}")
    return 0 if mean >= MEAN and not slow and not large else 1


if __name__ == "__main__":
    sys.exit(main())
