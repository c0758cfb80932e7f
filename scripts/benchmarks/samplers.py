"""Compare all samplers on tabulated spaces: hypervolume of the front against the number of distinct evaluations.

    .venv/bin/python scripts/benchmarks/samplers.py [TABLE.parquet ...] [--seeds 10] [--trials 100]
                                                    [--samplers auto,random] [--resample] [--jobs 1] [--out FOLDER]
    .venv/bin/python scripts/benchmarks/samplers.py --speed [--rounds 20]

Without a table the script makes three, of 2,401 plans each. Their metric is a sum over the slots, the same with
interactions of every pair of modules, and the sum with noise of half its spread. Each sampler runs as in a search, with
the first plans that all samplers share. Evaluations are replayed from the table.

Hypervolume is relative to that of the true front. The metric and the log of the costs are scaled to the table's range,
and the reference point is the worst corner of it. `auto` is compared with each other sampler on the same seeds: in how
many seeds it is better, and how many times as many evaluations the other needs. The script prints a table, and writes
samplers.csv and one PNG for each table.

A single table has a single lucky plan, which a sampler meets early or late. In a space that it can list, `auto` takes
nearly the same path under every seed. Its quartiles on one table then say nothing about tables in general. With
`--resample`, each seed gets a table made from the given one: the effect of each module in each slot, by ridge
regression, plus the residuals in another order.

`--speed` times proposals instead, after 200 evaluations in a space of more than 10^9 plans, beside Optuna's TPE in the
same study.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import moocore
import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution

import nasbench as nb
from nasbench.backbones.slot_cache import RecordedSlot
from nasbench.evidence.pareto import minimised
from nasbench.library.plan import Plan
from nasbench.runs.settings import SAMPLERS
from nasbench.runs.tabulated import Table, TableInfo, read_table, write_table
from nasbench.spaces import Space
from nasbench.study.samplers import Knowledge, make_sampler
from scripts.benchmarks import paired

VARIANTS = ("se", "eca", "dual_pool", "cbam", "coord_attention", "triplet_attention")
SLOTS = tuple(RecordedSlot(name=f"stage{k}", channels=2 ** (k + 4), size=(8, 8), layout="NCHW") for k in (1, 2, 3, 4))
MARKS = (25, 50, 100)
SHARE = 0.95


# -- tables of our own -------------------------------------------------------------------------------------------------


def synthetic(folder: Path, kind: str, seed: int = 0) -> Path:
    """Write a table whose metric is a sum over the slots, with interactions or noise. Equal seeds give equal tables."""
    written = {"name": kind, "variants": list(VARIANTS), "slots": ["stage*"]}
    space = Space.from_dict(written).resolve(SLOTS)
    rng = np.random.default_rng(seed)
    shared = dict(zip(VARIANTS, rng.normal(size=len(VARIANTS)), strict=True))
    places = list(itertools.product([slot.name for slot in SLOTS], VARIANTS))
    gain = {(s, v): 0.3 + 0.5 * shared[v] + 0.7 * rng.normal() for s, v in places}
    cost = {(s, v): float(np.exp(rng.normal())) * 2 ** int(s[-1]) for s, v in places}
    pair = {both: 0.5 * rng.normal() for both in itertools.combinations(places, 2)} if kind == "interactions" else {}
    rows = []
    for plan in space:
        held = [(slot, expression.canonical()) for slot, expression in plan.items()]
        total = sum(gain[at] for at in held) + sum(pair.get(both, 0.0) for both in itertools.combinations(held, 2))
        rows.append((plan.text, plan.hash, total, 40 + sum(cost[at] for at in held)))
    frame = pd.DataFrame(rows, columns=["plan", "plan_hash", "total", "macs"])
    noise = 0.5 * frame["total"].std() * rng.normal(size=len(frame)) if kind == "noise" else 0.0
    frame["accuracy"] = 1 / (1 + np.exp(-(frame["total"] + noise) / 3))
    frame = frame.assign(seed=0, state="complete", reason="", fidelity=0, wall_s=0.0)
    info = TableInfo(
        backbone="synthetic", task=kind, space=written, slots=SLOTS, metrics={"accuracy": "maximize"},
        metric="accuracy", costs=("macs",), seeds=(0,),
    )  # fmt: skip
    return Path(write_table(folder / f"{kind}.parquet", frame, info).name)


def resampled(file: str, seed: int, folder: Path) -> str:
    """Write a table with the effects of another one and its residuals in another order. Return the file."""
    table = read_table(file)
    rows = table.frame[(table.frame["state"] == "complete") & (table.frame["seed"] == table.info.seeds[0])]
    held = [{(slot, part.canonical()) for slot, part in nb.Plan.of(text).items()} for text in rows["plan"]]
    places = sorted(set().union(*held))
    design = np.array([[float(place in each) for place in places] for each in held])
    design -= design.mean(axis=0)
    metric = table.info.metric
    values = rows[metric].to_numpy(dtype=float)
    centred = values - values.mean()
    effects = values.mean() + design @ np.linalg.solve(design.T @ design + np.eye(len(places)), design.T @ centred)
    if seed == 0:
        print(f"{file}: the effects explain {1 - (values - effects).var() / values.var():.0%} of the metric's variance")
    drawn = effects + np.random.default_rng(seed).permutation(values - effects)
    info = table.info.model_copy(update={"seeds": table.info.seeds[:1]})
    target = folder / "resampled" / str(seed) / Path(file).name
    target.parent.mkdir(parents=True, exist_ok=True)
    write_table(target, rows.assign(**{str(metric): drawn}), info)
    return str(target)


# -- one search --------------------------------------------------------------------------------------------------------


class Truth:
    """The true front of a table under one of its seeds, and the share of its hypervolume that some plans reach."""

    def __init__(self, table: Table, directions: dict[str, str], seed: int) -> None:
        frame = table.frame[(table.frame["state"] == "complete")]
        self.frame = frame[frame["seed"] == table.info.seeds[seed % len(table.info.seeds)]]
        self.directions, self.costs = directions, set(table.info.costs)
        points = self.points(self.frame)
        self.low, self.span = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-12)
        self.volume = self.volume_of(points)

    def points(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the objectives, turned so that less is better, with costs on a log scale."""
        values = frame[list(self.directions)].to_numpy(dtype=float).copy()
        for column, name in enumerate(self.directions):
            if name in self.costs and (values[:, column] > 0).all():
                values[:, column] = np.log(values[:, column])
        return minimised(values, list(self.directions.values()))

    def volume_of(self, points: np.ndarray) -> float:
        """Return the hypervolume of points, with the table's range scaled to 1."""
        return float(moocore.hypervolume((points - self.low) / self.span, ref=np.ones(points.shape[1])))

    def curve(self, rows: pd.DataFrame) -> list[float]:
        """Return the share of the true hypervolume after each evaluation."""
        done = (rows["state"] == "complete").to_numpy()
        points = self.points(rows[done])
        counts = np.cumsum(done)
        return [self.volume_of(points[:n]) / self.volume if n else 0.0 for n in counts]


