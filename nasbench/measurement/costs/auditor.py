"""The auditor: torch's FlopCounterMode with additional formulas of this package. It can run while a model is traced.

The auditor counts multiply-adds below torch's dispatcher. The counter (`counter.py`) counts them in a traced graph. The
two counts are independent, so if they agree, both are probably right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from nasbench.measurement.costs import formulas
from nasbench.measurement.costs import inferred_shapes as inferred
from nasbench.measurement.costs.formulas import COMPLEX_FACTOR, Formula
from nasbench.measurement.costs.vocabulary import ELEMENTWISE, FREE, NORMS, unqualified

__all__ = ["Observer", "PythonSide", "flop_counter"]

aten = torch.ops.aten

# torch's formulas for these operators use only shapes, so they count a complex product as one real product.
_DTYPE_BLIND = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution)
_TRACER = torch._C._dispatch_key_parse("Tracer")


def flop_counter() -> FlopCounterMode:
    """Return a FlopCounterMode with this package's formulas added. A complex product counts as four real products."""
    mapping: dict[Any, Any] = {packet: _complex_aware(flop_registry[packet]) for packet in _DTYPE_BLIND}
    for name, formula in formulas.MAC_FORMULAS.items():
        packet = _packet(name)
        # Where torch has a formula, it is used, so that the audit is independent. A user's registered formula replaces
        # it.
        if packet is not None and (packet not in flop_registry or name in formulas.REGISTERED):
            mapping[packet] = _raw(_by_shapes(formula, name in formulas.REGISTERED))
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    return counter


class _NoModules(nullcontext[None]):
    """An empty replacement for FlopCounterMode's module tracker.

    The tracker would hook every module, but only totals are needed here.
    """

    parents = frozenset({"Global"})


def _packet(name: str) -> Any | None:
    """Return the operator with this name, or None if torch and the loaded libraries do not have it."""
    namespace, _, operator = name.partition("::")
    return getattr(getattr(torch.ops, namespace), operator, None) if operator else None


def _raw(function: Callable[..., int]) -> Callable[..., int]:
    function._get_raw = True  # type: ignore[attr-defined]  # makes FlopCounterMode pass tensors instead of shapes
    return function


