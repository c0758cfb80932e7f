"""Measure training steps per second of each forecasting stem beside a public implementation, at the same shapes.

    .venv/bin/python scripts/benchmarks/stems.py [NAME...] [--rounds 15] [--steps 2] [--threads 1] [--device cuda]
                                                 [--batch 32] [--lookback 96] [--horizon 96] [--series 7] [--json]

A step is forward, mean squared error, backward and AdamW. The ratio is (peer's time) / (our time). Above 1 we are
faster. Our stem and the peer take turns in random order. The ratio is the median of the rounds' ratios, with its 95 %
bootstrap interval. On a CPU the times are processor time, which a busy machine changes little. The widths are our
defaults, and the peer's widths are set to them (stem_peers.py).

The peers are installed in an environment of their own, build/bench-stems, which the first call makes. The exit code is
1 if the whole interval of a ratio lies under 1.
"""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import subprocess
import sys
import warnings
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.backbones.stem_registry import STEMS, load_stems
from scripts.benchmarks.paired import Table, command_line, interval_text, ratio_interval, times_side_by_side
from scripts.benchmarks.stem_peers import ALONE, NEEDS, PEERS, Shape

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "build" / "bench-stems"
PYTHON = ENVIRONMENT / "bin" / "python"


def enter_environment() -> None:
    """Make the environment of the peers, and start this program again inside it."""
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return
    parts = [ROOT / "constraints.txt", ROOT / "pyproject.toml", Path(__file__).with_name("stem_peers.py")]
    want = str(zlib.crc32(b"".join(part.read_bytes() for part in parts)))
    stamp = ENVIRONMENT / "stamp"
    if not stamp.is_file() or stamp.read_text() != want:
        print(f"making {ENVIRONMENT.relative_to(ROOT)} (once)", file=sys.stderr)
        uv = str(ROOT / ".venv" / "bin" / "uv")
        install = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)], check=True)
        pinned = ["--constraint", str(ROOT / "constraints.txt"), "--editable", str(ROOT)]
        subprocess.run([*install, *pinned, *NEEDS], check=True)
        subprocess.run([*install, "--no-deps", *ALONE], check=True)
        stamp.write_text(want)
    os.execv(PYTHON, [str(PYTHON), *sys.argv])


def train_step(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """Run one step of training."""
    optimiser.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    optimiser.step()


def compare(ours: nn.Module, theirs: nn.Module, shape: Shape, rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Return the steps per second and the parameters of both, and the ratio with its interval."""
    x = torch.randn(shape.batch, shape.lookback, shape.series, device=device)
    y = torch.randn(shape.batch, shape.horizon, shape.series, device=device)
    pair = {"ours": ours.to(device).train(), "theirs": theirs.to(device).train()}
    works = {}
    for name, model in pair.items():
        if (found := model(x).shape) != y.shape:
            raise AssertionError(f"{name} answers with shape {tuple(found)}, not {tuple(y.shape)}")
        works[name] = partial(train_step, model, torch.optim.AdamW(model.parameters(), 1e-3), x, y)
    times = times_side_by_side(works, rounds=rounds, device=device, repeats=steps)
    speed = {name: 1 / statistics.median(seconds) for name, seconds in times.items()}
    params = {name: sum(p.numel() for p in model.parameters()) for name, model in pair.items()}
    return {"steps_per_s": speed, "params": params, "ratio": ratio_interval(times["theirs"], times["ours"])}


def main() -> int:
    """Print the table, or JSON, and return the exit code."""
    parser = command_line(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="stems, all if none")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="training steps a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    for name, default in (("batch", 32), ("lookback", 96), ("horizon", 96), ("series", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    load_stems()
    unknown = set(given.names) - set(STEMS)
    if unknown:
        parser.error(f"no stem {', '.join(sorted(unknown))}, there are {', '.join(sorted(STEMS))}")
    enter_environment()
    warnings.simplefilter("ignore")
    for noisy in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    torch.set_num_threads(given.threads)
    random.seed(0)
    asked = Shape(given.batch, given.lookback, given.horizon, given.series)
    rows, bare = [], []
    table = Table(
        {
            "stem": "<12",
            "ours/s": ">8",
            "peer/s": ">8",
            "ratio [95 %]": ">18",
            "our params": ">11",
            "peer's": ">11",
            "peer": "",
        }
    )
    if not given.json:
        print(f"{asked}, {given.threads} thread(s), {given.device}, training steps per second")
        table.print_head()
    for name in sorted(given.names or STEMS):
        if name not in PEERS:
            bare.append(name)
        for peer in PEERS.get(name, ()):
            shape = replace(asked, series=peer.series or asked.series)
            torch.manual_seed(0)
            ours = STEMS.get(name)(lookback=shape.lookback, horizon=shape.horizon, series=shape.series, **peer.ours)
            row = compare(ours, peer.build(shape), shape, given.rounds, given.steps, given.device)
            rows.append({"stem": name, "peer": peer.label, "series": shape.series, **row})
            if not given.json:
                speeds = [f"{speed:.2f}" for speed in row["steps_per_s"].values()]
                params = [f"{count:,}" for count in row["params"].values()]
                table.print_row(name, *speeds, interval_text(row["ratio"]), *params, peer.label)
    if given.json:
        found = {"shape": vars(asked), "threads": given.threads, "rows": rows, "without_peer": bare}
        print(json.dumps(found, indent=1))
    elif bare:
        print(f"no public implementation on PyPI to compare with: {', '.join(bare)}")
    return 0 if all(row["ratio"][2] >= 1 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
