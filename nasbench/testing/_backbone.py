"""The contract of a user's backbone: it can be built and run, has slots, and accepts a module in each slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nasbench.backbones import Slot, create_backbone, insertion, slots
from nasbench.backbones.dense import create_dense
from nasbench.backbones.factory import takes_argument
from nasbench.backbones.names import is_file
from nasbench.backbones.output import output_fault, wanted_output
from nasbench.errors import message_of
from nasbench.measurement.costs import measure
from nasbench.tasks import Task
from nasbench.testing._candidate import seeded
from nasbench.testing._run import CheckResult

__all__ = ["check_backbone"]

_PROBE = "se"  # this module supports 1-D and 2-D maps and every channel count


def check_backbone(
    name: str,
    *,
    input_size: Sequence[int] = (3, 64, 64),
    num_classes: int | None = 7,
    horizon: int | None = None,
    padded: bool = False,
    task: Task | None = None,
) -> list[CheckResult]:
    """Check a backbone: `FILE.py:build`, a timm name or a built-in backbone.

    Args:
        name: A backbone in any form that `nasbench.insert` accepts, as text.
        input_size: Size of one input: (3, H, W), or (lookback, series).
        num_classes: Number of classes for which a backbone is built. A user's function without this argument can
            have any number.
        horizon: Number of forecast steps for which a forecasting backbone is built. If it is given, `num_classes` is
            not used.
        padded: Whether to build a backbone that classifies series of unequal lengths. One of the inputs is then NaN
            at its end.
        task: The task that the backbone is for. If it is given, its sizes are used and the other arguments are not. If
            it has a head, the backbone is checked together with the head.

    Returns:
        One result for each check. If a check fails, later checks that depend on it are not run.
    """
    size = tuple(input_size)
    kwargs: dict[str, Any] = {"horizon": horizon} if horizon is not None else {"num_classes": num_classes}
    kwargs |= {"padded": True} if padded else {}
    if task is not None:
        size, kwargs = task.input_size, dict(task.model_kwargs)
        num_classes, horizon, padded = kwargs.get("num_classes"), kwargs.get("horizon"), bool(kwargs.get("padded"))
    has_head = task is not None and task.head is not None
    results: list[CheckResult] = []
    host: nn.Module | None = None
    model: nn.Module | None = None
    places: list[Slot] = []

    def check(title: str, test: Callable[[], str]) -> bool:
        try:
            with seeded():
                message = test()
        except (Exception, SystemExit) as error:  # also SystemExit, because user code can call sys.exit
            lines = message_of(error).strip().splitlines()
            message = f"{type(error).__name__}: {lines[0] if lines else ''}"
        results.append(CheckResult(title, name, "x".join(map(str, size)), not message, message))
        return not message

    def inputs(count: int) -> Tensor:
        x = torch.randn(count, *size)
        if padded:
            x[0, 3 * size[0] // 4 :] = torch.nan
        return x

    def builds() -> str:
        nonlocal host, model
        if task is not None and has_head:
            host = create_dense(name, task.neck, input_size=size, head=task.head)
        else:
            host = create_backbone(name, input_size=size, **kwargs)
        model = (host if task is None else task.model_of(host)).eval()
        return ""

    def answers() -> str:
        assert model is not None
        y = _run(model, inputs(2))
        free = task is None and is_file(name) and not takes_argument(name, "num_classes")
        expected = None if free else num_classes
        fault = "" if has_head else output_fault(y, wanted_output(size, num_classes=expected, horizon=horizon))
        if fault:
            way = "; give the task that the backbone is for: --task TASK"
            return fault + (way if task is None and isinstance(y, Tensor) else "")
        if task is None and horizon is None and expected is not None:
            # A network with a fixed number of outputs can have that of the first by chance.
            other = create_backbone(name, input_size=size, **kwargs | {"num_classes": expected + 1}).eval()
            if fault := output_fault(_run(other, inputs(2)), (expected + 1,)):
                return f"with num_classes={expected + 1}, {fault}"
        finite = all(bool(each.isfinite().all()) for each in tree_leaves(y))
        return "" if finite else "the output is not finite"

    def repeats() -> str:
        assert model is not None
        x = inputs(2)
        with torch.no_grad():
            return "" if _equal(model(x), model(x)) else "two runs in eval mode differ"

    def trains() -> str:
        assert model is not None
        y = model.train()(inputs(4))
        model.zero_grad(set_to_none=True)
        sum(each.square().mean() for each in tree_leaves(y) if each.requires_grad).backward()
        model.eval()
        silent = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
        return f"no gradient reaches {', '.join(silent[:3])}" if silent else ""

    def has_slots() -> str:
        nonlocal places
        assert host is not None
        places = slots(host, size)
        return "" if places else "no slot was found"

    def starts_unchanged() -> str:
        assert host is not None
        x = inputs(2)
        bare = _run(host, x)
        for slot in places:
            # The outputs must be equal bit for bit, because pretrained weights must stay valid.
            if not _equal(_run(_with(host, slot, size, True), x), bare):
                return f"a module at {slot.name} changes the output before training"
        return ""

    def reaches_the_output() -> str:
        # of the host, because a head can start at zero
        assert host is not None
        x = inputs(2)
        bare = _run(host, x)
        for slot in places:
            # Without the gate, a module must change the output. Otherwise the network does not use its slot.
            if _equal(_run(_with(host, slot, size, False), x), bare):
                return f"a module at {slot.name} does not reach the output"
        return ""

    def counts() -> str:
        assert model is not None
        cost = measure(model, input_size=size)
        return "" if cost.exact else f"MACs are a lower bound: no formula for {', '.join(cost.unknown_ops)}"

    if check("builds", builds) and check("gives the output asked for", answers):
        check("repeats itself in eval mode", repeats)
        check("trains every parameter", trains)
        check("is counted exactly", counts)
        if check("has slots", has_slots):
            check("starts unchanged with a module in any slot", starts_unchanged)
            check("a module in any slot reaches the output", reaches_the_output)
    return results


def _with(model: nn.Module, slot: Slot, size: tuple[int, ...], identity_init: bool) -> nn.Module:
    return insertion.insert(model, {slot.name: _PROBE}, input_size=size, identity_init=identity_init).eval()


def _run(model: nn.Module, x: Tensor) -> Any:
    with torch.no_grad(), seeded():
        return model(x)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two outputs, which can be nested, are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True))