def _complex_aware(base: Callable[..., int]) -> Callable[..., int]:
    def count(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        if any(isinstance(a, Tensor) and a.layout is not torch.strided for a in args):
            return 0  # only the stored elements are multiplied, so torch's count would not be a lower bound
        return base(*args, out_val=out_val, **kwargs) * (COMPLEX_FACTOR if _is_complex(args) else 1)

    return _raw(count)


def _by_shapes(formula: Formula, as_it_is: bool) -> Callable[..., int]:
    """Convert a formula of this package for FlopCounterMode, which counts 2 operations for each multiply-add.

    Args:
        formula: A function of shapes that returns multiply-adds.
        as_it_is: Whether the result is also used unchanged for complex tensors. This is right for a user's registered
            formula, which includes the factor for complex numbers.
    """

    def count(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        made = [tuple(t.shape) for t in tree_leaves(out_val) if isinstance(t, Tensor)]
        factor = COMPLEX_FACTOR if not as_it_is and _is_complex(args) else 1
        try:
            return 2 * factor * int(formula([_shape(a) for a in (*args, *kwargs.values())], made))
        except ValueError:  # the cost depends on data. The counter then names the operator
            return 0

    return count


def _is_complex(args: Iterable[Any]) -> bool:
    return any(isinstance(a, Tensor) and a.is_complex() for a in args)


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
        return [_shape(v) for v in value]
    return value


class PythonSide(TorchFunctionMode):
    """Tell the observer two things that can be seen only at the level of Python.

    First, a product inside an einsum or an outer product is a contraction, even without a sum. Second, a tensor that
    becomes a numpy array leaves torch, and computations with the array cannot be counted.

    Args:
        observer: The observer.
        kept: List to which the results of contractions are appended. None if they are not needed.
    """

    def __init__(self, observer: Observer, kept: list[Tensor] | None = None) -> None:
        super().__init__()
        self.observer = observer
        self.kept = kept

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _LEAVING:
            self.observer.left.add("Tensor.numpy")
        product = func in _OUTER_PRODUCTS
        before = self.observer.macs_so_far
        self.observer.in_product += product
        try:
            out = func(*args, **(kwargs or {}))
        finally:
            self.observer.in_product -= product
        if self.kept is not None and self.observer.macs_so_far > before:
            self.kept += [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        return out


_OUTER_PRODUCTS = (torch.functional.einsum, torch.outer, torch.ger, torch.kron, Tensor.outer, Tensor.ger)
_LEAVING = (Tensor.numpy, Tensor.__array__)


class Observer(TorchDispatchMode):
    """See every operator below the dispatcher, and pass it to FlopCounterMode once for each combination of shapes.

    The observer also records operators that are in no table, and counts products whose only use is a sum.

    It also makes a trace on the meta device correct. Without the observer, a convolution would not reach the operator
    that the tracer records, and the Python code that infers shapes would be traced too.

    Args:
        counter: A FlopCounterMode. It must be entered before this mode.
    """

    supports_higher_order_operators = True

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.counter = counter
        self.in_product = 0
        self.left: set[str] = set()
        self.seen: set[Any] = set()
        self.macs_so_far = 0
        # By id: the product, and whether only sums have used it so far. As long as a tensor is stored, its id is not
        # reused.
        self._products: dict[int, tuple[Tensor, bool]] = {}
        self._summed: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is compiled, and the wrapper that would prevent it takes more time than the counting.
        return False

    @property
    def macs(self) -> int:
        """The multiply-adds so far.

        They are those of FlopCounterMode, of products that only sums use, and of outer products.
        """
        return self.macs_so_far + sum(
            _products_macs(product) for key, (product, alone) in self._products.items() if alone and key in self._summed
        )

    def returned(self, outputs: Iterable[Tensor]) -> None:
        """Tell the observer the outputs of the model. A product that is itself an output is not a contraction."""
        for tensor in outputs:
            self._consumed(tensor, by_sum=False)

    def unknown(self) -> tuple[str, ...]:
        """Return the names of the executed operators that are in no table."""
        return tuple(sorted(self.left | {f._schema.name for f in self.seen if not _known(f)}))

    def formula(self) -> tuple[str, ...]:
        """Return the names of the executed operators that have a formula here, but none in FlopCounterMode."""
        names = {f._schema.name for f in self.seen if f._overloadpacket not in flop_registry}
        return tuple(sorted(names & formulas.MAC_FORMULAS.keys()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # torch.cond and similar operators get functions, which are not seen here
        if isinstance(func, HigherOrderOperator):
            self.left.add(f"higher_order::{func.name()}")
            return func(*args, **(kwargs or {}))
        if torch._C._get_tracing_state() is None:
            return self._observe(func, args, kwargs or {})
        # Inside the tracer's own kernels, its key is excluded. Here it is included again, so that the operators that
        # run here can be recorded. A few operators, such as `Tensor.data`, come from outside those kernels. If the key
        # stayed excluded after them, no later model of this process could be traced.
        excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(_TRACER)
        torch._C._dispatch_tls_set_dispatch_key_excluded(_TRACER, False)
        try:
            if func is aten.convolution.default:
                # The tracer skips `convolution` and waits for the `_convolution` inside it, which the meta kernel never
                # calls. So `_convolution` is called here, with this mode active again. Its flags choose a backend and
                # do not change the cost.
                with self:
                    return aten._convolution.default(*args, False, False, True, True)
            return self._untraced(func, args, kwargs or {})
        finally:
            torch._C._dispatch_tls_set_dispatch_key_excluded(_TRACER, excluded)

    def _untraced(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        # Shape inference on the meta device is Python code. Its operators must not enter the graph.
        state = torch._C._get_tracing_state()
        torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
        try:
            return self._observe(func, args, kwargs)
        finally:
            torch._C._set_tracing_state(state)  # type: ignore[attr-defined]

    def _observe(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func is aten._convolution.default:
            func, args = aten.convolution.default, args[:9]  # the other arguments are flags that choose a backend
        self.seen.add(func)
        if self._products:
            self._note_consumers(args, func is aten.sum.default or func is aten.sum.dim_IntList)
        out, macs = self._run(func, args, kwargs)
        self.macs_so_far += macs
        # A product of integers is index arithmetic, unless it is written as a contraction.
        if func in _MULTIPLY and (self.in_product or out.is_floating_point() or out.is_complex()):
            self._note_product(out)
        return out

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, int]:
        """Run `func`, or recreate its outputs if the same call was made before.

        Returns:
            The outputs and the number of multiply-adds.
        """
        key = inferred.call_key(func, args, kwargs)
        known = inferred.recalled(key, args)
        if known is not None:
            return known
        before = self.counter.get_total_flops()
        out = func(*args, **kwargs)
        # FlopCounterMode counts 2 operations for each multiply-add
        macs = (self.counter.get_total_flops() - before) // 2
        inferred.remember(key, out, macs)
        return out, macs

    def _note_product(self, out: Tensor) -> None:
        if self.in_product:  # an outer product such as "bi,bj->bij" has no sum, but counts as a contraction
            self.macs_so_far += _products_macs(out)
        else:
            self._products[id(out)] = (out, True)

    def _note_consumers(self, args: Any, by_sum: bool) -> None:
        for value in args:
            if isinstance(value, Tensor):
                self._consumed(value, by_sum=by_sum)
            elif isinstance(value, list | tuple):
                self._note_consumers(value, by_sum=False)

    def _consumed(self, tensor: Tensor, *, by_sum: bool) -> None:
        key = id(tensor)
        if key not in self._products:
            return
        if by_sum:
            self._summed.add(key)
        else:
            self._products[key] = (tensor, False)


_MULTIPLY = (aten.mul.Tensor, aten.mul.Scalar, aten.mul_.Tensor, aten.mul_.Scalar)


def _products_macs(product: Tensor) -> int:
    return product.numel() * (COMPLEX_FACTOR if product.is_complex() else 1)


@functools.cache
def _known_name(name: str) -> bool:
    return unqualified(name) in _VOCABULARY and name.startswith("aten::")


_VOCABULARY = ELEMENTWISE | FREE | NORMS


def _known(func: Any) -> bool:
    name = func._schema.name
    return (
        _known_name(name)
        or func._overloadpacket in flop_registry
        or name in formulas.MAC_FORMULAS
        or name in formulas.ELEMENTWISE_FORMULAS
        or func.namespace in ("prim", "profiler")
    )
