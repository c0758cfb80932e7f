"""Where memory runs out, a batch is cut and its gradients added up: the step is that of the whole batch."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.training import Points, network, weights
from torch import nn

import nasbench as nb
from nasbench.errors import EvaluationError, InputError
from nasbench.tasks import item_count
from nasbench.tasks._base import joined
from nasbench.tasks.recipe import Recipe
from nasbench.training.loop import train
from nasbench.training.optimisation import cut

RECIPE = Recipe(epochs=2, batch_size=16, optimizer="momentum", learning_rate=0.1, schedule="constant")


class Memory(nn.Module):
    """Has room for so many items in training, so many in evaluation."""

    def __init__(self, items, eval_items=10**9, *, backward=False):
        super().__init__()
        self.items, self.eval_items, self.backward_too = items, eval_items, backward
        self.seen = []

    def forward(self, x):
        self.seen.append((self.training, len(x)))
        short = len(x) > (self.items if self.training else self.eval_items)
        if short and not self.backward_too:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Exhausting.apply(x, short)


class Exhausting(torch.autograd.Function):
    """Runs out of memory in the backward pass."""

    @staticmethod
    def forward(ctx, x, short):
        ctx.short = short
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if ctx.short:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return gradient, None


def trained(memory=None, items=40, **recipe):
    """40 items: batches of 16, 16 and 8."""
    model = network() if memory is None else nn.Sequential(memory, *network())
    result = train(model, Points(items), RECIPE.with_settings(recipe))
    return weights(model), result


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("room", "parts"), [(16, 1), (15, 2), (8, 2), (5, 4), (1, 16)])
def test_the_steps_are_those_of_the_whole_batch(room, parts, backward):
    expected, whole = trained()
    first = nn.Linear(3, 3)  # so that there is a gradient to compute below the exhausted layer
    nn.init.eye_(first.weight)
    nn.init.zeros_(first.bias)
    first.requires_grad_(backward)
    torch.manual_seed(0)
    memory = Memory(room, backward=backward)
    model = nn.Sequential(first, memory, *network())
    result = train(model, Points(40), RECIPE)
    assert result.batch_parts == parts
    assert (result.steps, result.epochs) == (whole.steps, whole.epochs) == (6, 2)
    if not backward:
        assert torch.allclose(weights(model[2:]), expected, atol=1e-6)
        assert np.array_equal(result.per_item, whole.per_item)
        assert [line["train_loss"] for line in result.history] == pytest.approx(
            [line["train_loss"] for line in whole.history], rel=1e-5
        )


def test_groups_of_batches_and_mixed_labels_are_cut_too():
    for recipe in ({"accumulation": 2}, {"mixup": 0.5}, {"clip_grad": 0.01}):
        expected, _ = trained(**recipe)
        found, result = trained(Memory(3), **recipe)
        assert result.batch_parts == 8
        assert torch.allclose(found, expected, atol=1e-6), recipe


def test_it_stays_cut():
    """What ran out once is not tried again at every step."""
    memory = Memory(4)
    trained(memory)
    sizes = [size for training, size in memory.seen if training]
    assert sizes[:3] == [16, 8, 4]
    assert max(sizes[2:]) == 4


def test_validation_is_cut_without_changing_its_figures():
    memory = Memory(10**9, eval_items=5)
    expected, whole = trained()
    found, result = trained(memory)
    assert torch.equal(found, expected)
    assert result.batch_parts == 1
    assert result.metrics["accuracy"] == whole.metrics["accuracy"]
    assert np.array_equal(result.per_item, whole.per_item)
    assert [size for training, size in memory.seen if not training] == [20, 16, 8, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("memory", [Memory(0), Memory(10**9, eval_items=0)], ids=["training", "validation"])
def test_not_even_one_item_fits(memory):
    with pytest.raises(EvaluationError, match="out of memory") as caught:
        trained(memory)
    assert caught.value.kind == "out_of_memory"
    assert memory.seen[-1][1] == 1


@given(items=st.integers(1, 40), parts=st.integers(1, 50), tuples=st.booleans())
def test_cut_keeps_every_item_once_and_in_order(items, parts, tuples):
    x, y = torch.arange(items), torch.arange(items) * 10
    found = list(cut(((x, -x) if tuples else x, y), parts))
    assert len(found) <= parts
    assert torch.equal(torch.cat([targets for _, targets in found]), y)
    for inputs, targets in found:
        first, *others = inputs if tuples else (inputs,)
        assert torch.equal(first * 10, targets)
        assert all(torch.equal(other, -first) for other in others)


class Pair(NamedTuple):
    first: torch.Tensor
    second: list


NESTED = {
    "dict": lambda y: {"a": y, "more": [{"b": y * 2}, (y, None, "text")]},
    "tuple": lambda y: (y, {"b": y}),
    "named tuple": lambda y: Pair(y, [y * 2]),
    "list of each item": lambda y: [{"boxes": torch.zeros(int(each), 4), "label": each} for each in y],
}


@pytest.mark.parametrize("nest", NESTED.values(), ids=NESTED)
def test_nested_targets_are_cut_and_joined(nest):
    y = torch.arange(7)
    parts = [targets for _, targets in cut((y, nest(y)), 3)]
    assert [item_count(part) for part in parts] == [3, 3, 1]
    assert str(joined(parts)) == str(nest(y))
    assert str(parts[1]) == str(nest(y[3:6]))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"a": torch.zeros(4), "b": torch.zeros(3)}, "a dict with tensors with 3, 4 items"),
        ({"boxes": [torch.zeros(2, 4), torch.zeros(0, 4)]}, "nested dicts and tuples in which the batch is the first"),
        ({"names": ["a"]}, "with no tensor"),
        ({"a": torch.tensor(1.0)}, "4 inputs and 0 targets"),
        (torch.zeros(3), "4 inputs and 3 targets"),
        ([torch.zeros(4), torch.zeros(4)], "4 inputs and 2 targets; targets that are a list have one entry for each"),
    ],
)
def test_targets_that_are_no_batch_are_refused(targets, message):
    with pytest.raises(InputError, match=message):
        list(cut((torch.zeros(4, 3), targets), 2))


GREEDY = '''
"""A module with room for 20 items."""
import torch
from torch import nn
from nasbench.library.registry import register_module


@register_module(name="greedy_test_module", properties=("locality",), dims=(2,))
class Greedy(nn.Module):
    """Runs out of memory."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        if self.training and len(x) > 20:
            torch.empty(2**55)  # 128 PB, which no machine has
        return x * self.scale
