"""The metadata of an exported model for the Hugging Face Hub: the head of README.md, and timm's part of config.json."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import EvalResult, ModelCardData
from timm.models import save_for_hf

from nasbench.backbones.names import is_timm
from nasbench.library.pretexts import SUPERVISED
from nasbench.report.formatting import is_missing
from nasbench.runs.models import ModelBuilder
from nasbench.runs.run import Run

__all__ = ["card_metadata", "data_name", "timm_config"]

_PIPELINES = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "detection": "object-detection",
    "super-resolution": "image-to-image",
    "forecasting": "time-series-forecasting",
}
"""The Hub's name of each kind of task, where it has one."""

_FEATURES = {
    "classification": "image-feature-extraction",
    "series-classification": "feature-extraction",
    "forecasting": "feature-extraction",
}
"""The same for models that learnt without labels. Their outputs are of no use, and the features before them are."""


def card_metadata(run: Run, config: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """Return the head of a model card as YAML. Every number in it is one that the run measured.

    A licence is not among it, because only the owner of data and weights can choose one.

    Args:
        run: The run.
        config: The content of config.json.
        card: The numbers of the card: `row` of the plan, `metric`, and the metrics `test` of the test split.
    """
    kind, metric = str(config["kind"]), str(card["metric"])
    known = _PIPELINES if run.settings.learn == SUPERVISED else _FEATURES
    task = known.get(kind, kind)
    data = data_name(str(run.settings.task))
    found = [
        EvalResult(
            task_type=task,
            dataset_type=re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-") or "data",
            dataset_name=data,
            dataset_split=split,
            metric_type=name,
            metric_name=told,
            metric_value=value,
            metric_args=args,
        )
        for split, name, told, value, args in _values(card, metric)
    ]
    name = f"{run.path.resolve().name}-trial-{config['run']['trial']}"
    head = ModelCardData(
        model_name=name,
        # Code of timm builds only the bare network, so its loader must not be offered for a plan.
        library_name="timm" if "architecture" in config and not config["plan"] else "pytorch",
        pipeline_tag=known.get(kind),
        tags=[task, "nasbench", *(["timm"] if "architecture" in config else [])],
        datasets=_hub_datasets(str(run.settings.task)) or None,
        metrics=[metric],
        base_model=_base_model(run),
        eval_results=found,
    )
    return head.to_yaml()


def _values(card: Mapping[str, Any], metric: str) -> Sequence[tuple[str, str, str, float, dict[str, Any] | None]]:
    """Return the results: split, metric, its description, its value, and seeds and interval where they are known."""
    row, values = card["row"], []
    if not is_missing(row.get(metric)):
        low, high, seeds = (row.get(key) for key in (f"{metric}_low", f"{metric}_high", "seeds"))
        told = f"validation {metric}"
        args: dict[str, Any] = {}
        if not is_missing(seeds):
            args["seeds"] = int(seeds)
            told += f", mean of {int(seeds)} seed{'s' if seeds > 1 else ''}"
        if not is_missing(low) and not is_missing(high):
            args |= {"low": float(low), "high": float(high), "confidence": 0.95}
            told += f" (95 %: {low:.4g} to {high:.4g})"
        values.append(("validation", metric, told, float(row[metric]), args or None))
    for name, value in card["test"].items():
        if not is_missing(value):
            values.append(("test", name, f"test {name}", float(value), None))
    return values


def data_name(task: str) -> str:
    """Return a name for the data of a task, without folders of this machine.

    Example:
        >>> data_name("folder:/home/me/flowers"), data_name("digits")
        ('flowers', 'digits')
    """
    place = task.split(",")[0].partition(":")[2]
    return Path(place).name or task


def _hub_datasets(task: str) -> list[str]:
    """Return the data set of a task, if the Hub has it: "org/name" for "timm:hfds/org/name"."""
    match = re.fullmatch(r"timm:hfds/(.+)", task)
    return [match[1]] if match else []


def _base_model(run: Run) -> str | None:
    """Return the Hub's name of the pretrained weights with which the training began."""
    name = str(run.settings.backbone)
    if not run.settings.pretrained or not is_timm(name):
        return None
    weights = timm.get_pretrained_cfg(name)
    return None if weights is None else weights.hf_hub_id or None


def timm_config(builder: ModelBuilder, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """Return what timm writes into config.json for a classifier of images. Empty for every other model.

    With it, `timm.create_model("hf-hub:...")` loads the weights of the bare network. Of a plan, it says which network
    the modules are in. timm then refuses the weights, because it knows no inserted modules.
    """
    if builder.head is not None or not is_timm(builder.backbone) or "num_classes" not in builder.model_kwargs:
        return {}
    prepared = {key: preprocessing[key] for key in ("mean", "std") if key in preprocessing}
    data = {"input_size": tuple(builder.input_size), "interpolation": "bilinear", "crop_pct": 1.0, **prepared}
    labels = {"label_names": preprocessing["classes"]} if "classes" in preprocessing else {}
    with tempfile.TemporaryDirectory() as folder:  # timm only writes it into a file
        configuration_alone: Any = "none"  # no form of weights that timm knows, so it writes none
        save_for_hf(
            builder.host(), folder, model_config=labels, safe_serialization=configuration_alone, data_config=data
        )
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    # These describe weights that timm offers for the network. The exported weights are others.
    for key in ("tag", "license", "description", "notes", "origin_url", "paper_name", "paper_ids"):
        config["pretrained_cfg"].pop(key, None)
    return config
