"""The checks, one function each. A check returns "" if the module passes, and otherwise the fault in one line."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import torch

from nasbench.errors import UnsupportedError
from nasbench.testing._candidate import Candidate, seeded
from nasbench.testing._probes import (
    SIZES,
    Host,
    close,
    difference,
    equal,
    evaluate,
    finite_fault,
    in_float64,
    loss_of,
    maps_of,
    redraw,
    shape_fault,
    trained,
)

__all__ = ["CHECKS"]

_COUNTS = (1, 2, 3, 8, 20)  # numbers of channels that are odd, have no usual divisor, or are below a reduction
_DRAWS = 3  # A ReLU can be 0 for a whole draw. So a parameter fails only if it has no gradient in all of three draws.


def keeps_shape(candidate: Candidate) -> str:
    """The output has the input's shape for every size, in training and in evaluation.

    A neck can change the number of channels.
    """
    module = candidate.build()
    # A batch of one is checked in evaluation only, because in training batch norms need several values.
    for size in SIZES[candidate.dims]:
        for batch, mode in ((2, True), (1, False)):
            fault = shape_fault(candidate, module.train(mode), size, batch)
            if fault:
                return fault
    return ""


def serves_channels_or_says_so(candidate: Candidate) -> str:
    """With any number of channels, the module works or raises an `UnsupportedError` that its `limits` explain."""
    for count in _COUNTS:
        channels = (count, 2 * count, 3 * count) if isinstance(candidate.channels, tuple) else count
        other = replace(candidate, channels=channels)
        try:
            module = other.build()
        except UnsupportedError as error:  # any other exception is a fault, which the caller reports
            if not candidate.spec.limits:
                return f"{channels} channels are not supported ({error}), but `limits` declares nothing"
            continue
        fault = shape_fault(other, module.eval(), SIZES[candidate.dims][0])
        if fault:
            return f"with {channels} channels: {fault}"
    return ""


def gives_gradients(candidate: Candidate) -> str:
    """A gradient reaches every parameter and every input.

    All parameters are first drawn at random, so that a γ that starts at zero blocks no gradient.
    """
    lacking: set[str] | None = None
    for seed in range(_DRAWS):
        module = candidate.build().train()
        redraw(module, seed)
        maps = [x.requires_grad_() for x in maps_of(candidate, 4, seed)]
        loss_of(candidate, module, maps, seed).backward()
        leaves = trained(module) | {f"input {i}": x for i, x in enumerate(maps)}
        without = {name for name, leaf in leaves.items() if leaf.grad is None or not leaf.grad.any()}
        lacking = without if lacking is None else lacking & without
        infinite = [name for name, leaf in leaves.items() if leaf.grad is not None and not leaf.grad.isfinite().all()]
        if infinite:
            return f"gradient of {', '.join(infinite)} is not finite"
        if not lacking:
            return ""
    return f"no gradient reaches {', '.join(sorted(lacking or ()))}"


def trains_from_identity(candidate: Candidate) -> str:
    """In a network that starts as an identity, every parameter of the module gets a gradient within three SGD steps."""
    still: set[str] | None = None
    for seed in range(_DRAWS):
        with seeded(seed):
            host = Host(candidate)
        stuck = set(trained(host))
        if not stuck:
            return ""
        optimiser = torch.optim.SGD(host.parameters(), lr=0.1)
        for step in range(3):
            optimiser.zero_grad()
            loss_of(candidate, host, maps_of(candidate, 4, 3 * seed + step), seed).backward()
            # Gradients are compared, not parameters: the step of a bias before a batch norm can round to nothing.
            stuck -= {name for name, p in trained(host).items() if p.grad is not None and p.grad.any()}
            optimiser.step()
        still = stuck if still is None else still & stuck
        if not still:
            return ""
    return f"unchanged after 3 SGD steps from an identity: {', '.join(sorted(still or ()))}"


def starts_as_declared(candidate: Candidate) -> str:
    """`starts_as_identity` is declared if and only if a new module computes f(x) = x bit for bit."""
    module = candidate.build()
    maps = maps_of(candidate)
    if candidate.spec.kind == "fusion":
        # A fusion starts as an identity if it returns x for inputs that all are x.
        maps = maps[:1] * candidate.inputs
    with torch.no_grad():
        outputs = [candidate.run(module.train(mode), maps) for mode in (True, False)]
    same = all(torch.equal(x, y) for out in outputs for x, y in zip(maps, out, strict=False))
    if same == candidate.spec.starts_as_identity:
        return ""
    return (
        "starts as an identity, but starts_as_identity is not declared"
        if same
        else "declares starts_as_identity, but f(x) is not x"
    )


def round_trips_state(candidate: Candidate) -> str:
    """A second instance computes the same as the first after it has loaded the first's state dict.

    The state dict must have all its keys before the first forward.
    """
    first, maps = candidate.build(), maps_of(candidate)
    # Two new instances can have the same weights. After new weights are drawn, only the state dict makes them equal.
    redraw(first)
    before = list(first.state_dict())
    candidate.run(first.train(), maps)
    if list(first.state_dict()) != before:
        return f"forward changes the state dict's keys: {sorted(set(before) ^ set(first.state_dict()))}"
    second = candidate.build()
    second.load_state_dict(first.state_dict())
    return difference(candidate, first, second, "after a state dict round trip")


def keeps_still_in_eval(candidate: Candidate) -> str:
    """Evaluation changes no state, gives the same result again, and never replaces a parameter."""
    module, maps = candidate.build().eval(), maps_of(candidate)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    # A new Parameter can hold the same values under the same name, so identities are compared.
    tensors = [id(p) for p in module.parameters()]
    first, second = (evaluate(candidate, module, maps) for _ in range(2))
    changed = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    if changed:
        return f"evaluation changes {', '.join(changed)}"
    if [id(p) for p in module.parameters()] != tensors:
        return "evaluation replaces a Parameter, which the optimiser would no longer update"
    return "" if equal(first, second) else "two evaluations of one input differ"


def is_deterministic(candidate: Candidate) -> str:
    """The same seed gives the same result, for construction and one forward in training."""
    results = []
    for _ in range(2):
        with seeded(7), torch.no_grad():
            results.append(candidate.run(candidate.build().train(), maps_of(candidate)))
    return "" if equal(*results) else "the same seed gives two results"


def keeps_items_apart(candidate: Candidate) -> str:
    """In evaluation, the output of an item does not depend on the other items of the batch."""
    module = in_float64(candidate)
    maps = [x.double() for x in maps_of(candidate)]
    # Item 1 is changed so much that any influence on item 0 exceeds rounding errors.
    other = [torch.cat([x[:1], 50 * x[1:].flip(1) + 3]) for x in maps]
    alone = [x[:1] for x in maps]
    whole, changed, single = (evaluate(candidate, module, m) for m in (maps, other, alone))
    if not close([y[:1] for y in whole], [y[:1] for y in changed]):
        return "item 0 changes when item 1 of the batch does"
    return "" if close([y[:1] for y in whole], single) else "item 0 of a batch differs from the same item alone"


def leaves_input_alone(candidate: Candidate) -> str:
    """The input is not modified, neither in training nor in evaluation."""
    module, maps = candidate.build(), maps_of(candidate)
    before = [x.clone() for x in maps]
    for mode in (True, False):
        with torch.no_grad():
            candidate.run(module.train(mode), maps)
        if not equal(maps, before):
            return f"the input is modified in {'training' if mode else 'evaluation'}"
    return ""


def serves_an_empty_batch(candidate: Candidate) -> str:
    """A batch without items gives an output without items, and its gradient can be computed.

    In evaluation, because no statistics can be taken of nothing.
    """
    module = candidate.build().eval()
    size = SIZES[candidate.dims][0]
    fault = shape_fault(candidate, module, size, batch=0)
    if not fault:
        maps = [x.requires_grad_() for x in candidate.maps(size, batch=0)]
        sum((y.sum() for y in candidate.run(module, maps)), torch.zeros(())).backward()
    return fault


def trains_beside_in_place_layers(candidate: Candidate) -> str:
    """The module can be trained after and before a layer that works in place, such as `nn.ReLU(inplace=True)`.

    Such a layer overwrites its input. So the backward pass of the module must not need the module's own output. A neck
    is not checked, because it may read a level of its result to compute the next.
    """
    if candidate.spec.kind == "neck":
        return ""
    module = candidate.build().train()
    leaves = [x.requires_grad_() for x in maps_of(candidate, 4)]
    # the multiplication keeps a leaf of the graph from being overwritten, which torch never allows
    maps = [torch.relu_(x * 1.0) for x in leaves]
    out = [torch.relu_(y) for y in candidate.run(module, maps)]
    sum((y.square().mean() for y in out), torch.zeros(())).backward()
    return ""


def works_in_float64(candidate: Candidate) -> str:
    """For a float64 input the output is float64 and finite."""
    out = evaluate(candidate, in_float64(candidate), [x.double() for x in maps_of(candidate)])
    return finite_fault(out) or next((f"float64 in, {y.dtype} out" for y in out if y.dtype != torch.float64), "")


def works_under_autocast(candidate: Candidate) -> str:
    """A training step under bfloat16 autocast runs, and its output is finite."""
    module = candidate.build().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = candidate.run(module, maps_of(candidate))
    # A module without parameters has no gradient to compute.
    if trained(module):
        sum(y.float().square().mean() for y in out).backward()  # type: ignore[union-attr]
    return finite_fault(out)


def works_in_channels_last(candidate: Candidate) -> str:
    """The memory format does not change the result."""
    if candidate.dims == 1:
        return ""
    # In float64, the rounding differences of another order of summation are far below the tolerance of `close`.
    module, maps = in_float64(candidate), [x.double() for x in maps_of(candidate)]
    plain = evaluate(candidate, module, maps)
    last = [x.contiguous(memory_format=torch.channels_last) for x in maps]
    module = module.to(memory_format=torch.channels_last)
    return "" if close(plain, evaluate(candidate, module, last)) else "channels_last gives another result"


def copies_and_pickles(candidate: Candidate) -> str:
    """`copy.deepcopy` and pickle give a module that computes the same.

    Copying and pickling must also work after a forward with gradients.
    """
    module = candidate.build().train()
    candidate.run(module, maps_of(candidate))
    # A module that stores its output holds a graph, which can be neither copied nor pickled.
    for word, twin in (("copy.deepcopy", copy.deepcopy(module)), ("pickling", pickle.loads(pickle.dumps(module)))):
        fault = difference(candidate, module, twin, f"after {word}")
        if fault:
            return fault
    return ""


def works_on_meta(candidate: Candidate) -> str:
    """The module can be built and run on the meta device, where costs are counted."""
    shapes = candidate.shapes(SIZES[candidate.dims][0])
    with torch.device("meta"):
        module = candidate.build().eval()
        out = evaluate(candidate, module, [torch.empty(shape) for shape in shapes])
    return "" if all(y.is_meta for y in out) else "a result is not on the meta device"


CHECKS: tuple[Callable[[Candidate], str], ...] = (
    keeps_shape,
    serves_channels_or_says_so,
    gives_gradients,
    trains_from_identity,
    starts_as_declared,
    round_trips_state,
    keeps_still_in_eval,
    is_deterministic,
    keeps_items_apart,
    leaves_input_alone,
    serves_an_empty_batch,
    trains_beside_in_place_layers,
    works_in_float64,
    works_under_autocast,
    works_in_channels_last,
    copies_and_pickles,
    works_on_meta,
)
"""All checks, in the order in which they run."""
