"""The contract of a user's task.

Its splits are correct, its batches can be repeated, and its metrics agree with the values of the single items.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.backbones import create_backbone
from nasbench.backbones.dense import create_dense
from nasbench.errors import message_of
from nasbench.tasks import SPLITS, Task, apply, item_count
from nasbench.testing._run import CheckResult

__all__ = ["check_task"]

_BATCH = 16

_SIZES = {
    "classification": "num_classes",
    "forecasting": "horizon",
    "segmentation": "num_classes",
    "detection": "num_classes",
    "super-resolution": "scale",
    "series-classification": "num_classes",
}
"""For each kind of task, the argument of a model that says how large its output is."""


def check_task(task: Task) -> list[CheckResult]:
    """Check a task.

    The checks read every item of `val` and two epochs of `train`, but only the first batch of `test`.
    """
    checks = (_attributes, _validation_is_whole, _batches_repeat, _training_is_shuffled, _loss, _metrics, _description)
    return [_run(check, task) for check in checks]


def _run(check: Callable[[Task], str], task: Task) -> CheckResult:
    try:
        message = check(task)
    except (Exception, SystemExit) as error:  # also SystemExit, because user code can call sys.exit
        lines = message_of(error).strip().splitlines()
        message = f"{type(error).__name__}: {lines[0] if lines else ''}"
    # A check's docstring is its title in the results.
    return CheckResult(str(check.__doc__).splitlines()[0].rstrip("."), task.name, task.kind, not message, message)


def _attributes(task: Task) -> str:
    """Declares splits, metrics and sizes."""
    if task.kind not in _SIZES:
        return f"`kind` must be one of {', '.join(_SIZES)}, got {task.kind!r}"
    missing = [split for split in SPLITS if split not in task.splits]
    if missing:
        return f"`splits` has no {', '.join(missing)}"
    if task.metric not in task.metrics:
        return f"`metric` is {task.metric!r}, which is not in `metrics` ({', '.join(task.metrics)})"
    wrong = {k: v for k, v in task.metrics.items() if v not in ("maximize", "minimize")}
    if wrong:
        return f"`metrics` must map each name to maximize or minimize, got {wrong}"
    wanted = _SIZES[task.kind]
    return "" if wanted in task.model_kwargs else f"`model_kwargs` has no {wanted!r}"


def _validation_is_whole(task: Task) -> str:
    """Gives every validation item exactly once."""
    x, y = zip(*task.eval_batches("val", _BATCH), strict=True)
    shapes = {tuple(batch.shape[1:]) for batch in x}
    if shapes != {tuple(task.input_size)} and not task.any_size:
        return f"items have shapes {shapes}, but `input_size` is {tuple(task.input_size)}"
    items, targets = sum(map(item_count, x)), sum(map(item_count, y))
    if items != task.splits["val"] or targets != items:
        return f"there are {items} validation items and {targets} targets, but `splits` declares {task.splits['val']}"
    # As little of the test split as possible is read.
    first = next(iter(task.eval_batches("test", _BATCH)))[0]
    fits = task.any_size or tuple(first.shape[1:]) == tuple(task.input_size)
    return "" if fits else f"test items have shape {tuple(first.shape[1:])}"


def _batches_repeat(task: Task) -> str:
    """Always gives the same evaluation batches, and the same training batches for the same seed and epoch."""
    for name, batches in (
        ("evaluation", lambda: task.eval_batches("val", _BATCH)),
        ("training", lambda: task.train_batches(_BATCH, seed=0, epoch=1)),
    ):
        once, again = list(batches()), list(batches())
        same = len(once) == len(again) and all(_equal(one, two) for one, two in zip(once, again, strict=True))
        if not same:
            return f"{name} batches differ when they are read again"
    return ""


def _training_is_shuffled(task: Task) -> str:
    """Shuffles the training split in each epoch, and leaves out at most one item."""
    one = [x for x, _ in task.train_batches(_BATCH, seed=0, epoch=1)]
    two = [x for x, _ in task.train_batches(_BATCH, seed=0, epoch=2)]
    items = sum(map(item_count, one))
    # A last batch of a single item can be left out, because batch norms cannot train on it.
    if not task.splits["train"] - 1 <= items <= task.splits["train"]:
        return f"an epoch has {items} training items, `splits` declares {task.splits['train']} (1 can be left out)"
    if task.splits["train"] > _BATCH and all(_equal(a, b) for a, b in zip(one, two, strict=False)):
        return "two epochs have the same order"
    return ""


def _loss(task: Task) -> str:
    """Has a finite and differentiable loss."""
    model = _model(task)
    for inputs, targets in islice(task.train_batches(_BATCH, seed=0, epoch=1), 2):
        loss = task.loss(model, apply(model, inputs), targets)
        if loss.ndim or not math.isfinite(float(loss.detach())):
            return f"the loss of random outputs is {loss!r}, expected a finite scalar"
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not gradients or not all(bool(each.isfinite().all()) for each in gradients):
            return "the loss has no finite gradient"
    return ""


def _metrics(task: Task) -> str:
    """Has a primary metric that is the mean of the values of the items."""
    model, count = _model(task).eval(), 0
    meter = task.meter("val")
    with torch.no_grad():
        for inputs, targets in task.eval_batches("val", _BATCH):
            meter.update(task.predictions(model, apply(model, inputs), targets), targets)
            count += item_count(inputs)
    values, items = meter.result()
    if task.metric not in values or not set(values) <= set(task.metrics):
        return f"evaluation returns {sorted(values)}, but `metrics` declares {sorted(task.metrics)}"
    if len(items) != count:
        return f"evaluation returns {len(items)} values for {count} items"
    # Plans are compared item by item, so the mean over items must be the metric that is reported.
    if not math.isclose(float(items.mean()), values[task.metric], rel_tol=1e-4, abs_tol=1e-6):
        return f"the mean over items is {float(items.mean()):.6g}, but {task.metric} is {values[task.metric]:.6g}"
    return ""


def _description(task: Task) -> str:
    """Describes its data as JSON, in the same way at each call."""
    once, again = (json.dumps(task.describe(), sort_keys=True) for _ in range(2))
    return "" if once == again else "describe() differs from one call to the next"


def _equal(one: Any, two: Any) -> bool:
    """Return whether two nested values have the same tensors."""
    if isinstance(one, Mapping):
        return one.keys() == two.keys() and all(_equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(_equal, one, two))
    if one is None or isinstance(one, str):
        return bool(one == two)
    one, two = torch.as_tensor(one), torch.as_tensor(two)
    return bool(((one == two) | (one.isnan() & two.isnan())).all())  # padded steps of series are NaN


def _model(task: Task) -> nn.Module:
    """Return a model whose outputs have the right shape: random ones, or those of what it attaches to a small host."""
    torch.manual_seed(0)
    if task.head is None and not task.attaches_itself:
        return _Random(task)
    return task.model_of(_host(task))


def _host(task: Task) -> nn.Module:
    """Return a small host for a task: with levels if the task names a head."""
    size = task.input_size
    if task.head is not None and task.kind == "super-resolution":
        return create_dense("sr_residual", input_size=size)
    if task.head is not None:
        return create_dense("test_resnet", "fpn(width=32)", input_size=size)
    of_series = {"forecasting": "dlinear", "series-classification": "inception_time"}
    options = dict[str, Any](task.model_kwargs)
    return create_backbone(of_series.get(task.kind, "test_resnet"), input_size=size, **options)


class _Random(nn.Module):
    """Random logits `(B, K)`, or forecasts `(B, horizon, series)`, which depend on the number of items only."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        wanted = task.model_kwargs[_SIZES[task.kind]]
        self.shape = (wanted, task.input_size[1]) if task.kind == "forecasting" else (wanted,)
        self.outputs = nn.Parameter(torch.randn(4 * _BATCH, *self.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return one row of random numbers for each item."""
        return self.outputs[torch.arange(len(x)) % len(self.outputs)]
