"""A model as Python source that needs only torch, timm and safetensors."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from nasbench import backbones
from nasbench.backbones import Slot
from nasbench.backbones.dense import DenseHost
from nasbench.backbones.factory import is_file, sr_class, stem_arguments, timm_arguments
from nasbench.backbones.hooks import CHILD, Plugin, Plugins, attach
from nasbench.backbones.layout import MapFormat
from nasbench.backbones.names import is_sr_stem, is_timm
from nasbench.backbones.stem_registry import STEMS
from nasbench.errors import UnsupportedError
from nasbench.library.building import Branches, Rowwise
from nasbench.library.expression import Expression, Fused, Leaf, Series, parse, runs_rowwise
from nasbench.library.modules import module_spec
from nasbench.library.plan import NECK, Plan
from nasbench.library.plugins import load_python_file
from nasbench.ops.headed import DenseModel, PyramidHost
from nasbench.ops.pyramid import SimplePyramid
from nasbench.report.export.inline import Inliner
from nasbench.tasks import Task

__all__ = ["DenseParts", "model_source"]


@dataclass(frozen=True)
class DenseParts:
    """The parts of the model of a dense task, beside its backbone and its plan.

    Attributes:
        host: The host in the model.
        neck: The neck of the host without a plan, as an expression.
        head: The head, as an expression.
    """

    host: DenseHost
    neck: str
    head: str


def model_source(
    backbone: str,
    plan: Plan,
    slots: Sequence[Slot],
    *,
    input_size: Sequence[int],
    model_kwargs: dict[str, Any],
    identity_init: bool,
    title: str,
    dense: DenseParts | None = None,
    task: Task | None = None,
) -> str:
    """Return the source of `model.py`. Its `build()` returns the model, and its `load()` the model with its weights.

    Args:
        backbone: A timm name, a built-in forecasting backbone, or `FILE.py:function`.
        plan: The plan in the backbone.
        slots: Slots of the backbone.
        input_size: Input size without the batch dimension.
        model_kwargs: What the task decides about the model: `num_classes`, or `horizon` and `covariates`.
        identity_init: Whether plug-ins have gates, as in `insert`.
        title: First line of the docstring of `model.py`.
        dense: The parts of the model of a dense task. None if the backbone ends the model.
        task: The task, if its class has an `attach` of its own, which makes the model of its host.

    Raises:
        UnsupportedError: If the source of a part cannot be read, or if `attach` needs more of the task than numbers,
            texts, and lists, tuples and dicts of them.
    """
    writer = _Writer()
    used = [slot for slot in slots if slot.name in plan and slot.name != NECK]
    for part in (Plugin, Plugins, attach, MapFormat) if used else ():
        writer.need(part)
    modules = {slot.name: (slot, plan[slot.name]) for slot in used}
    for slot, expression in modules.values():
        writer.collect(expression, slot)
    if dense is not None:
        host, head = writer.dense(backbone, dense, plan.get(NECK, parse(dense.neck)), model_kwargs)
    else:
        host, head = writer.host(backbone, tuple(input_size), model_kwargs), None
    if task is not None:
        bare = backbones.create_backbone(backbone, input_size=tuple(input_size), **model_kwargs)
        head = writer.attach(task, bare)
    body = [f"    model = {host()}"]
    if used:
        body.append("    plugins = {")
        for slot, expression in modules.values():
            gated = identity_init and not expression.starts_as_identity
            inner = writer.build(expression, slot)
            body.append(f'        "{slot.name}": Plugin({inner}, {_format(slot.format)}, gated={gated}),')
        body.append("    }")
        body += [
            f'    attach(model, "{slot.module}", plugins["{slot.name}"], {slot.index}, "{slot.entry}")  # {slot.name}'
            for slot in used
        ]
        body.append(f'    model.add_module("{CHILD}", Plugins(plugins, {{}}))')
    if head is not None:
        body.append(f"    model = {head()}")
    top = f'"""{title}\n\nWritten by `nasbench export`; it needs torch, timm and safetensors.\n"""\n\n'
    return (
        top
        + "from __future__ import annotations\n\n"
        + writer.inliner.source
        + _FUNCTIONS.format(body="\n".join(body), size=tuple(input_size))
    )


_FUNCTIONS = '''

def build() -> nn.Module:
    """Return the model with initial weights. Its input is `(B, *{size})`."""
{body}
    return model


def load(folder: str | Path = Path(__file__).parent) -> nn.Module:
    """Return the model with its trained weights, in eval mode."""
    model = build()
    load_model(model, str(Path(folder) / "model.safetensors"))
    return model.eval()
'''


class _Writer:
    """Collects the definitions that the source needs, then writes the calls that build the model."""

    def __init__(self) -> None:
        self.inliner = Inliner(reserved=("build", "load"))
        for name, statement in (("nn", "from torch import nn"), ("Path", "from pathlib import Path")):
            self.inliner.imports(name, statement)
        self.inliner.imports("load_model", "from safetensors.torch import load_model")

    def need(self, thing: Any) -> None:
        self.inliner.need(thing)

    def collect(self, expression: Expression, slot: Slot) -> None:
        """Add the classes that an expression needs."""
        for spec in expression.specs():
            for cls in _written(spec.cls):
                self.need(cls)
            if slot.rows_are_series and slot.dims not in spec.dims:
                self.need(Rowwise)
        if _has_branches(expression):
            self.need(Branches)

    def host(self, backbone: str, size: tuple[int, ...], model_kwargs: dict[str, Any]) -> Any:
        """Add the definitions that the backbone needs. Return a function that returns the code to build the backbone.

        The code is written later, because the names in it can still get numbers when other definitions are added.
        """
        if is_file(backbone):
            file, _, function = backbone.rpartition(":")
            build = getattr(load_python_file(Path(file)), function)
            self.need(build)
            known = inspect.signature(build).parameters
            anything = any(p.kind is p.VAR_KEYWORD for p in known.values())
            given = {k: v for k, v in {"input_size": size, **model_kwargs}.items() if k in known or anything}
            return lambda: f"{self.inliner.name(build)}({_keywords(given)})"
        if backbones.is_stem(backbone):
            cls = STEMS.get(backbone)
            self.need(cls)
            given = stem_arguments(backbone, size, **model_kwargs)
            return lambda: f"{self.inliner.name(cls)}({_keywords(given)})"
        if is_sr_stem(backbone):
            stem = sr_class(backbone)
            self.need(stem)
            return lambda: f"{self.inliner.name(stem)}()"
        self.inliner.imports("timm", "import timm")
        for given in timm_arguments(backbone, size, num_classes=model_kwargs.get("num_classes")):
            try:
                # On the meta device nothing is allocated. This only tests whether timm accepts these arguments.
                with torch.device("meta"):
                    timm.create_model(backbone, **given)
            except TypeError:
                continue
            return lambda: f'timm.create_model("{backbone}", {_keywords(given)})'
        raise UnsupportedError(f"timm cannot build {backbone} for {size}")

    def dense(
        self, backbone: str, parts: DenseParts, neck: Expression, model_kwargs: dict[str, Any]
    ) -> tuple[Callable[[], str], Callable[[], str]]:
        """Add the definitions of a dense host and of its head.

        Returns:
            Two functions, as that of `host`. The second one's code puts the head on `model`.
        """
        host, head = parts.host, parse(parts.head)
        assert isinstance(head, Leaf)
        if is_timm(backbone):
            self.inliner.imports("timm", "import timm")
            inner: Callable[[], str] = lambda: f'timm.create_model("{backbone}", {_keywords(host.timm_arguments)})'  # noqa: E731
        else:
            inner = self.host(backbone, host.input_size, {})
        self.need(PyramidHost)
        self.need(DenseModel)
        self.inliner.need(module_spec(head.name).cls, without=("loss",))  # the model is trained already
        if isinstance(neck, Leaf):
            self.need(module_spec(neck.name).cls)
        if isinstance(host.pyramid, SimplePyramid):
            self.need(SimplePyramid)

        def host_code() -> str:
            indent = "\n        "
            pyramid, joined = "nn.Identity()", "nn.Identity()"
            if isinstance(neck, Leaf):
                joined = self._call(neck.name, list(host.pyramid_channels), dict(neck.hyper), {})
            if isinstance(host.pyramid, SimplePyramid):
                pyramid = f"{self.inliner.name(SimplePyramid)}({host.pyramid.map_channels}, {host.pyramid.octaves})"
            return (
                f"{self.inliner.name(PyramidHost)}({indent}"
                f"{inner()},{indent}{pyramid},{indent}"
                f"{joined},{indent}levels={len(host.strides)},{indent}channels_last={host.channels_last},\n    )"
            )

        def head_code() -> str:
            socket = {**model_kwargs, "strides": list(host.strides)}
            built = self._call(head.name, list(host.channels), dict(head.hyper), socket)
            return f"{self.inliner.name(DenseModel)}(model, {built})"

        return host_code, head_code

    def attach(self, task: Task, host: nn.Module) -> Callable[[], str]:
        """Add a task's own `attach` as a function.

        Returns:
            A function, as that of `host`. Its code calls `attach` on `model`, with what `attach` reads from the task in
            the place of the task.
        """
        method = type(task).attach
        self.need(method)
        self.inliner.imports("SimpleNamespace", "from types import SimpleNamespace")
        given = _read_by_attach(task, host)
        return lambda: f"{self.inliner.name(method)}(SimpleNamespace({_keywords(given)}), model)"

    def build(self, expression: Expression, slot: Slot) -> str:
        """Return code that builds an expression for a slot, as `nasbench.library.building.build` does."""
        channels, dims = slot.channels, slot.dims
        if isinstance(expression, Leaf):
            if slot.rows_are_series and runs_rowwise(expression, dims):
                inner = self._call(expression.name, channels, dict(expression.hyper), _socket(1))
                return f"{self.inliner.name(Rowwise)}({inner})"
            return self._call(expression.name, channels, dict(expression.hyper), _socket(dims))
        if isinstance(expression, Series):
            inner = ", ".join(self.build(part, slot) for part in expression.parts)
            return f"nn.Sequential({inner})" if inner else "nn.Identity()"
        assert isinstance(expression, Fused)
        branches = ", ".join(self.build(branch, slot) for branch in expression.branches)
        socket = _socket(dims, len(expression.branches))
        fusion = self._call(expression.fusion, channels, dict(expression.hyper), socket)
        return f"{self.inliner.name(Branches)}([{branches}], {fusion})"

    def _call(self, name: str, channels: int | list[int], hyper: dict[str, Any], socket: dict[str, Any]) -> str:
        spec = module_spec(name)
        row = getattr(spec.cls, "row", None)
        if row is not None:  # a factory made the class from a row of data, so the class has no source
            complete = {key: hyper.get(key, default) for key, (_, default) in row.options.items()}
            base, _ = _written(spec.cls)
            return f"{self.inliner.name(base)}({row!r}, {channels}, {complete!r})"
        given = {key: value for key, value in socket.items() if key in spec.socket} | hyper
        return f"{self.inliner.name(spec.cls)}({channels}{', ' if given else ''}{_keywords(given)})"


def _read_by_attach(task: Task, host: nn.Module) -> dict[str, Any]:
    """Run a task's own `attach` on a host, and return the attributes of the task that it reads, by name.

    Raises:
        UnsupportedError: If one of them cannot be written as a literal, or if `attach` calls `super()`.
    """
    read: dict[str, Any] = {}

    class Asked:
        def __getattr__(self, name: str) -> Any:
            value = getattr(task, name)
            read[name] = dict(value) if isinstance(value, Mapping) else value
            return value

    try:
        type(task).attach(Asked(), host)  # type: ignore[arg-type]
    except TypeError as error:
        raise UnsupportedError(
            f"attach of {task.name} runs only in its class, so it cannot be exported: {error}"
        ) from None
    for name, value in read.items():
        if not _is_literal(value):
            raise UnsupportedError(
                f"attach of {task.name} reads `self.{name}`, a {type(value).__name__}, which cannot be written into "
                "model.py; let it read numbers, texts, and lists, tuples and dicts of them"
            )
    return read


def _is_literal(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def _socket(dims: int, inputs: int = 2) -> dict[str, Any]:
    """Return what a slot tells a module, if the module asks for it."""
    return {"dims": dims, "inputs": inputs}


def _written(cls: type) -> tuple[type, ...]:
    """Return the classes whose source is copied for `cls`: itself or, if a factory made it, its base and its row."""
    row = getattr(cls, "row", None)
    return (cls,) if row is None else (cls.__mro__[1], type(row))


def _has_branches(expression: Expression) -> bool:
    if isinstance(expression, Fused):
        return True
    return isinstance(expression, Series) and any(_has_branches(part) for part in expression.parts)


def _format(form: MapFormat) -> str:
    text = f'MapFormat("{form.layout}", {form.channels}, {form.size}'
    text += f", prefix={form.prefix}" if form.prefix else ""
    text += f", order={form.order}" if form.order is not None else ""
    return text + (f", image={form.image}" if form.image is not None and form.folded else "") + ")"


def _keywords(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in given.items())
