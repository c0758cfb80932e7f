"""The counter: fvcore on a traced graph. This package adds handles for what fvcore does not count or counts wrongly."""

from __future__ import annotations

import functools
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from nasbench.measurement.costs import formulas
from nasbench.measurement.costs.formulas import COMPLEX_FACTOR, Formula
from nasbench.measurement.costs.vocabulary import ELEMENTWISE, FREE, NORMS

# when fvcore is imported, it compiles its focal loss with torch.jit.script, and recent versions of torch warn
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import addmm_flop_jit, bmm_flop_jit, conv_flop_jit

__all__ = ["GraphCount", "Opaque", "graph_count"]

Handle = Callable[[list[Any], list[Any]], "Counter[str]"]

# The contractions that fvcore counts correctly for real numbers.
_STOCK = {
    "aten::_convolution": conv_flop_jit,
    "aten::addmm": addmm_flop_jit,
    "aten::bmm": bmm_flop_jit,
    "aten::mm": bmm_flop_jit,
}


@dataclass(frozen=True)
class GraphCount:
    """The counts of a traced graph.

    Attributes:
        macs: Number of multiply-adds, by operator.
        elementwise_flops: Number of elementwise operations, by operator.
        activations: Number of elements in the outputs of contractions.
        unknown: Operators that are in no table.
        formula: Operators that formulas of this package count.
        hidden: Number of multiply-adds of autograd functions and scripts, from formulas. The trace does not show the
            operators inside these.
    """

    macs: dict[str, int]
    elementwise_flops: dict[str, int]
    activations: int
    unknown: tuple[str, ...]
    formula: tuple[str, ...]
    hidden: int


class Opaque(nn.Module):
    """A wrapper of a model and its inputs, with which a trace has plain tensors as inputs and outputs.

    fvcore sees only this wrapper, so it hooks no part of the model.

    Attributes:
        tensors: The tensors among the inputs. Call the wrapper with them.
        outputs: The tensors in the output of the last run.
        kept: Further tensors that the wrapper returns. If they were not returned, the trace would drop the operators
            that made them, because nothing would use their results.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Any], kept: list[Tensor] | None = None) -> None:
        super().__init__()
        self.kept = [] if kept is None else kept
        self.inner = (model,)  # stored in a tuple, so that torch does not register the model as a submodule
        self.leaves, self.spec = tree_flatten(tuple(inputs))
        self.tensors = tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))
        self.outputs: list[Tensor] = []

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        """Run the model with `tensors` among its inputs, and return all tensors of its output as a flat list."""
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        output = self.inner[0](*tree_unflatten(leaves, self.spec))
        self.outputs = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        return [*self.outputs, *self.kept]


def graph_count(model: Opaque) -> GraphCount:
    """Trace `model` once, and count every node of the graph."""
    # fvcore's own handles count norms and other elementwise work as MACs, so all these handles are removed.
    analysis = FlopCountAnalysis(model, model.tensors).clear_op_handles()
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle(**_handles(), **dict.fromkeys(_free(), None))
    # A key in a handle's result names a quantity and an operator, such as "macs aten::mm". So one trace gives all
    # quantities.
    counted: dict[str, dict[str, int]] = {}
    for key, value in analysis.by_operator().items():
        what, _, operator = key.partition(" ")
        counted.setdefault(what, {})[operator] = int(value)
    unknown = {_shown_name(kind) for kind in analysis.unsupported_ops()} | set(counted.get("unknown", {}))
    return GraphCount(
        macs=counted.get("macs", {}),
        elementwise_flops=counted.get("elementwise", {}),
        activations=sum(counted.get("activations", {}).values()),
        unknown=tuple(sorted(unknown)),
        formula=tuple(sorted(counted.get("formula", {}))),
        hidden=sum(counted.get("hidden", {}).values()),
    )


def _shown_name(kind: str) -> str:
    """Return the name for messages: MyFunction for the autograd function `prim::PythonOp.MyFunction`."""
    return kind.removeprefix("prim::PythonOp.")


@functools.cache
def _fixed_handles() -> dict[str, Handle]:
    """Return the handles of torch's own operators. They are built once in each process."""
    handles: dict[str, Handle] = {}
    for name in sorted(ELEMENTWISE | NORMS):
        factor = 5 if name in NORMS else 1
        for kind in (f"aten::{name}", f"aten::{name}_"):
            handles[kind] = _pointwise(kind, factor)
    for kind, stock in _STOCK.items():
        handles[kind] = _contraction(kind, stock)
    for kind in _PRODUCTS:
        handles[kind] = _multiply(kind, handles[kind])
    handles["aten::sum"] = _sum(handles["aten::sum"])
    for kind in ("prim::CallFunction", "prim::CallMethod", "prim::If", "prim::Loop"):
        handles[kind] = _script
    return handles


@functools.cache
def _free() -> tuple[str, ...]:
    marks_of_the_profiler = [f"profiler::_record_function_{what}" for what in ("enter", "enter_new", "exit")]
    return (*(f"aten::{name}{mark}" for name in sorted(FREE) for mark in ("", "_")), *marks_of_the_profiler)


def _handles() -> dict[str, Handle]:
    # Not cached, because a formula can be registered at any time. They come last, so they replace fixed handles.
    own = {
        _node_kind(name): _formula(name, formulas.MAC_FORMULAS.get(name), formulas.ELEMENTWISE_FORMULAS.get(name))
        for name in formulas.MAC_FORMULAS.keys() | formulas.ELEMENTWISE_FORMULAS.keys()
    }
    return {**_fixed_handles(), **own}


