#!/usr/bin/env -S .venv/bin/python
"""Training steps per second of each forecasting stem beside a public implementation of it, at the same shapes.

    scripts/bench_stems [NAME...] [--rounds 15] [--steps 2] [--threads 1] [--device cuda] [--batch 32] [--lookback 96]
                        [--horizon 96] [--series 7] [--json]

A step is forward, mean squared error, backward and AdamW. The ratio is (peer's time) / (our time): above 1 we are
faster. Ours and the peer take turns in random order; the ratio is the median of the rounds' ratios, with its 95 %
bootstrap interval. On a CPU the times are processor time, so that a busy machine counts little. The widths are our
defaults, the peer's are set to them (bench_stem_peers.py).

The peers live in an environment of their own, build/bench-stems, which the first call makes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / "build" / "bench-stems"
PYTHON = ENVIRONMENT / "bin" / "python"


def environment() -> None:
    """Make the environment of the peers, and go on inside it."""
    if Path(sys.prefix).resolve() == ENVIRONMENT:
        return
    parts = [ROOT / "constraints.txt", ROOT / "pyproject.toml", ROOT / "scripts" / "bench_stem_peers.py"]
    want = str(zlib.crc32(b"".join(part.read_bytes() for part in parts)))
    stamp = ENVIRONMENT / "stamp"
    if not stamp.is_file() or stamp.read_text() != want:
        from bench_stem_peers import ALONE, NEEDS

        print(f"making {ENVIRONMENT.relative_to(ROOT)} (once)", file=sys.stderr)
        uv = str(ROOT / ".venv" / "bin" / "uv")
        install = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)], check=True)
        pinned = ["--constraint", str(ROOT / "constraints.txt"), "--editable", str(ROOT)]
        subprocess.run([*install, *pinned, *NEEDS], check=True)
        subprocess.run([*install, "--no-deps", *ALONE], check=True)
        stamp.write_text(want)
    os.execv(PYTHON, [str(PYTHON), *sys.argv])


def compare(ours, theirs, shape, rounds: int, steps: int, device: str) -> dict:
    """Return the medians of both, and the ratio with its interval."""
    import torch

    from nasbench.measurement.latency.intervals import median_interval

    x = torch.randn(shape.batch, shape.lookback, shape.series, device=device)
    y = torch.randn(shape.batch, shape.horizon, shape.series, device=device)
    pair = [("ours", ours), ("theirs", theirs)]
    runs = {}
    for name, model in pair:
        model.to(device).train()
        assert model(x).shape == y.shape, (name, model(x).shape)
        runs[name] = (model, torch.optim.AdamW(model.parameters(), 1e-3))

    def seconds(name: str) -> float:
        model, optimiser = runs[name]
        if device != "cpu":
            torch.cuda.synchronize()
        clock = time.process_time if device == "cpu" else time.perf_counter
        begun = clock()
        for _ in range(steps):
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimiser.step()
        if device != "cpu":
            torch.cuda.synchronize()
        return (clock() - begun) / steps

    order = ["ours", "theirs"]
    for name in order * 2:
        seconds(name)
    took: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            took[name].append(seconds(name))
    ratios = [b / a for a, b in zip(took["ours"], took["theirs"], strict=True)]
    speed = {name: 1 / median_interval(values, 0.95)[0] for name, values in took.items()}
    params = {name: sum(p.numel() for p in model.parameters()) for name, (model, _) in runs.items()}
    return {"steps_per_s": speed, "params": params, "ratio": median_interval(ratios, 0.95)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="training steps a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    for name, default in (("batch", 32), ("lookback", 96), ("horizon", 96), ("series", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    environment()

    import logging

    import torch
    from bench_stem_peers import PEERS, Shape

    from nasbench.backbones.stem_registry import STEMS, load_stems

    warnings.simplefilter("ignore")
    for noisy in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    torch.set_num_threads(given.threads)
    random.seed(0)
    load_stems()
    unknown = set(given.names) - set(STEMS)
    if unknown:
        parser.error(f"no stem {', '.join(sorted(unknown))}; there are {', '.join(sorted(STEMS))}")
    asked = Shape(given.batch, given.lookback, given.horizon, given.series)
    rows, bare = [], []
    if not given.json:
        print(f"{asked}, {given.threads} thread(s), {given.device}; training steps per second")
        print(f"{'stem':12}{'ours':>9}{'peer':>9}   ratio [95 %]             params ours / peer   peer")
    for name in sorted(given.names or STEMS):
        if name not in PEERS:
            bare.append(name)
        for peer in PEERS.get(name, ()):
            shape = replace(asked, series=peer.series or asked.series)
            torch.manual_seed(0)
            ours = STEMS.get(name)(lookback=shape.lookback, horizon=shape.horizon, series=shape.series, **peer.ours)
            found = compare(ours, peer.build(shape), shape, given.rounds, given.steps, given.device)
            rows.append({"stem": name, "peer": peer.label, "series": shape.series, **found})
            if not given.json:
                speed, params, (middle, low, high) = found["steps_per_s"], found["params"], found["ratio"]
                print(
                    f"{name:12}{speed['ours']:9.2f}{speed['theirs']:9.2f}   {middle:5.2f} [{low:5.2f}, {high:5.2f}]"
                    f"  {params['ours']:12,} / {params['theirs']:,}   {peer.label}",
                    flush=True,
                )
    if given.json:
        print(
            json.dumps({"shape": vars(asked), "threads": given.threads, "rows": rows, "without_peer": bare}, indent=1)
        )
    elif bare:
        print(f"no public implementation on PyPI to compare with: {', '.join(bare)}")
    return 0 if all(row["ratio"][2] >= 1 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