def search(file: str, sampler: str, seed: int, trials: int) -> dict[str, Any]:
    """Search a table once. Return the curve, and the seconds that proposals took, repeats included."""
    warnings.simplefilter("ignore")
    table = read_table(file)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        run = nb.search(
            task=f"table:{file}", sampler=sampler, seed=seed, trials=trials, seeds=1, report=False, out=folder
        )
        spent = time.process_time() - begun
        rows = run.trials().head(trials)
    curve = Truth(table, run.directions, seed).curve(rows)
    return {"table": table.info.task if table.info.backbone == "synthetic" else Path(file).stem, "sampler": sampler,
            "seed": seed, "curve": curve, "seconds": spent / len(rows)}  # fmt: skip


# -- what is shown -----------------------------------------------------------------------------------------------------


def long_frame(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each table, sampler, seed and evaluation."""
    rows = [
        (r["table"], r["sampler"], r["seed"], n, share, r["seconds"])
        for r in results
        for n, share in enumerate(r["curve"], 1)
    ]
    return pd.DataFrame(rows, columns=["table", "sampler", "seed", "evaluations", "hypervolume", "seconds"])


def needed(curve: list[float], trials: int) -> float:
    """Return the evaluations to `SHARE` of the true hypervolume. If not reached, one more than were made."""
    return next((n for n, share in enumerate(curve, 1) if share >= SHARE), trials + 1)


def quartiles(values: list[float], digits: int = 3) -> str:
    """Return "0.950 [0.931, 0.967]": the median and the quartiles."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def show(name: str, results: list[dict[str, Any]], trials: int) -> None:
    """Print the hypervolume of each sampler at each mark, and the comparison of `auto` with the others."""
    marks = [mark for mark in MARKS if mark <= trials]
    print(f"\n{name}: share of the true hypervolume after distinct evaluations, median [quartiles] of the seeds")
    heads = {f"at {mark}": ">22" for mark in marks}
    table = paired.Table({"sampler": "<8", **heads, "to 95 %": ">26", "s/evaluation": ">13"})
    table.print_head()
    for sampler in dict.fromkeys(r["sampler"] for r in results):
        mine = [r for r in results if r["sampler"] == sampler]
        at = [quartiles([r["curve"][min(m, len(r["curve"])) - 1] for r in mine]) for m in marks]
        to = [needed(r["curve"], trials) for r in mine]
        reached = f"{quartiles(to, 0)}" + (f" ({sum(t > trials for t in to)} not)" if max(to) > trials else "")
        seconds = statistics.median(r["seconds"] for r in mine)
        table.print_row(sampler, *at, reached, f"{seconds:.3f}")
    compare(results, marks, trials)


def compare(results: list[dict[str, Any]], marks: list[int], trials: int) -> None:
    """Print how `auto` compares with each other sampler, on paired seeds."""
    by = {(r["sampler"], r["seed"]): r["curve"] for r in results}
    samplers = dict.fromkeys(r["sampler"] for r in results)
    if "auto" not in samplers:
        return
    seeds = sorted({r["seed"] for r in results})
    for other in samplers:
        if other == "auto":
            continue
        both = [(by["auto", s], by[other, s]) for s in seeds if ("auto", s) in by and (other, s) in by]
        gaps = []
        for mark in marks:
            pairs = [(a[min(mark, len(a)) - 1], b[min(mark, len(b)) - 1]) for a, b in both]
            better, worse = sum(a > b + 1e-12 for a, b in pairs), sum(b > a + 1e-12 for a, b in pairs)
            gap = statistics.median(a - b for a, b in pairs)
            gaps.append(f"at {mark}: better {better}, worse {worse}, median {gap:+.3f}")
        mine, theirs = (statistics.median(needed(c[i], trials) for c in both) for i in (0, 1))
        times = f"{'>' if theirs > trials else ''}{theirs / mine:.1f} times as many to 95 %"
        print(f"  auto against {other:7s} {'; '.join(gaps)}; {other} needs {times}")


def draw(name: str, frame: pd.DataFrame, file: Path) -> None:
    """Draw the median hypervolume of each sampler with its quartiles."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for sampler, rows in frame.groupby("sampler", sort=False):
        bands = rows.groupby("evaluations")["hypervolume"].quantile(np.array([0.25, 0.5, 0.75])).unstack()
        (line,) = axes.plot(bands.index, bands[0.5], label=sampler)
        axes.fill_between(bands.index, bands[0.25], bands[0.75], color=line.get_color(), alpha=0.15)
    axes.axhline(SHARE, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="distinct evaluations", ylabel="share of the true hypervolume", title=name)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    plt.close(figure)


# -- speed -------------------------------------------------------------------------------------------------------------


def speed(rounds: int) -> None:
    """Print the time of a proposal after 200 evaluations, in a space of more than 10^9 plans, on one thread."""
    written = {"variants": [{"dims": 2, "max_cost_order": 1}], "compositions": ["none", "a", "a >> b", "gate(a, b)"],
               "slots": ["stage*"]}  # fmt: skip
    space = Space.from_dict(written).resolve(SLOTS)

    def evaluate(plan: Plan) -> tuple[float, float]:
        draw = random.Random(str(plan))
        return draw.random(), 1e6 + 1e4 * len(str(plan)) * draw.random()

    knowledge = Knowledge(
        space, {"accuracy": "maximize", "macs": "minimize"}, known=lambda plan: {"macs": evaluate(plan)[1]}
    )
    distributions: dict[str, BaseDistribution] = {k: CategoricalDistribution(v) for k, v in space.parameters.items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "minimize"])
    rng = random.Random(0)
    while len(study.get_trials(deepcopy=False)) < 200:
        plan = space.sample(rng)
        study.add_trial(
            optuna.trial.create_trial(params=space.params(plan), distributions=distributions, values=evaluate(plan))
        )

    def propose(sampler: optuna.samplers.BaseSampler) -> tuple[float, float]:
        """Ask for one plan, evaluate it, and return the wall and CPU seconds of the asking."""
        study.sampler = sampler
        begun = time.perf_counter(), time.process_time()
        trial = study.ask(distributions)
        took = time.perf_counter() - begun[0], time.process_time() - begun[1]
        study.tell(trial.number, evaluate(knowledge.plan(trial.params)))
        return took

    times: dict[str, list[tuple[float, float]]] = {"auto": [], "Optuna's TPE": []}
    tpe = optuna.samplers.TPESampler(seed=0)
    for _ in range(rounds + 1):
        number = len(study.get_trials(deepcopy=False))
        times["auto"].append(propose(make_sampler("auto", seed=0, number=number, knowledge=knowledge)))
        times["Optuna's TPE"].append(propose(tpe))
    print(f"{space.count:.1e} plans, {rounds} proposals of each at 200 evaluations and more, medians")
    table = paired.Table({"sampler": "<12", "s": ">8", "s of CPU": ">9", "CPU / TPE's [95 %]": ">22"})
    table.print_head()
    cpu = {name: [both[1] for both in column[1:]] for name, column in times.items()}  # the first one warms up
    for name, column in times.items():
        wall = statistics.median(both[0] for both in column[1:])
        ratio = paired.interval_text(paired.ratio_interval(cpu[name], cpu["Optuna's TPE"]))
        table.print_row(name, f"{wall:.3f}", f"{statistics.median(cpu[name]):.3f}", ratio)


def compare_on(file: str, given: argparse.Namespace) -> pd.DataFrame:
    """Search a table with every sampler and seed, print and draw the results, and return the curves."""
    seeds = range(given.seeds)
    of_seed = [resampled(file, seed, given.out) if given.resample else file for seed in seeds]
    asked = [(of_seed[seed], s, seed, given.trials) for s in given.samplers.split(",") for seed in seeds]
    if given.jobs > 1:
        with ProcessPoolExecutor(given.jobs) as pool:
            results = list(pool.map(search, *zip(*asked, strict=True)))
    else:
        results = [search(*one) for one in asked]
    name = results[0]["table"]
    show(name, results, given.trials)
    frame = long_frame(results)
    draw(name, frame, given.out / f"{name}.png")
    return frame


def main() -> None:
    """Compare on each table, or time proposals."""
    parser = paired.command_line(__doc__)
    parser.add_argument("tables", nargs="*", help="files that `nasbench tabulate` wrote")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--jobs", type=int, default=1, help="searches at once, a process each")
    parser.add_argument("--out", type=Path, default=Path("runs/samplers"))
    parser.add_argument("--resample", action="store_true", help="another table for each seed")
    parser.add_argument("--speed", action="store_true", help="time proposals instead")
    parser.add_argument("--rounds", type=int, default=20, help="proposals that --speed times")
    given = parser.parse_args()
    if given.speed:
        return speed(given.rounds)
    given.out.mkdir(parents=True, exist_ok=True)
    files = given.tables or [str(synthetic(given.out, kind)) for kind in ("additive", "interactions", "noise")]
    pd.concat([compare_on(file, given) for file in files]).to_csv(given.out / "samplers.csv", index=False)
    print(f"\n{given.out}/samplers.csv and a PNG a table")


if __name__ == "__main__":
    main()
