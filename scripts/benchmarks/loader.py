"""Compare the rate at which images are loaded from their files with that of timm's own loader.

    .venv/bin/python scripts/benchmarks/loader.py [--images 2000] [--side 96] [--size 64] [--workers 2] [--rounds 7]

A folder of JPEG images is written. Each round loads all of them once with timm (`create_dataset` and `create_loader`
with its prefetcher, `no_aug`, the same workers) and once with a nasbench task whose images are not kept in memory, in
random order. Both scale to the same size, shuffle, and normalise on the device. The ratio is nasbench's images a second
over timm's in the same round, of wall-clock time from the second batch on, so that the start of the workers is not
counted. It is printed separately: timm keeps its workers from epoch to epoch, and we start ours anew.
"""

from __future__ import annotations

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


def rate(batches: Iterable[tuple[torch.Tensor, torch.Tensor]], device: str) -> tuple[float, float]:
    """Return the images per second from the second batch on, and the seconds until the first batch."""
    begun, first, count = time.perf_counter(), 0.0, 0
    for x, _ in batches:
        if not first:
            first = time.perf_counter()
        else:
            count += len(x)
    if device == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - first), first - begun


def main() -> None:
    """Print both rates, their ratio with its interval, and the time to the first batch."""
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
            pin_memory=given.device == "cuda",
        )  # fmt: skip
        rates: dict[str, list[float]] = {"timm": [], "nasbench": []}
        starts: dict[str, list[float]] = {"timm": [], "nasbench": []}
        for number in range(given.rounds + 1):
            order = list(rates)
            random.shuffle(order)
            for one in order:
                ours = task.train_batches(given.batch, seed=0, epoch=number, device=given.device)
                speed, start = rate(theirs if one == "timm" else ours, given.device)
                if number:  # the first round warms the file cache
                    rates[one].append(speed)
                    starts[one].append(start)
    for one, values in rates.items():
        first_s = statistics.median(starts[one])
        print(f"{one:<9} {statistics.median(values):>8,.0f} images/s, first batch after {first_s:.3f} s")
    print(f"nasbench/timm {interval_text(ratio_interval(rates['nasbench'], rates['timm']))} on {given.device}")


if __name__ == "__main__":
    main()