def _node_kind(name: str) -> str:
    return name if "::" in name else f"prim::PythonOp.{name}"


def _tensors(values: list[Any]) -> list[Any]:
    """Return the tensor values, including those inside lists."""
    tensors = []
    for value in values:
        if value.isCompleteTensor():
            tensors.append(value.type())
        elif value.node().kind() == "prim::ListConstruct":
            tensors += _tensors(list(value.node().inputs()))
    return tensors


def _numeric(types: list[Any]) -> bool:
    """Return whether any tensor is floating-point or complex. Arithmetic on integers alone is indexing and is free."""
    return any(t.dtype() is not None and (t.dtype().is_floating_point or t.dtype().is_complex) for t in types)


def _factor(types: list[Any]) -> int:
    return COMPLEX_FACTOR if any(t.dtype() is not None and t.dtype().is_complex for t in types) else 1


def _pointwise(kind: str, factor: int) -> Handle:
    key = f"elementwise {kind}"

    # The convention is one operation for each output element of a pointwise operator, and one for each input element of
    # a reduction. The larger of input and output is right for both. For a norm (factor 5) only the input counts, not
    # its statistics and weights.
    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        given = _tensors(inputs[:1] if factor > 1 else inputs)
        if not _numeric(given):
            return Counter()
        sizes = [math.prod(t.sizes()) for t in given + ([] if factor > 1 else _tensors(outputs))]
        return Counter({key: factor * max(sizes)})

    return handle


def _contraction(kind: str, stock: Callable[[list[Any], list[Any]], Any]) -> Handle:
    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        stock_count = stock(inputs, outputs)
        macs = sum(stock_count.values()) if isinstance(stock_count, dict) else stock_count
        return _counted(kind, macs * _factor(_tensors(inputs)), outputs)

    return handle


def _counted(kind: str, macs: int, outputs: list[Any]) -> Counter[str]:
    return Counter({f"macs {kind}": macs, f"activations {kind}": math.prod(outputs[0].type().sizes())})


_PRODUCTS = ("aten::mul", "aten::mul_", "aten::multiply", "aten::multiply_")


def _summed(product: Any) -> bool:
    """Return whether only `aten::sum` uses this product. Product and sum are then one contraction."""
    return {use.user.kind() for use in product.uses()} == {"aten::sum"} and _numeric(_tensors([product]))


def _multiply(kind: str, plain: Handle) -> Handle:
    """Return the handle of a product. It is a contraction if its only use is a sum, and elementwise otherwise."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        if not _summed(outputs[0]):
            return plain(inputs, outputs)
        types = _tensors(outputs)
        return Counter({f"macs {kind}": math.prod(types[0].sizes()) * _factor(types)})

    return handle


def _sum(plain: Handle) -> Handle:
    """Return the handle of a sum, which can be the second half of a contraction.

    The product has then counted the multiply-adds, including the additions. The outputs of the sum are the activations.
    """

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        if inputs[0].node().kind() in _PRODUCTS and _summed(inputs[0]):
            return Counter({"activations aten::sum": math.prod(outputs[0].type().sizes())})
        return plain(inputs, outputs)

    return handle


def _script(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count a scripted function or module. It needs a formula, because the trace does not show what is inside."""
    name = _script_name(inputs)
    if name not in formulas.REGISTERED:
        return Counter({f"unknown torch.jit.script {name}": 1})
    return _formula(name, formulas.MAC_FORMULAS[name], formulas.ELEMENTWISE_FORMULAS[name])(inputs[1:], outputs)


def _script_name(inputs: list[Any]) -> str:
    if inputs and inputs[0].node().kind() == "prim::Constant" and inputs[0].node().hasAttribute("name"):
        return str(inputs[0].node().s("name"))
    return "module" if inputs else "block"


def _formula(name: str, macs: Formula | None, elementwise: Formula | None) -> Handle:
    """Return a handle that passes the shapes of a call to the formulas."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        shapes, made = [_shape(v) for v in inputs], [s for s in map(_shape, outputs) if isinstance(s, tuple)]
        result: Counter[str] = Counter()
        try:
            if elementwise is not None:
                result[f"elementwise {name}"] = int(elementwise(shapes, made))
                result[f"formula {name}"] = macs is None or name in formulas.REGISTERED
            if macs is not None:
                # A registered formula counts complex products itself, because its author knows the operator.
                count = int(macs(shapes, made)) * (1 if name in formulas.REGISTERED else _factor(_tensors(inputs)))
                result[f"macs {name}"] = count
                result[f"activations {name}"] = math.prod(made[0]) if made and count else 0
                # Names without a namespace are names of autograd functions and scripts.
                result[f"hidden {name}"] = 0 if "::" in name else count
        except (TypeError, IndexError, KeyError, ValueError):
            return Counter({f"unknown {name}": 1})  # a shape that is not a constant in the trace
        return result

    return handle


def _shape(value: Any) -> Any:
    """Return a traced value in the form that a formula gets: shape, list of shapes, constant, or None if unknown."""
    if value.isCompleteTensor():
        return tuple(value.type().sizes())
    node = value.node()
    if node.kind() in ("prim::ListConstruct", "prim::TupleConstruct"):
        return [_shape(v) for v in node.inputs()]
    if node.kind() == "prim::Constant":
        constant = value.toIValue()
        return tuple(constant.shape) if isinstance(constant, torch.Tensor) else constant
    return None
