"""Run a network once, normally on the meta device, and record how data flows through it.

The record says which module computed each tensor, and from which other tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Call", "Node", "Ref", "Trace", "meta_copy", "trace"]

BATCH = 2  # not 1, so that a dimension of size 1 is not mistaken for the batch


@dataclass(frozen=True)
class Ref:
    """A tensor among the arguments of an operator.

    Attributes:
        node: Index of the tensor's node. None if the tensor does not depend on the network's input.
        shape: Shape of the tensor.
    """

    node: int | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One value of the data-flow graph.

    Attributes:
        parents: Indices of the nodes from which the value was computed.
        func: The operator that computed it. None for the network's input.
        args: The operator's positional arguments, with tensors as `Ref`.
        shape: Shape of the value.
    """

    parents: tuple[int, ...]
    func: Any
    args: tuple[Any, ...]
    shape: tuple[int, ...]

    @property
    def op(self) -> str:
        """The operator's name without its overload ("add", "native_layer_norm")."""
        return self.func.overloadpacket.__name__ if self.func is not None else "input"


@dataclass
class Call:
    """One call of one module: the nodes of its inputs, and the node of each output tensor.

    Attributes:
        inputs: Nodes of the module's tensor arguments.
        outputs: Pairs `(index, node)`. The index is None if the module returns the tensor itself. Otherwise it is the
            tensor's place in the tuple.
        span: The range `(start, stop)` of the nodes that were added during the call.
    """

    inputs: tuple[int, ...]
    outputs: tuple[tuple[int | None, int], ...]
    span: tuple[int, int]


@dataclass
class Trace:
    """The record of one run of a network.

    Attributes:
        model: The network that ran. It is usually a copy on the meta device.
        nodes: The data-flow graph in topological order. Node 0 is the input.
        calls: For each module path, the calls of the module.
        outputs: Nodes of the network's output.
        output: What the network returned.
    """

    model: nn.Module
    nodes: list[Node]
    calls: dict[str, list[Call]] = field(default_factory=dict)
    outputs: tuple[int, ...] = ()
    output: Any = None

    def last_uses(
        self, sources: Iterable[int], sinks: Iterable[int], span: tuple[int, int] | None = None
    ) -> dict[int, int]:
        """For every node on a path from `sources` to `sinks`, return the last node on any of these paths that uses it.

        Args:
            sources: The nodes at which the paths begin.
            sinks: The nodes at which the paths end.
            span: The range `(start, stop)` of nodes to search. None means all nodes.
        """
        start, stop = span or (0, len(self.nodes))
        live, ends = set(sources), set(sinks)
        # The forward loop collects in `live` every node that depends on a source. The backward loop keeps in `uses`
        # those on which a sink also depends.
        for index in range(start, stop):
            if any(parent in live for parent in self.nodes[index].parents):
                live.add(index)
        uses = {node: node for node in ends & live}
        for index in range(stop - 1, start - 1, -1):
            if index in uses:
                for parent in self.nodes[index].parents:
                    if parent in live:
                        # The loop goes backwards, so the first use that it finds is the last use in the run.
                        uses.setdefault(parent, index)
        return uses


