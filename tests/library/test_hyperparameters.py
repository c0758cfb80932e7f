"""The one check of hyper-parameters: types, ranges, the words of its messages, and every module against odd values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from nasbench import create_module
from nasbench.errors import ExpressionError, InputError, PluginError, UnsupportedError
from nasbench.library.expression import parse
from nasbench.library.hyperparameters import Hyperparameter, check_range, whole
from nasbench.library.modules import module_specs
from nasbench.library.registry import ModuleSpec, register_module
from nasbench.testing import Candidate, candidates

NAN, INF = math.nan, math.inf
ODD: list[Any] = [
    -4, -1, 0, 1, 2, 3, 2.0, 3.0, 1.5, -0.5, NAN, INF, -INF, True, False, None, "", "3", b"3", 2j, object(),
    (), (1,), (3, 5), [3, 5.0], (0,), (-1, 3), (1.5, 3), (3, True), ("3",), ((3,),), {3: 5}, {3, 5},
    np.int64(4), np.float32(3.0), np.float64(NAN), np.array(3), np.array([3, 5]), torch.tensor(3),
]  # fmt: skip


def parameter(annotation: str, range: str | tuple[Any, ...] = "", default: Any = None) -> Hyperparameter:
    return Hyperparameter("p", default, annotation=annotation, range=range)


def built(candidate: Candidate, name: str, value: Any) -> torch.nn.Module | str:
    """Build a module with one value given, or return the error that refuses it."""
    try:
        return create_module(candidate.spec.name, candidate.channels, dims=candidate.dims, **{name: value})
    except UnsupportedError as error:
        return str(error)


@pytest.mark.parametrize("spec", [s for s in module_specs() if s.hyperparameters], ids=lambda spec: spec.name)
def test_an_odd_value_is_refused_by_name_or_runs(spec: ModuleSpec):
    candidate = candidates(spec, [{}])[0]
    maps = candidate.maps((6,) if candidate.dims == 1 else (5, 6))
    for name in spec.hyperparameters:
        for value in ODD:
            module = built(candidate, name, value)
            if isinstance(module, str):
                # a value that only these channels or another keyword refuse is named with them
                assert f"{name} is {value!r}" in module or name in module or "timm refuses" in module, (name, value)
                assert len(module) < 400, (name, value)
                continue
            inputs = [x.clone().requires_grad_() for x in maps]
            sum(y.square().sum() for y in candidate.run(module.train(), inputs)).backward()
            assert all(x.grad.isfinite().all() for x in inputs), (name, value)


@pytest.mark.parametrize(
    ("annotation", "given", "taken"),
    [
        ("int", 2.0, 2), ("int", np.int64(4), 4), ("int", np.float64(4.0), 4), ("int | None", None, None),
        ("Optional[int]", 3.0, 3), ("Union[int, str]", "a", "a"), ("float", 1, 1), ("float", np.float32(0.5), 0.5),
        ("bool", True, True), ("str", "a", "a"), ("Literal['a', 1]", 1, 1), ("Sequence[int]", [1, 2.0], (1, 2)),
        ("collections.abc.Sequence[int]", [3], (3,)), ("tuple[int, ...]", (), ()),
        ("tuple[int, int]", [1, 2.0], (1, 2)),
        ("tuple", [1, "a"], (1, "a")), ("", {"any": 1}, {"any": 1}), ("nn.Module", 3, 3), ("int or so", 1.5, 1.5),
    ],
)  # fmt: skip
def test_values_are_taken_as_the_annotated_type(annotation: str, given: Any, taken: Any):
    accepted = parameter(annotation, default=object()).accept(given)
    assert accepted == taken
    assert type(accepted) is type(taken)


@pytest.mark.parametrize(
    ("annotation", "range", "given", "words"),
    [
        ("int", "at least 1", 0, "p is 0; allowed: a whole number, at least 1"),
        ("int", "odd, at least 3", 4, "allowed: a whole number, odd, at least 3"),
        ("int | None", "at least 1", True, "p is True; allowed: None or a whole number, at least 1"),
        ("float", "at least 0, at most 1", 1.5, "allowed: a number, at least 0, at most 1"),
        ("float", "", NAN, "p is nan; allowed: a number"),
        ("float", "", True, "allowed: a number"),
        ("bool", "", 1, "p is 1; allowed: True or False"),
        ("str", ("a", "b"), "c", "p is 'c'; allowed: 'a' or 'b'"),
        ("Literal['a', 'b']", "", "c", "allowed: 'a' or 'b'"),
        ("Sequence[int]", "1 or more values", (), r"p is \(\); allowed: a list of whole numbers, 1 or more values"),
        ("Sequence[int]", "odd", (3, 4), r"p is \(3, 4\); allowed: a list of whole numbers, odd"),
        ("tuple[int, int]", "", (1,), "allowed: 2 whole numbers"),
    ],
)
def test_a_refusal_says_name_value_and_what_is_allowed(annotation: str, range: Any, given: Any, words: str):
    with pytest.raises(UnsupportedError, match=words):
        parameter(annotation, range).accept(given)


def test_the_default_is_allowed_even_beyond_the_range():
    assert parameter("int", "at least 1", default=-1).accept(-1) == -1
    assert parameter("int", default=None).accept(None) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (3.0, 3), (np.int32(3), 3), (2**70, 2**70), (3.5, None), (NAN, None),
     (INF, None), (True, None), ("3", None)],
)  # fmt: skip
def test_whole(value: Any, number: int | None):
    assert whole(value) == number


def test_channels_dims_and_inputs_are_checked_alike():
    assert create_module("se", np.int64(32)).squeeze.in_channels == 32
    assert create_module("se", 32.0, dims=np.int64(1)).squeeze.weight.ndim == 3
    for given in ({"channels": True}, {"channels": NAN}, {"channels": 8, "dims": 1.5}, {"channels": 8, "dims": True}):
        with pytest.raises(InputError):
            create_module("se", **given)
    for inputs in (2.5, True, 1, NAN):
        with pytest.raises(UnsupportedError, match="inputs"):
            create_module("add", 8, inputs=inputs)


def test_an_expression_is_checked_when_it_is_read():
    with pytest.raises(
        ExpressionError, match=r"se: reduction is -1; allowed: a whole number, at least 1 \(column 21\)"
    ):
        parse("eca >> se(reduction=-1)")
    assert parse("se(reduction=8.0)").canonical() == "se(reduction=8)"
    assert parse("se(reduction=16.0)").canonical() == "se"
    assert parse("hilo_attention(alpha=1)").canonical() == "hilo_attention(alpha=1.0)"
    assert parse("pyramid_pool_attention(ratios=[4, 8])").canonical() == "pyramid_pool_attention(ratios=(4, 8))"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ranges": {"q": "odd"}}, r"ranges names \['q'\]"),
        ({"ranges": {"p": "positive"}}, "the range 'positive' is not known"),
        ({"ranges": {"p": "at least 3"}, "space": {"p": (1, 3)}}, "space: p is 1; allowed: a whole number, at least 3"),
        ({"space": {"p": (1.5,)}}, "space: p is 1.5; allowed: a whole number"),
    ],
)
def test_a_registration_that_contradicts_itself_fails(given: dict[str, Any], words: str):
    class Wrong(torch.nn.Module):
        def __init__(self, channels: int, *, p: int = 4) -> None:
            super().__init__()

    with pytest.raises(PluginError, match=words):
        register_module(name="wrong", **given)(Wrong)


def test_ranges_in_words():
    for known in ("", "odd", "even, at most -2", "2 or more values, odd, at least 0.5", ("a", 1)):
        check_range(known)
    for unknown in ("at least", "odd at least 1", "1 or more", "at least one"):
        with pytest.raises(PluginError, match="not known"):
            check_range(unknown)
