"""Compare samplers: hypervolume of the front against the number of distinct evaluations.

    .venv/bin/python scripts/benchmarks/samplers.py [TABLE.parquet ...] [--families additive,bound] [--seeds 10]
        [--trials 50] [--samplers auto,random] [--resample] [--jobs 1] [--out FOLDER] [--json FILE]
        [--atlas FILE.parquet [--leave-out host,data]]
    .venv/bin/python scripts/benchmarks/samplers.py --speed [--evaluations 500] [--rounds 20]

Without a table the script searches the problems of `landscapes`, of which each seed draws another one. Tables
are those that `nasbench tabulate` wrote. Each sampler runs as in a search, with the first plans that all share.

Hypervolume is relative to that of the true front: of a landscape, the front of the true means of the feasible plans.
The metric and the log of the costs are scaled to their range, and the reference point is the worst corner of it. Each
mark shows the mean over the seeds and its 95 % interval. `auto` is compared with each other sampler on the same seeds.
The script prints a table for each problem, and writes samplers.csv and one PNG for each problem.

`auto+halving` is `auto` with successive halving. On the family `short`, it is compared at equal epochs: an evaluation
counts as one training at the full budget, and shorter trainings as shares of one. `refused` does not apply there.

The sampler `qlognehvi` is BoTorch's, from outside of this package, if `botorch` can be imported. It runs only on
landscapes, proposes the best plan of a pool like that of `auto`, and leaves failed plans out of its model.

A single table has a single lucky plan, which a sampler meets early or late. In a space that it can list, `auto` takes
nearly the same path under every seed. Its spread on one table then says nothing about tables in general. With
`--resample`, each seed gets a table made from the given one: the effect of each module in each slot, by ridge
regression, plus the residuals in another order.

`auto` expects nothing of modules here. The samplers `right`, `random` and `wrong` are `auto` on landscapes, told such
effects of the modules (`Landscape.expected`). The sampler `atlas` is `auto` on tables, told what an atlas makes one
expect, without the rows of the table's host and data. So `--samplers auto,atlas --atlas FILE` shows what an atlas is
worth where it has not been.

`--speed` times proposals instead, in a space of more than 10^9 plans, beside Optuna's TPE in the same study.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import moocore
import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy import stats

import nasbench as nb
from nasbench.backbones.slot_cache import RecordedSlot
from nasbench.evidence.atlas_prior import expected_effects
from nasbench.evidence.pareto import minimised
from nasbench.library.plan import Plan
from nasbench.runs.settings import SAMPLERS
from nasbench.runs.tabulated import Table, read_table, write_table
from nasbench.spaces import Space
from nasbench.study.samplers import Knowledge, make_sampler
from scripts.benchmarks import paired
from scripts.benchmarks.landscapes import BACKBONE, FAMILIES, FULL, Landscape, landscape

MARKS = (10, 25, 50, 100)
SHARE = 0.95
SLOTS = tuple(RecordedSlot(name=f"stage{k}", channels=2 ** (k + 4), size=(8, 8), layout="NCHW") for k in (1, 2, 3, 4))


# -- tables ------------------------------------------------------------------------------------------------------------


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


EXPECTING = ("right", "random", "wrong", "atlas")
"""Samplers that are `auto`, told what to expect of modules."""


@contextlib.contextmanager
def told(effects: Mapping[str, Sequence[float]]) -> Iterator[None]:
    """Let searches expect these effects of modules, each a mean and an error, whatever the atlas has."""
    recorded = {"host": "", "data": "", "effects": dict(effects)} if effects else None
    target = "nasbench.study.driver.expectations_of"
    with mock.patch(target, return_value=recorded), mock.patch("nasbench.study.driver.check_atlas"):
        yield


def left_out(table: Table, atlas: str, kinds: str) -> dict[str, list[float]]:
    """Return what an atlas makes one expect on a table, without the rows of its host, of its data, or of both."""
    rows = pd.read_parquet(atlas)
    for kind, own in (("host", table.info.backbone), ("data", table.info.task)):
        if kind in kinds.split(","):
            rows = rows[rows[kind] != own]
    effects = expected_effects(rows, table.info.backbone, table.info.task, table.info.slots[0].dims)
    return {name: [one.mean, one.error] for name, one in effects.items()}


def search(file: str, sampler: str, seed: int, trials: int, atlas: str = "", kinds: str = "") -> dict[str, Any]:
    """Search a table once. Return the curve, and the processor seconds of an evaluation with its proposal."""
    warnings.simplefilter("ignore")
    table = read_table(file)
    effects = left_out(table, atlas, kinds) if sampler == "atlas" else {}
    with tempfile.TemporaryDirectory() as folder, told(effects):
        begun = time.process_time()
        run = nb.search(
            task=f"table:{file}",
            sampler="auto" if sampler in EXPECTING else sampler,
            seed=seed,
            trials=trials,
            seeds=1,
            report=False,
            atlas=bool(effects),
            out=folder,
        )
        spent = time.process_time() - begun
        rows = run.trials().head(trials)
    curve = Truth(table, run.directions, seed).curve(rows)
    return {"table": Path(file).stem, "sampler": sampler, "seed": seed, "curve": curve, "seconds": spent / len(rows),
            "infeasible": float((rows["state"] != "complete").mean())}  # fmt: skip


def search_landscape(family: str, sampler: str, seed: int, trials: int) -> dict[str, Any]:
    """Search a landscape once. The result is that of `search`."""
    warnings.simplefilter("ignore")
    drawn = landscape(family, seed)
    begun = time.process_time()
    if drawn.early:
        curve, asked = at_equal_epochs(drawn, sampler, seed, trials)
        spent = time.process_time() - begun
        return {"table": family, "sampler": sampler, "seed": seed, "curve": curve, "seconds": spent / asked,
                "infeasible": 0.0}  # fmt: skip
    if sampler == "qlognehvi":
        from scripts.benchmarks.botorch_oracle import evaluated_by_botorch

        evaluated = evaluated_by_botorch(drawn, seed, trials)
    else:
        effects = drawn.expected(sampler, seed) if sampler in EXPECTING else {}
        with tempfile.TemporaryDirectory() as folder, told(effects):
            run = nb.search(
                drawn.space, backbone=BACKBONE, evaluate=drawn.evaluate, known=drawn.known, objectives=drawn.directions,
                constraints=list(drawn.bounds), sampler="auto" if effects else sampler, seed=seed, trials=trials,
                seeds=1, atlas=bool(effects), out=folder,
            )  # fmt: skip
            evaluated = [drawn.index(json.loads(text)) for text in run.trials().head(trials)["plan"]]
    spent = time.process_time() - begun
    refused = float(1 - drawn.feasible[evaluated].mean())
    return {"table": family, "sampler": sampler, "seed": seed, "curve": drawn.shares(evaluated),
            "seconds": spent / len(evaluated), "infeasible": refused}  # fmt: skip


def at_equal_epochs(drawn: Landscape, sampler: str, seed: int, trials: int) -> tuple[list[float], int]:
    """Search until `trials` times the full epochs are spent.

    Returns:
        The share of hypervolume of the plans that were trained in full, each time the full epochs were spent again, and
        the number of trainings.
    """
    budget = trials * FULL
    log: list[tuple[int, int]] = []  # the number of each plan, and its epochs

    def evaluate(plan: dict[str, str], epochs: int = FULL) -> dict[str, float]:
        if sum(each for _, each in log) + epochs > budget:
            raise KeyboardInterrupt
        log.append((drawn.index(plan), epochs))
        return drawn.trained(plan, epochs)

    halving: dict[str, Any] = {"halving": 3, "halving_epochs": 3} if sampler.endswith("+halving") else {}
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        nb.search(
            drawn.space, backbone=BACKBONE, evaluate=evaluate, objectives=drawn.directions, seeds=1, seed=seed,
            sampler=sampler.partition("+")[0], training={"epochs": FULL}, trials=FULL * trials, out=folder, **halving,
        )  # fmt: skip
    spent = np.cumsum([epochs for _, epochs in log])
    full = np.array([epochs == FULL for _, epochs in log])
    shares = drawn.shares([at for at, epochs in log if epochs == FULL])
    counts = [int(full[spent <= mark * FULL].sum()) for mark in range(1, trials + 1)]
    return [shares[count - 1] if count else 0.0 for count in counts], len(log)


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


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and half of its 95 % interval by Student's t. nan for a single value."""
    n = len(values)
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5 if n > 1 else float("nan")
    return statistics.fmean(values), half


