"""The headline of a report: which plan helps, how sure that is, and what a reader must know before trusting it.

No sentence claims more than the tables show. The answer comes first. Then come the reasons for doubt: the control, the
test split, latency without a verdict, failures, training near chance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import pandas as pd

from nasbench.evidence.comparison import keeps_bounds
from nasbench.evidence.student import t_quantile
from nasbench.library.plan import BARE
from nasbench.objectives import COSTS
from nasbench.report.formatting import chance_text, is_missing, plan_in_sentence, what_would_decide, with_interval
from nasbench.report.reasons import grouped
from nasbench.report.training_state import is_near_chance, is_still_falling
from nasbench.runs.control_comparison import is_near_cost
from nasbench.runs.power import why_no_interval
from nasbench.runs.run import Run
from nasbench.runs.trainings import RunTrainings

__all__ = ["best_of", "headline", "nearest_of"]

Metrics = Mapping[str, Mapping[str, float]]

_LONGEST_REASON = 120


def headline(
    run: Run,
    finalists: pd.DataFrame,
    recorded: RunTrainings | None,
    test: Metrics,
    naive: Metrics,
    *,
    brief: bool = False,
) -> tuple[str, ...]:
    """Return the sentences of the headline, the answer first.

    Args:
        run: The run.
        finalists: Its compared plans (`Run.finalists`).
        recorded: Its trainings. None if every objective is a cost.
        test: Metrics on the test split by plan hash.
        naive: Metrics of naive forecasts on the test split by name.
        brief: Whether to leave out what a reader can look up in the report: all between the first two sentences of the
            answer and the number of plans.
    """
    lines = list(_answer(run, finalists, recorded, test))
    if brief:
        lines = [*lines[:-1][:2], lines[-1]]
    # The last line counts the plans, so what is wrong with plans is added to it.
    lines[-1] = " ".join([lines[-1], *_infeasible(finalists), *_failures(run)])
    return (*lines, *(_caution(run, run.metric, finalists, test, naive) if run.metric else ()))


def _answer(run: Run, finalists: pd.DataFrame, recorded: RunTrainings | None, test: Metrics) -> Iterable[str]:
    """Yield sentences about the plans. The last sentence says how many were evaluated."""
    evaluated = _counted(run.trials()["plan_hash"].nunique(), "plan")
    if recorded is None:
        yield "Every objective is a cost. Costs are exact, so there is no verdict."
        yield f"{evaluated} evaluated, {_on_front(finalists)} of them on the front."
    elif recorded.bare is None:
        yield "Nothing can be compared, because no training of the bare backbone succeeded."
        yield f"{evaluated} evaluated."
    elif not recorded.plans:
        yield "Nothing can be compared, because only the bare backbone has a result."
        yield f"{evaluated} evaluated."
    elif not recorded.noise.freedom:
        yield "Each plan has one evaluation. No plan was trained twice, so there is no verdict."
        yield f"{evaluated} evaluated, {_on_front(finalists)} of them on the front."
    elif not recorded.shows_noise and not recorded.standing.difference.round(12).any():
        yield "Nothing can be compared, because the metric is the same in every training."
        yield f"{evaluated} evaluated."
    else:
        better = finalists[finalists["verdict"] == "BETTER"]
        if better.empty:
            yield "No plan was shown to be better than the bare backbone."
            most_seeds = max(plan.trainings.seeds for plan in recorded.plans)
            yield from (*_nearest(run, finalists), *_faster(run, finalists), *_power(run, most_seeds))
        else:
            yield from _best(run, better, finalists, recorded, test)
        yield _counts(evaluated, finalists)


def _best(
    run: Run, better: pd.DataFrame, finalists: pd.DataFrame, recorded: RunTrainings, test: Metrics
) -> Iterable[str]:
    """Yield sentences about the best of the plans that are BETTER."""
    best = best_of(better)
    bare = finalists[finalists["plan"] == BARE.text].iloc[0]
    yield _better(run, best, bare)
    yield from _against_control(best)
    yield from _on_test(run, recorded, best, bare, test)
    yield from _latency(run, best)


def best_of(better: pd.DataFrame) -> pd.Series:
    """Return the best of the plans that are BETTER: those better than a plain block of equal cost come first."""
    order = better.assign(beats_control=better["control_verdict"] == "BETTER")
    return order.sort_values(["beats_control", "difference"], ascending=False).iloc[0]


def nearest_of(finalists: pd.DataFrame) -> pd.Series | None:
    """Return the undecided plan with the highest probability to be better. None if there is none with an interval."""
    nearest = finalists[finalists["verdict"] == "NOT DECIDED"].dropna(subset=["p_better", "difference_low"])
    return None if nearest.empty else nearest.sort_values("p_better", ascending=False).iloc[0]


def _better(run: Run, best: pd.Series, bare: pd.Series) -> str:
    assert run.metric is not None
    metric = run.metric
    # The verdict uses all trainings together. The interval uses only this plan, so it can include 0.
    model = f" (better with probability {_chance(best)}, from all trainings)" if best["difference_low"] <= 0 else ""
    return (
        f"{plan_in_sentence(best.to_dict())} is BETTER than the bare backbone: {metric} {_value(metric, best)} against "
        f"{_value(metric, bare)}, {_interval(best)}{_sign_note(run)}{model}{_price(run, best, bare)}."
    )


def _price(run: Run, row: pd.Series, bare: pd.Series) -> str:
    cost = next((name for name in ("macs", *COSTS) if name in run.directions and name in row), None)
    return f", at {row[cost] / bare[cost]:.2f} times the {cost}" if cost and bare[cost] else ""


def _nearest(run: Run, finalists: pd.DataFrame) -> Iterable[str]:
    """Yield the undecided plan with the highest probability to be better, and what is needed to decide it."""
    if (row := nearest_of(finalists)) is None:
        return
    price = _price(run, row, finalists[finalists["plan"] == BARE.text].iloc[0])
    told = "; ".join([f"better with probability {_chance(row)}", *filter(None, [what_would_decide(row.to_dict())])])
    plan = plan_in_sentence(row.to_dict())
    rows = finalists[(finalists["verdict"] == "NOT DECIDED") & (finalists["plan"] != row["plan"])]
    ties = int(((rows[["difference", "p_better"]] - row[["difference", "p_better"]]).abs() < 1e-12).all(axis=1).sum())
    equal = "" if not ties else f" (and {ties} other{'' if ties == 1 else 's'} with exactly the same {run.metric})"
    yield f"The nearest plan is {plan}{equal}: {run.metric} {_interval(row)}{_sign_note(run)}{price}, {told}."


def _power(run: Run, most_seeds: int) -> Iterable[str]:
    """Yield which differences the run can detect, because readers ask this if no plan is better."""
    power = run.power()
    if power.unknown:
        yield f"{power.unknown[0].upper()}{power.unknown[1:]}."
        return
    if math.isnan(power.floor):
        yield f"No difference can be detected: {why_no_interval(power.items, run.block)}."
        return
    # If the item variance is estimated as 0, there is no floor.
    floor = (
        f"; with {power.items:,} validation items, no number of seeds detects less than {power.floor:.2g}"
        if power.floor
        else ""
    )
    seeds = max((number for number in power.detectable if number <= most_seeds), default=min(power.detectable))
    least = power.detectable[seeds]
    yield f"With {seeds} seeds for each plan, this run can detect differences of {least:.2g}{floor}."


def _faster(run: Run, finalists: pd.DataFrame) -> Iterable[str]:
    """Yield the fastest plan that was shown to be faster, if latency is an objective."""
    if "latency_ms" not in run.directions or "latency_verdict" not in finalists:
        return
    faster = finalists[(finalists["latency_verdict"] == "FASTER") & keeps_bounds(finalists)]
    if faster.empty:
        yield "No plan was shown to be FASTER either."
        return
    row = faster.sort_values("latency_ratio").iloc[0]
    verdict = f"{run.metric} {_interval(row)}{_sign_note(run)}, {row['verdict']}"
    yield f"{plan_in_sentence(row.to_dict())} is FASTER, {_latency_ratio(row)} times the latency, with {verdict}."


def _against_control(best: pd.Series) -> Iterable[str]:
    if is_missing(best["control_difference"]):
        yield "No plain block of equal cost was trained, so the gain can come from the added size alone."
        return
    gap = _interval(best, "control_difference")
    ratio = None if is_missing(best["control_ratio"]) else best["control_ratio"]
    if not is_near_cost(ratio):
        adds = (
            "the plan adds no multiply-adds"
            if ratio is None
            else f"the nearest adds {ratio:.3g} times the multiply-adds"
        )
        yield f"No plain block of equal cost exists ({adds}): {gap} against the nearest block, no verdict."
    elif best["control_verdict"] == "BETTER":
        yield f"It is also BETTER than a plain block of equal cost, {gap}, so size alone does not explain the gain."
    elif best["control_verdict"] == "WORSE":
        yield f"But it is WORSE than a plain block of equal cost, {gap}. So that block is the better choice."
    else:
        yield (
            f"But it was not shown to be better than a plain block of equal cost, {gap}. So perhaps only the added "
            "size helps."
        )


def _on_test(run: Run, recorded: RunTrainings, best: pd.Series, bare: pd.Series, test: Metrics) -> Iterable[str]:
    """Yield the result on the test split. Nothing was selected on it, but each plan has only one training."""
    assert run.metric is not None
    figures = [test.get(row["plan_hash"], {}).get(run.metric) for row in (best, bare)]
    if figures[0] is None or figures[1] is None:
        if test:
            yield "There is no test result, because the weights of this plan were not stored (--keep all stores them)."
        return
    sign = -1 if run.directions[run.metric] == "minimize" else 1
    gap = sign * (figures[0] - figures[1])
    half = _half_width(run, recorded)
    told = with_interval(gap, gap - half, gap + half, "+")
    if gap - half > 0:
        agrees = "agrees"
    elif gap > 0:
        agrees = "has the same sign, but this can be chance"
    else:
        agrees = "does not agree"
    yield (
        f"The test split {agrees} (one seed each): {figures[0]:.4g} against {figures[1]:.4g}, {told}{_sign_note(run)}."
    )


def _half_width(run: Run, recorded: RunTrainings) -> float:
    """Return half the width of the 95 % interval of a difference on the test split, with one training of each plan.

    One training does not show the noise between seeds. So the noise on the validation split is used, converted to the
    number of test items.
    """
    noise = recorded.standing.noise
    splits = (run.config["task"] or {}).get("splits", {})
    if noise.items and splits.get("val") and splits.get("test"):
        noise = noise.on_items(max(1, round(noise.items * splits["test"] / splits["val"])))
    error, freedom = noise.error(1, 1)
    return t_quantile(0.975, freedom) * error


def _latency(run: Run, best: pd.Series) -> Iterable[str]:
    ratio = best.get("latency_ratio")
    if is_missing(ratio):
        return
    if is_missing(best.get("latency_ratio_low")):
        yield (
            f"Its predicted latency is {ratio:.2f} times the bare backbone's. It was not measured, so there is no "
            "verdict."
        )
        return
    load = busy_load(run)
    busy = "" if load is None else f" The machine was busy during the measurement (load {load:.3g})."
    yield f"Its latency is {_latency_ratio(best)} times the bare backbone's: {best['latency_verdict']}.{busy}"


def busy_load(run: Run) -> float | None:
    """Return the load average at the last latency measurement, if the machine was busy with other work. None otherwise.

    Until shortly before the measurement, the threads of all workers of the search loaded the machine. A load above the
    number of these threads plus one comes from other work.
    """
    scenario = run.folder.latest_latency("profile", lambda measured: dict(measured.get("scenario", {}))) or {}
    try:
        load, threads = float(scenario["load_average"]), int(scenario["threads"])
    except (ValueError, KeyError, TypeError, OverflowError):  # not recorded
        return None
    return load if load > run.settings.workers * threads + 1 else None


def _counts(evaluated: str, finalists: pd.DataFrame) -> str:
    several = finalists[(finalists["seeds"] > 1) & (finalists["plan"] != BARE.text)]
    counts = Counter(several["verdict"].where(keeps_bounds(several), "infeasible"))
    verdicts = ", ".join(
        f"{counts[name]} {name}" for name in ("BETTER", "WORSE", "NOT DECIDED", "infeasible") if counts[name]
    )
    return f"{evaluated} evaluated, {len(several)} with several seeds{': ' + verdicts if verdicts else ''}."


def _infeasible(finalists: pd.DataFrame) -> Iterable[str]:
    """Yield what breaks a bound, if anything does. Of plans, the alerts say which values they have."""
    if "breaks" not in finalists:
        return
    broken = finalists[finalists["breaks"] != ""]
    for breaks in broken[broken["plan"] == BARE.text]["breaks"]:
        yield f"The bare backbone is infeasible and only the reference: {breaks}."
    if plans := int((broken["plan"] != BARE.text).sum()):
        are = "plan is" if plans == 1 else "plans are"
        yield f"{plans} {are} infeasible: the mean of {'its' if plans == 1 else 'their'} seeds breaks a bound."


def _failures(run: Run) -> Iterable[str]:
    trials = run.trials()
    failed = trials[trials["state"] == "failed"]
    if failed.empty:
        return
    plans, of = failed["plan_hash"].nunique(), trials["plan_hash"].nunique()
    most = grouped(zip(failed["number"], failed["reason"], strict=True))[0]
    reason = most.reason if len(most.reason) <= _LONGEST_REASON else f"{most.reason[:_LONGEST_REASON].rstrip('. ')} …"
    share = ":" if len(failed) == 1 else ", all by:" if most.count == len(failed) else ", most often by:"
    yield f"{plans} of {of} plans {'has' if plans == 1 else 'have'} a failed evaluation{share} {reason}."


def _caution(run: Run, metric: str, finalists: pd.DataFrame, test: Metrics, naive: Metrics) -> Iterable[str]:
    """Yield the reasons why the training is perhaps too short for any conclusion."""
    if finalists.empty:
        return
    best = finalists.sort_values(metric, ascending=run.directions[metric] == "minimize").iloc[0]
    parts = [*_near_chance(run, metric, best), *_no_better_than_naive(run, metric, best, test, naive)]
    if is_still_falling(run):
        parts.append("the training loss was still falling at the end")
    if parts:
        told = "; ".join(parts)
        yield f"{told[0].upper()}{told[1:]}: train longer."


def _near_chance(run: Run, metric: str, best: pd.Series) -> Iterable[str]:
    classes = ((run.config["task"] or {}).get("model_kwargs") or {}).get("num_classes")
    if classes is not None and is_near_chance(metric, best[metric], classes):
        yield f"the best {metric}, {_value(metric, best)} on {classes} classes, is near chance"


def _no_better_than_naive(run: Run, metric: str, best: pd.Series, test: Metrics, naive: Metrics) -> Iterable[str]:
    ours = test.get(best["plan_hash"], {}).get(metric)
    known = {name: values[metric] for name, values in naive.items() if metric in values}
    if ours is None or not known:
        return
    sign = 1 if run.directions[metric] == "minimize" else -1
    name = min(known, key=lambda each: sign * known[each])
    if sign * ours >= sign * known[name]:
        naive_text = f"the {known[name]:.4g} of {name}, which needs no model"
        yield f"the best {metric} on the test split, {ours:.4g}, is no better than {naive_text}"


def _latency_ratio(row: pd.Series) -> str:
    low, high = row["latency_ratio_low"], row["latency_ratio_high"]
    return f"{row['latency_ratio']:.2f} [{low:.2f}, {high:.2f}]"


def _value(metric: str, row: pd.Series) -> str:
    return with_interval(row[metric], row.get(f"{metric}_low"), row.get(f"{metric}_high"))


def _interval(row: pd.Series, name: str = "difference") -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], "+")


def _sign_note(run: Run) -> str:
    """Return a note on the sign of a difference, if the metric is an error, where less is better."""
    return " (positive is better)" if run.metric and run.directions[run.metric] == "minimize" else ""


def _chance(row: pd.Series) -> str:
    return chance_text(row["p_better"]).replace(">", "over").replace("<", "below")


def _on_front(finalists: pd.DataFrame) -> int:
    return int(finalists["on_front"].sum()) if len(finalists) else 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun} was" if number == 1 else f"{number} {noun}s were"