'''


def test_a_search_records_it(tmp_path, clean_registry, small_data):
    file = tmp_path / "greedy.py"
    file.write_text(GREEDY)
    run = nb.search(
        {"variants": ["greedy_test_module"], "slots": ["stage4"]}, backbone="test_resnet", task="digits", trials=2,
        seeds=1, latency_s=0, training={"epochs": 1}, modules=[str(file)], out=tmp_path / "run",
    )  # fmt: skip
    assert run.trials().set_index("plan")["batch_parts"].to_dict() == {"{}": 1, '{"stage4": "greedy_test_module"}': 2}
    assert set(run.trials()["state"]) == {"complete"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_that_is_too_small():
    """A real device with a cap on its memory: the batch of 4,096 needs 256 MiB a layer, the cap is 512 MiB."""
    wide = nn.Sequential(nn.Linear(3, 16384), nn.ReLU(), nn.Linear(16384, 2))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()  # what other tests left in torch's cache is not under the cap
    torch.cuda.set_per_process_memory_fraction(512 * 2**20 / total)
    try:
        recipe = Recipe(epochs=1, batch_size=4096, optimizer="momentum", learning_rate=0.01)
        result = train(wide, Points(8192), recipe, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.batch_parts in (2, 4)
    assert result.steps == 2