def at_mark(result: dict[str, Any], mark: int) -> float:
    """Return the share of hypervolume after `mark` evaluations, or after all if every plan was evaluated before."""
    return float(result["curve"][min(mark, len(result["curve"])) - 1])


def show(name: str, results: list[dict[str, Any]], trials: int) -> list[dict[str, Any]]:
    """Print the hypervolume of each sampler at each mark, and what `auto` has more. Return these figures."""
    marks = [mark for mark in MARKS if mark <= trials]
    samplers = list(dict.fromkeys(r["sampler"] for r in results))
    print(f"\n{name}: share of the true hypervolume, mean ± half of its 95 % interval; `auto` minus it, paired")
    heads = {head: ">16" for mark in marks for head in (f"at {mark}", f"auto at {mark}")}
    table = paired.Table({"sampler": "<10", **heads, f"to {SHARE:.0%}": ">7", "refused": ">8", "s/evaluation": ">13"})
    table.print_head()
    auto = {r["seed"]: r for r in results if r["sampler"] == "auto"}
    rows = []
    for sampler in samplers:
        mine = [r for r in results if r["sampler"] == sampler]
        row: dict[str, Any] = {"problem": name, "sampler": sampler, "seeds": len(mine)}
        cells = []
        for mark in marks:
            row[f"at_{mark}"] = mean_interval([at_mark(r, mark) for r in mine])
            cells.append("{:.3f} ±{:.3f}".format(*row[f"at_{mark}"]))
            gaps = [at_mark(auto[r["seed"]], mark) - at_mark(r, mark) for r in mine if r["seed"] in auto]
            row[f"auto_at_{mark}"] = mean_interval(gaps) if gaps and sampler != "auto" else None
            cells.append("{:+.3f} ±{:.3f}".format(*row[f"auto_at_{mark}"]) if row[f"auto_at_{mark}"] else "")
        row["needed"] = statistics.median(needed(r["curve"], trials) for r in mine)
        row["refused"] = statistics.fmean(r["infeasible"] for r in mine)
        row["seconds"] = statistics.median(r["seconds"] for r in mine)
        more = ">" if row["needed"] > trials else ""
        table.print_row(sampler, *cells, f"{more}{min(row['needed'], trials):.0f}", f"{row['refused']:.0%}",
                        f"{row['seconds']:.3f}")  # fmt: skip
        rows.append(row)
    return rows


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


