"""Everything a search can be told, checked once, with the origin of each value; and what makes two runs the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nasbench.errors import InputError, UnknownNameError
from nasbench.files import read_yaml

__all__ = ["SAMPLERS", "SearchSettings", "differences", "read_settings"]

SAMPLERS = ("auto", "gp", "tpe", "nsga2", "random", "grid", "local")


def _listed(given: Any) -> Any:
    """Take a text as a list with commas: `--set proxies=naswot,zico`."""
    return tuple(part.strip() for part in given.split(",") if part.strip()) if isinstance(given, str) else given


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Texts, as a list or with commas."""


class SearchSettings(BaseModel):
    """The settings of a search; the defaults are those of `nasbench search`.

    Attributes:
        space: Name, YAML file or mapping; by default `five-properties`, or `forecasting` for a forecasting task.
        backbone: timm name, forecasting stem or `FILE.py:build`; by default `test_resnet`, or `patchtst` for series.
        task: Such as `tar:TRAIN.tar,TEST.tar`, `ett:PATH`, `table:FILE`; by default `digits`, or `co2` for a stem.
        trials: Distinct plans to evaluate, the bare backbone among them.
        time_s: Stop starting trials after this many seconds; None for no limit.
        objectives: Name to direction ("" where the name tells); by default the task's metric and `macs`.
        constraints: Such as `params<=1.1x`.
        sampler: One of `SAMPLERS`.
        seed: Of splits, initial weights, data order and sampler.
        seeds: Seeds each finalist, and the bare backbone, is trained on.
        finalists: What is trained on further seeds: the "front" and the bare backbone, or "all" plans.
        size: Image size in pixels; by default the larger of 64 and the data's own.
        lookback: Input steps of a forecasting task; None for the task's own.
        horizon: Output steps of a forecasting task; None for the task's own.
        fill: How gaps of a series are filled: "linear" or "forward"; None refuses gaps.
        covariates: Give a forecasting model the calendar of every step too (hour, weekday, day of month and of year).
        checkpoint: Weights of the bare backbone to start from.
        pretrained: Start from the weights timm has.
        freeze: "backbone" trains what was inserted, and the head, alone.
        device: "auto", "cpu", "cuda", "cuda:1".
        modules: Plug-in files and folders to load.
        training: Overrides of the task's recipe (epochs, learning_rate, ...).
        latency_s: Seconds spent on measuring latency after the search; 0 for none.
        latency_profile: A device profile: latency is predicted for its device before training, and not measured here.
        proxies: Zero-cost proxies to compute before training: naswot, synflow, zico. A constraint may bound one.
        halving: Successive halving: one plan in so many is trained for longer (2 or more); 0 trains every plan in full.
        halving_epochs: Epochs of the first rung, at least.
        halving_slow_epochs: Epochs before which no plan is judged that starts as the bare backbone (identity at the
            start); by default three tenths of the full budget.
        controls: Train, beside each finalist and on its seeds, a plain block of the same cost in the same slots.
        allow_lower_bound: Accept an objective whose count is only a lower bound.
        keep: Weights kept: of the "front" or of "all" trials.
        workers: Evaluations that run at once.
        engine: Where they run: "local" processes, or on a "ray" cluster.
        trial_timeout_s: Seconds after which an evaluation counts as hung, is killed and has failed; None for no limit.
        trial_cpus: CPU cores of an evaluation on a Ray cluster.
        trial_gpus: GPUs of an evaluation on a Ray cluster; by default 1 where the device is CUDA.
        storage: A database that machines share the study through, postgresql://...; None for the run folder.
        reuse: A run whose evaluations are brought in where they fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: str | dict[str, Any] | None = None
    backbone: str | None = None
    task: str | None = None
    trials: int = Field(default=24, ge=1)
    time_s: float | None = Field(default=None, gt=0)
    objectives: dict[str, str] = {}
    constraints: Texts = ()
    sampler: Literal["auto", "gp", "tpe", "nsga2", "random", "grid", "local"] = "auto"
    seed: int = Field(default=0, ge=0, lt=2**31)
    seeds: int = Field(default=3, ge=1)
    finalists: Literal["front", "all"] = "front"
    size: int | None = Field(default=None, ge=1)
    lookback: int | None = Field(default=None, ge=1)
    horizon: int | None = Field(default=None, ge=1)
    fill: Literal["linear", "forward"] | None = None
    covariates: bool = False
    checkpoint: str | None = None
    pretrained: bool = False
    freeze: Literal["backbone"] | None = None
    device: str = "auto"
    modules: Texts = ()
    training: dict[str, Any] = {}
    latency_s: float = Field(default=20.0, ge=0)
    latency_profile: str | None = None
    proxies: Texts = ()
    halving: int = Field(default=0, ge=0)
    halving_epochs: int = Field(default=1, ge=1)
    halving_slow_epochs: int | None = Field(default=None, ge=1)
    controls: bool = True
    allow_lower_bound: bool = False
    keep: Literal["front", "all"] = "front"
    workers: int = Field(default=1, ge=1)
    engine: Literal["local", "ray"] = "local"
    trial_timeout_s: float | None = Field(default=None, gt=0)
    trial_cpus: float = Field(default=1, gt=0)
    trial_gpus: float | None = Field(default=None, ge=0)
    storage: str | None = None
    reuse: str | None = None


def read_settings(
    given: Mapping[str, Any], file: str | Path | None = None, origin: str = "command line"
) -> tuple[SearchSettings, dict[str, str]]:
    """Merge defaults, a `run.yaml` and what was given, in rising order, and check the result.

    Args:
        given: Values from the command line or Python; None means not given.
        file: A YAML file with the same keys.
        origin: What `given` is called in the origins.

    Returns:
        The settings, and the origin of each value: "default", the file's path, or `origin`.

    Raises:
        UnknownNameError: If a key does not exist.
        InputError: If a value is wrong; names the key, the value and where it came from.
    """
    from_file = read_yaml(file, "settings") if file else {}
    explicit = {key: value for key, value in given.items() if value is not None}
    for key in (*from_file, *explicit):
        if key not in SearchSettings.model_fields:
            raise UnknownNameError("setting", str(key), SearchSettings.model_fields)
    origins = dict.fromkeys(SearchSettings.model_fields, "default")
    origins |= dict.fromkeys(from_file, str(file)) | dict.fromkeys(explicit, origin)
    merged = {**from_file, **explicit}
    if "objectives" in merged:
        merged["objectives"] = _objectives(merged["objectives"])
    try:
        return SearchSettings.model_validate(merged), origins
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = origins.get(str(first["loc"][0]), origin)
        raise InputError(f"{key}={first['input']!r} ({where}): {first['msg']}") from None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say where two identities differ, one line a key: "training.epochs: 5 there, 3 now"."""
    flat_old, flat_new = dict(_flat(old)), dict(_flat(new))
    keys = sorted({*flat_old, *flat_new})
    return [
        f"{key}: {flat_old.get(key, 'unset')!r} there, {flat_new.get(key, 'unset')!r} now"
        for key in keys
        if flat_old.get(key) != flat_new.get(key)
    ]


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, list(tree) if isinstance(tree, tuple) else tree


def _objectives(given: Any) -> dict[str, str]:
    given = _listed(given)
    if isinstance(given, Mapping):
        return {str(name): str(direction) for name, direction in given.items()}
    if not isinstance(given, (list, tuple)):
        raise InputError(f"objectives={given!r}: a list of names, or a mapping of names to maximize or minimize")
    names = [str(name) for name in given]
    if len(set(names)) != len(names):
        raise InputError(f"an objective is given twice: {', '.join(names)}")
    return dict.fromkeys(names, "")
