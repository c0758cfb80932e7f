"""Measure what each pretext teaches a host on embedded data: kNN accuracy of its features before and after training.

    .venv/bin/python scripts/benchmarks/pretexts.py [NAME...] [--seeds 3] [--size 32] [--out build/pretexts.jsonl]
                                                    [--backbone HOST] [--learn "dino(local=4)"] [--set epochs=20]

Each row has the validation accuracies of weighted kNN as mean ± standard deviation over the seeds, the smallest gain of
a seed in points, and "learns" if the mean gain is at least 5 points. Images are `digits`, series are `digits-rows`. A
training runs with the recipe that a search would use. Each training is a line of the file, and is not repeated. The
last two options measure another recipe or other hyper-parameters.

`comet with groups` gets the patient of each item: parts of 138 items in a row, because the data set names no writers,
but has the digits of 13 of them one after the other.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasbench.library.plan import Plan
from nasbench.library.pretexts import check_learn, spec_of
from nasbench.runs.models import ModelBuilder
from nasbench.tasks import Task, create_task
from nasbench.tasks.groups import Groups
from nasbench.tasks.series_classification import SeriesClassificationTask, digit_rows
from nasbench.training.loop import evaluate, train
from nasbench.training.pretexts import PretextTask
from scripts.benchmarks.paired import Table, command_line

WITH_GROUPS = "comet with groups"
HOSTS = {
    "simclr": ("test_resnet",),
    "moco": ("test_resnet",),
    "byol": ("test_resnet",),
    "simsiam": ("test_resnet",),
    "dino": ("test_resnet",),
    "instance_discrimination": ("test_resnet",),
    "denoise": ("test_resnet",),
    "mae": ("test_vit",),
    "semi_supervised": ("test_resnet", "ts2vec"),
    "ts2vec": ("ts2vec",),
    "timesurl": ("ts2vec",),
    "comet": ("ts2vec",),
    WITH_GROUPS: ("ts2vec",),
    "wav2vec2": ("ts2vec",),
    "cpc": ("ts2vec",),
    "tfc": ("ts2vec", "inception_time"),
    "masked": ("patchtst",),
}
SERIES = ("ts2vec", "inception_time", "resnet1d", "patchtst", "informer", "pyraformer")
ENOUGH = 0.05
WRITER = 138  # items of a writer, 1,797 / 13


def rows_with_groups() -> Task:
    """Return `digits-rows` with a group for each 138 items in a row."""
    items = digit_rows()
    groups = Groups((np.arange(len(items.labels)) // WRITER)[:, None], ("patient",))
    return SeriesClassificationTask("digits-rows", items, groups=groups, recipe=create_task("digits-rows").recipe)


def task_of(name: str, learn: str, host: str, size: int) -> PretextTask:
    """Return the data of a row, as its pretext sees it."""
    if name == WITH_GROUPS:
        data = rows_with_groups()
    else:
        data = create_task("digits-rows") if host in SERIES else create_task("digits", size=size)
    return PretextTask(data, learn)


def measure(task: PretextTask, host: str, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """Return the kNN accuracy before and after a training, and the other metrics after it."""
    recipe = task.recipe.with_text("validate_every=0", *settings)
    builder = ModelBuilder(host, task.input_size, task.model_kwargs, learn=task.learn)
    model = builder.build(Plan.of(None), seed)
    before, _ = evaluate(model, task, "val", "cpu", batch_size=64)
    begun = time.process_time()
    result = train(model, task, recipe, seed=seed)
    return {
        "before": before["knn_accuracy"],
        "after": result.metrics["knn_accuracy"],
        "cpu_s": time.process_time() - begun,
        "epochs": result.epochs,
        "train_loss": [result.history[0]["train_loss"], result.history[-1]["train_loss"]],
        **{name: result.metrics.get(name) for name in ("probe_accuracy", "feature_spread", "rank_me")},
    }


def spread_text(values: Sequence[float]) -> str:
    """Return ".830±.012"."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.3f}±{deviation:.3f}".replace("0.", ".")


def cells_of(key: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the cells of a row."""
    before, after = ([each[name] for each in found] for name in ("before", "after"))
    gains = [b - a for a, b in zip(before, after, strict=True)]
    ranks = [each["rank_me"] for each in found]
    return [
        key["name"] if key["learn"] in key["name"] else key["learn"],
        key["host"],
        str(found[0]["epochs"]),
        spread_text(before),
        spread_text(after),
        f"{100 * statistics.fmean(gains):+.1f}",
        f"{100 * min(gains):+.1f}",
        f"{statistics.fmean(ranks):.1f}",
        f"{statistics.fmean(each['cpu_s'] for each in found):.0f}",
        "learns" if statistics.fmean(gains) >= ENOUGH else "does not learn",
    ]


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="pretexts (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each")
    parser.add_argument("--size", type=int, default=32, help="height and width of images")
    parser.add_argument("--backbone", help="one host for all, in place of those of the table")
    parser.add_argument("--learn", help="hyper-parameters of the one pretext named")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a setting of the recipe")
    parser.add_argument("--out", type=Path, default=Path("build/pretexts.jsonl"), help="file of all trainings")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    known = {json.dumps(line["key"]): line["found"] for line in lines}
    table = Table({
        "pretext": "<24", "host": "<15", "epochs": ">6", "untrained": ">10", "trained": ">10", "gain": ">6",
        "least": ">6", "rank": ">6", "CPU s": ">6", "": "<15",
    })  # fmt: skip
    table.print_head()
    for name in options.names or HOSTS:
        learn = check_learn(options.learn or name.split()[0])
        spec = spec_of(learn)
        for host in (options.backbone,) if options.backbone else HOSTS.get(name, HOSTS[spec.name]):
            task = task_of(name, learn, host, options.size)
            found = []
            for seed in range(options.seeds):
                key = {
                    "name": name, "learn": learn, "host": host, "size": task.input_size, "seed": seed,
                    "recipe": task.recipe.with_text(*options.settings).model_dump(mode="json"),
                }  # fmt: skip
                text = json.dumps(key)
                if text not in known:
                    known[text] = measure(task, host, seed, options.settings)
                    with options.out.open("a") as file:
                        file.write(json.dumps({"key": key, "found": known[text]}) + "\n")
                found.append(known[text])
            table.print_row(*cells_of(key, found))


if __name__ == "__main__":
    main()