class _Recorder(TorchDispatchMode):
    """Record the data flow of every operator. A write in place changes all tensors that share the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.node_of: dict[int, int] = {}
        # The recorded tensors, by storage. They are kept alive, because Python reuses the id of a freed object.
        self._alive: dict[int, list[Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = list(_tensors((args, kwargs)))
        parents = tuple(dict.fromkeys(self.node_of[id(t)] for t in tensors if id(t) in self.node_of))
        # An operator that returns one of its arguments wrote to it in place.
        known = {id(t) for t in tensors}
        for result in _tensors(out):
            if id(result) in known:
                self._write(result, parents, func)
            elif parents:
                self.add(result, Node(parents, func, self._refs(args), tuple(result.shape)))
        return out

    def _refs(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return Ref(self.node_of.get(id(value)), tuple(value.shape))
        return type(value)(map(self._refs, value)) if isinstance(value, (list, tuple)) else value

    def add(self, tensor: Tensor, node: Node) -> None:
        """Add a node as the new value of a tensor."""
        known = id(tensor) in self.node_of
        self.nodes.append(node)
        self.node_of[id(tensor)] = len(self.nodes) - 1
        if not known:
            # On the meta device all data pointers are 0, so the storage object itself is the key.
            self._alive.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)

    def _write(self, target: Tensor, parents: tuple[int, ...], func: Any) -> None:
        """Record that an operator wrote to `target` in place. All tensors that share its memory changed with it."""
        shared = self._alive.get(target.untyped_storage()._cdata, [])
        for tensor in shared if any(t is target for t in shared) else [*shared, target]:
            own = self.node_of.get(id(tensor))
            # A write can change a part of a tensor only, so the new value also depends on the old value.
            sources = parents if own is None or own in parents else (own, *parents)
            if sources:
                self.add(tensor, Node(sources, func, (), tuple(tensor.shape)))

    def of(self, value: Any) -> tuple[int, ...]:
        """Return the nodes of the tensors in `value`."""
        return tuple(self.node_of[id(t)] for t in _tensors(value) if id(t) in self.node_of)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def meta_copy(model: nn.Module) -> nn.Module:
    """Return a copy of `model` on the meta device, in eval mode. No weight is duplicated."""
    # deepcopy looks up each object in `memo` and uses the entry as the copy. So no weight is copied, and tied weights
    # stay tied.
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(model, memo).eval()


def is_data_dependent(error: Exception) -> bool:
    """Return whether a run on the meta device failed only because the tensors have no data."""
    return isinstance(error, NotImplementedError) or any(word in str(error).lower() for word in ("meta", "item()"))


def _unrolled_never(rnn: nn.RNNBase, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """A `forward` for recurrent layers with the right shapes and dependencies, but without running all steps."""
    ways = 2 if rnn.bidirectional else 1
    width = rnn.proj_size or rnn.hidden_size
    # Every output is computed from a mean of the input, so it depends on the input in the recorded graph.
    mixed = x.mean((-2, -1), keepdim=True)
    output = mixed.expand(*x.shape[:-1], width * ways).clone()
    batch = () if x.ndim == 2 else (x.shape[0 if rnn.batch_first else 1],)
    last = mixed.mean().expand(rnn.num_layers * ways, *batch, width)
    cell = mixed.mean().expand(rnn.num_layers * ways, *batch, rnn.hidden_size)
    return output, (last, cell) if isinstance(rnn, nn.LSTM) else last


def trace(model: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Run `model` on a batch of zeros and record its data flow.

    `input_shape` is the shape of one input, without the batch dimension. On the meta device, recurrent layers do not
    run step by step. For this, their `forward` is replaced permanently, so pass a copy.

    Raises:
        Exception: Any exception of the network, unchanged.
    """
    device = next((t.device for t in [*model.parameters(), *model.buffers()]), torch.device("meta"))
    recorder, calls, started = _Recorder(), {}, {}  # type: ignore[var-annotated]
    x = torch.zeros(BATCH, *input_shape, device=device)
    recorder.add(x, Node((), None, (), tuple(x.shape)))
    handles = []

    def watch(path: str, module: nn.Module) -> None:
        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            started.setdefault(path, []).append((recorder.of([args, kwargs]), len(recorder.nodes)))

        def after(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            inputs, start = started[path].pop()
            calls.setdefault(path, []).append(Call(inputs, _outputs(recorder, output), (start, len(recorder.nodes))))

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))

    for path, module in model.named_modules():
        watch(path, module)
        if isinstance(module, nn.RNNBase) and device.type == "meta":
            module.forward = partial(_unrolled_never, module)
    try:
        with torch.no_grad(), torch.device(device), recorder:
            output = model(x)
        return Trace(model, recorder.nodes, calls, recorder.of(output), output)
    finally:
        for handle in handles:
            handle.remove()


def _outputs(recorder: _Recorder, output: Any) -> tuple[tuple[int | None, int], ...]:
    if isinstance(output, Tensor):
        return tuple((None, node) for node in recorder.of(output))
    if isinstance(output, (list, tuple)):
        return tuple(
            (i, node) for i, item in enumerate(output) if isinstance(item, Tensor) for node in recorder.of(item)
        )
    return ()
