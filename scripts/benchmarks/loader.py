"""Compare the rate at which images are loaded from their files with that of timm's own loader.

    .venv/bin/python scripts/benchmarks/loader.py [--images 2000] [--side 96] [--size 64] [--workers 2] [--rounds 7]

A folder of JPEG images is written. Each round loads all of them once with timm (`create_dataset` and `create_loader`
with its prefetcher, `no_aug`, the same workers) and once with a nasbench task whose images are not kept in memory, in
random order. Both scale to the same size, shuffle, normalise on the device and start their workers anew. A ratio is
nasbench's images per second over timm's in the same round: by the clock, and by the processor time of all processes,
which a busy machine changes little.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data import create_dataset, create_loader

from nasbench.tasks import create_task, images
from scripts.benchmarks.paired import command_line, interval_text, ratio_interval


def write_images(folder: Path, count: int, side: int) -> None:
    """Write `train` and `val` with two classes of smooth noise, whose files are as large as those of photographs."""
    draw = np.random.default_rng(0)
    for i in range(count + 8):
        place = folder / ("train" if i < count else "val") / str(i % 2)
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(place / f"{i}.jpg", quality=90)


def rates_of(batches: Iterable[tuple[torch.Tensor, torch.Tensor]], device: str) -> tuple[float, float]:
    """Load all batches. Return the images per second by the clock, and per second of processor time."""
    begun, used = time.perf_counter(), sum(os.times()[:4])
    count = sum(len(x) for x, _ in batches)
    if device == "cuda":
        torch.cuda.synchronize()
    # The time of the workers is known because the loader has waited for their ends.
    return count / (time.perf_counter() - begun), count / (sum(os.times()[:4]) - used)


def main() -> None:
    """Print the rates and their ratios with intervals."""
    parser = command_line(__doc__)
    for name, default in (("images", 2000), ("side", 96), ("size", 64), ("workers", 2), ("rounds", 7), ("batch", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    images.MEMORY_LIMIT_BYTES = 0
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name), given.images, given.side)
        task = create_task(f"folder:{name}", size=given.size)
        task.workers = given.workers  # type: ignore[attr-defined]
        theirs = create_loader(
            create_dataset("", root=name, split="train", is_training=True), given.size, given.batch, is_training=True,
            no_aug=True, num_workers=given.workers, device=torch.device(given.device),
            pin_memory=given.device == "cuda", persistent_workers=False,
        )  # fmt: skip
        rates: dict[str, list[tuple[float, float]]] = {"timm": [], "nasbench": []}
        for number in range(given.rounds + 1):
            order = list(rates)
            random.shuffle(order)
            for one in order:
                ours = task.train_batches(given.batch, seed=0, epoch=number, device=given.device)
                speeds = rates_of(theirs if one == "timm" else ours, given.device)
                if number:  # the first round warms the file cache
                    rates[one].append(speeds)
    for column, what in enumerate(("by the clock", "by processor time")):
        ours_, theirs_ = ([speeds[column] for speeds in rates[one]] for one in ("nasbench", "timm"))
        middle = f"timm {statistics.median(theirs_):,.0f}, nasbench {statistics.median(ours_):,.0f} images/s"
        print(f"{what:<18} {middle}; ratio {interval_text(ratio_interval(ours_, theirs_))}")


if __name__ == "__main__":
    main()
