#!/usr/bin/env python3
"""Hold the MAC counter against the known figures, and its time against stock fvcore's.

    .venv/bin/python scripts/bench_macs [BACKBONE...]

For each backbone: GMACs of `nasbench.measurement.costs.measure` beside the known figure, and the time of a full audited count as a
multiple of stock fvcore's count of the same model on the CPU; "first" with an empty cache of inferred shapes, "again"
with the cache that a process keeps. Times are of the process, the best of a few, so that a busy machine matters little.
Ends with 1 where a figure is wrong, a count is not exact, or the geometric mean of the ratios exceeds the aim of 2.5.
"""

import math
import sys
import time
import warnings
from collections.abc import Callable

import torch

warnings.simplefilter("ignore")

import timm  # noqa: E402

from nasbench.measurement import costs  # noqa: E402
from nasbench.measurement.costs import inferred_shapes  # noqa: E402
from nasbench.measurement.costs.counter import FlopCountAnalysis  # noqa: E402

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


def best_ms(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def stock(model: torch.nn.Module, batch: torch.Tensor) -> int:
    analysis = FlopCountAnalysis(model, (batch,)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad():
        return analysis.total()


def first_count(model: torch.nn.Module) -> None:
    inferred_shapes.forget()
    costs.measure(model)


def main(names: list[str]) -> int:
    ratios, good = [], True
    print(f"{'backbone':30}{'GMACs':>9}{'known':>9}  exact {'fvcore ms':>10}{'first':>8}{'again':>8}")
    for name in names:
        model = timm.create_model(name).eval()
        batch = torch.zeros(1, *model.pretrained_cfg["input_size"])
        cost = costs.measure(model)
        reference = best_ms(lambda m=model, b=batch: stock(m, b), 3)
        first = best_ms(lambda m=model: first_count(m), 3) / reference
        again = best_ms(lambda m=model: costs.measure(m), 3) / reference
        known = GMACS.get(name, math.nan)
        good &= cost.exact and not abs(cost.macs / 1e9 - known) > max(0.0006, 0.0005 * known)
        ratios.append((first, again))
        figures = f"{cost.macs / 1e9:9.4f}{known:9.4f}  {cost.exact!s:5}"
        print(f"{name:30}{figures} {reference:10.0f}{first:8.2f}{again:8.2f}", flush=True)
    means = [math.exp(sum(map(math.log, column)) / len(column)) for column in zip(*ratios, strict=True)]
    print(f"{'geometric mean':66}{means[0]:9.2f}{means[1]:8.2f}   (aim: at most {AIM})")
    return 0 if good and max(means) <= AIM else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(GMACS)))
