#!/usr/bin/env python
"""Train bare forecasting stems on a CSV of the ETT kind and print their test errors over seeds.

    scripts/check_forecasting ETTh1.csv --stem dlinear --stem "patchtst(width=16)" --seeds 3 --set epochs=10

Each stem is trained with the task's own recipe (early stopping on the validation span) and tested on every window of
the test span; MSE and MAE are on data scaled by the training span, as published figures are.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import pandas as pd
import torch

from nasbench.backbones.stem_registry import STEMS, load_stems
from nasbench.tasks import create_task, naive_baselines
from nasbench.training.loop import evaluate, train


def stem_of(text: str) -> tuple[str, dict[str, int | float]]:
    """Split "patchtst(width=16, dropout=0.3)" into name and keywords."""
    found = re.fullmatch(r"(\w+)(?:\((.*)\))?", text)
    if found is None:
        raise SystemExit(f"{text!r}: write a stem as patchtst or patchtst(width=16)")
    pairs = [pair.split("=") for pair in (found[2] or "").split(",") if pair.strip()]
    return found[1], {key.strip(): float(value) if "." in value else int(value) for key, value in pairs}


def main() -> None:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--stem", action="append", required=True)
    parser.add_argument("--lookback", type=int, default=96)
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a training setting")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="append one row a run to this CSV file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    task = create_task(f"ett:{given.data}", lookback=given.lookback, horizon=given.horizon, seed=0)
    recipe = task.recipe.with_text(*given.set)
    print(f"{task.splits}, {recipe}")
    for name, row in naive_baselines(task, "test").items():
        print(f"{name:>24}  mse {row['mse']:.4f}  mae {row['mae']:.4f}", flush=True)
    load_stems()
    for text in given.stem:
        name, options = stem_of(text)
        rows = []
        for seed in range(given.seeds):
            torch.manual_seed(seed)
            model = STEMS.get(name)(given.lookback, given.horizon, len(task.series), **options)
            begun = time.perf_counter()
            result = train(model, task, recipe, seed=seed)
            metrics, _ = evaluate(model, task, "test")
            rows.append({"stem": text, "seed": seed, "epochs": result.epochs, "val_mse": result.metrics["mse"]})
            rows[-1] |= {"mse": metrics["mse"], "mae": metrics["mae"], "seconds": time.perf_counter() - begun}
            print(f"{text:>24}  " + "  ".join(f"{k} {v:.4g}" for k, v in rows[-1].items() if k != "stem"), flush=True)
        table = pd.DataFrame(rows)
        mean, spread = table[["mse", "mae"]].mean(), table[["mse", "mae"]].std()
        print(f"{text:>24}  mse {mean.mse:.4f} ± {spread.mse:.4f}  mae {mean.mae:.4f} ± {spread.mae:.4f}", flush=True)
        if given.out:
            table.to_csv(given.out, mode="a", header=not given.out.exists(), index=False)


if __name__ == "__main__":
    main()
