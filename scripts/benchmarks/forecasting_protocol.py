"""Train bare forecasting stems on a CSV of the ETT kind and print their test errors over seeds.

    .venv/bin/python scripts/benchmarks/forecasting_protocol.py ETTh1.csv --stem dlinear --stem "patchtst(width=16)"
                                                                [--seeds 3] [--set epochs=10] [--out FILE.csv]

Each stem is trained with the task's own recipe (early stopping on the validation span) and tested on every window of
the test span. MSE and MAE are on data scaled by the training span, as published figures are. The ratio is the MSE over
that of the better naive forecast on the same windows, with its 95 % interval over the seeds. Under 1 the stem is
better.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pandas as pd
import torch

from nasbench.backbones.stem_registry import STEMS, load_stems
from nasbench.tasks import create_task, naive_baselines
from nasbench.tasks.forecasting import ForecastingTask
from nasbench.tasks.recipe import Recipe
from nasbench.training.loop import evaluate, train
from scripts.benchmarks.paired import command_line, interval_text, ratio_interval


def parse_stem(text: str) -> tuple[str, dict[str, int | float]]:
    """Split "patchtst(width=16, dropout=0.3)" into name and keywords."""
    found = re.fullmatch(r"(\w+)(?:\((.*)\))?", text)
    if found is None:
        raise SystemExit(f"{text!r}: write a stem as patchtst or patchtst(width=16)")
    pairs = [pair.split("=") for pair in (found[2] or "").split(",") if pair.strip()]
    return found[1], {key.strip(): float(value) if "." in value else int(value) for key, value in pairs}


def tested(text: str, task: ForecastingTask, recipe: Recipe, seed: int) -> dict[str, str | float]:
    """Train a stem under one seed and return its row: epochs, errors and seconds."""
    name, options = parse_stem(text)
    torch.manual_seed(seed)
    model = STEMS.get(name)(task.lookback, task.horizon, len(task.series), **options)
    begun = time.perf_counter()
    result = train(model, task, recipe, seed=seed)
    metrics, _ = evaluate(model, task, "test")
    return {
        "stem": text, "seed": seed, "epochs": result.epochs, "val_mse": result.metrics["mse"], "mse": metrics["mse"],
        "mae": metrics["mae"], "seconds": time.perf_counter() - begun,
    }  # fmt: skip


def main() -> None:
    """Train, test, print."""
    parser = command_line(__doc__)
    parser.add_argument("data", type=Path, help="a CSV with a date column")
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
    assert isinstance(task, ForecastingTask)
    recipe = task.recipe.with_text(*given.set)
    print(f"{task.splits}, {recipe}")
    naive = naive_baselines(task, "test")
    for name, row in naive.items():
        print(f"{name:>24}  mse {row['mse']:.4f}  mae {row['mae']:.4f}", flush=True)
    to_beat = min(row["mse"] for row in naive.values())
    load_stems()
    for text in given.stem:
        rows = []
        for seed in range(given.seeds):
            rows.append(tested(text, task, recipe, seed))
            told = "  ".join(f"{key} {value:.4g}" for key, value in rows[-1].items() if isinstance(value, (int, float)))
            print(f"{text:>24}  {told}", flush=True)
        table = pd.DataFrame(rows)
        mean, spread = table[["mse", "mae"]].mean(), table[["mse", "mae"]].std()
        errors = f"mse {mean.mse:.4f} ± {spread.mse:.4f}  mae {mean.mae:.4f} ± {spread.mae:.4f}"
        ratio = interval_text(ratio_interval(list(table["mse"]), [to_beat] * len(table)))
        print(f"{text:>24}  {errors}  mse / naive {ratio}", flush=True)
        if given.out:
            table.to_csv(given.out, mode="a", header=not given.out.exists(), index=False)


if __name__ == "__main__":
    main()