def speed(rounds: int, evaluations: int) -> None:
    """Print the time of a proposal, in a space of more than 10^9 plans, on one thread, of three known or unknown goals.

    `auto` proposes with the cost known before, and with the cost modelled, beside a bound on it and plans that failed.
    """
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
    while len(study.get_trials(deepcopy=False)) < evaluations:
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
    print(f"{space.count:.1e} plans, {rounds} proposals of each at {evaluations} evaluations and more, medians")
    table = paired.Table({"sampler": "<12", "s": ">8", "s of CPU": ">9", "CPU / TPE's [95 %]": ">22"})
    table.print_head()
    cpu = {name: [both[1] for both in column[1:]] for name, column in times.items()}  # the first one warms up
    for name, column in times.items():
        wall = statistics.median(both[0] for both in column[1:])
        ratio = paired.interval_text(paired.ratio_interval(cpu[name], cpu["Optuna's TPE"]))
        table.print_row(name, f"{wall:.3f}", f"{statistics.median(cpu[name]):.3f}", ratio)


def compare_on(
    name: str, asked: list[tuple[Any, ...]], work: Callable[..., dict[str, Any]], given: Any
) -> pd.DataFrame:
    """Search a problem with every sampler and seed, print and draw the results, and return the curves."""
    if given.jobs > 1:
        with ProcessPoolExecutor(given.jobs) as pool:
            results = list(pool.map(work, *zip(*asked, strict=True)))
    else:
        results = [work(*one) for one in asked]
    given.shown += show(name, results, given.trials)
    frame = long_frame(results)
    draw(name, frame, given.out / f"{name}.png")
    return frame


def main() -> None:
    """Compare on each problem, or time proposals."""
    parser = paired.command_line(__doc__)
    parser.add_argument("tables", nargs="*", help="files that `nasbench tabulate` wrote")
    parser.add_argument("--families", help=f"landscapes, of {', '.join(FAMILIES)}; all if there is no table")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--jobs", type=int, default=1, help="searches at once, a process each")
    parser.add_argument("--out", type=Path, default=Path("runs/samplers"))
    parser.add_argument("--json", type=Path, help="file for the figures of the tables")
    parser.add_argument("--resample", action="store_true", help="another table for each seed")
    parser.add_argument("--atlas", default="", help="rows of an atlas, for the sampler `atlas`")
    parser.add_argument("--leave-out", default="host,data", help="what the rows for a table do not share with it")
    parser.add_argument("--speed", action="store_true", help="time proposals instead")
    parser.add_argument("--rounds", type=int, default=20, help="proposals that --speed times")
    parser.add_argument("--evaluations", type=int, default=500, help="evaluations before the proposals of --speed")
    given = parser.parse_args()
    if given.speed:
        return speed(given.rounds, given.evaluations)
    given.out.mkdir(parents=True, exist_ok=True)
    given.shown = []
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    families = given.families.split(",") if given.families else [] if given.tables else FAMILIES
    samplers, frames = given.samplers.split(","), []
    for file in given.tables:
        of_seed = {seed: resampled(file, seed, given.out) if given.resample else file for seed in seeds}
        more = given.trials, given.atlas, given.leave_out
        of_table = [(of_seed[seed], sampler, seed, *more) for sampler in samplers for seed in seeds]
        frames.append(compare_on(Path(file).stem, of_table, search, given))
    for family in families:
        asked = [(family, sampler, seed, given.trials) for sampler in samplers for seed in seeds]
        frames.append(compare_on(family, asked, search_landscape, given))
    pd.concat(frames).to_csv(given.out / "samplers.csv", index=False)
    if given.json is not None:
        given.json.write_text(json.dumps(given.shown, indent=1) + "\n")
    print(f"\n{given.out}/samplers.csv and a PNG a problem")


if __name__ == "__main__":
    main()
