"""The stem of super-resolution, its dense host, and its plans."""

import pytest
import torch

from nasbench import backbones
from nasbench.backbones.dense import create_dense
from nasbench.backbones.insertion import insert
from nasbench.errors import BackboneError, PlanError
from nasbench.library.heads import attach_head
from nasbench.measurement.costs import measure
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.spaces import load_space

SIZE = (3, 16, 24)


def headed(host):
    return attach_head(host, "pixel_shuffle", scale=3)


def test_slots_are_blocks_and_groups():
    names = [slot.name for slot in backbones.slots("sr_residual", SIZE)]
    assert names == [f"stage{k}{b}" for k in range(1, 5) for b in (*(f".block{j}" for j in range(1, 5)), "")]
    host = create_dense("sr_residual", input_size=SIZE)
    assert [slot.name for slot in backbones.slots(host, SIZE)] == [*names, "level1"]
    assert (host.strides, host.channels) == ((1,), (64,))


def test_parameters_by_hand():
    """37 convolutions: one from 3 channels, then in 4 groups 4 blocks of two and one more, all 3 x 3 from 64 to 64."""
    model = backbones.create_backbone("sr_residual")
    of_64 = 64 * 64 * 9 + 64
    assert sum(p.numel() for p in model.parameters()) == 64 * 3 * 9 + 64 + 4 * 9 * of_64
    # An untrained head adds nothing, whatever the map.
    whole = headed(create_dense("sr_residual", input_size=SIZE))
    assert whole.head.expand.weight.count_nonzero() == 0
    # Bicubic interpolation by 3 takes 4 neighbours in each row, and then 4 in each column.
    bicubic = 3 * 4 * (16 * 72 + 48 * 72)
    assert measure(whole, input_size=SIZE).macs == 16 * 24 * (64 * 27 + 36 * 64 * 64 * 9 + 64 * 9 * 27) + bicubic


def test_costs_from_parts_are_those_of_the_model():
    gated = True
    host = create_dense("sr_residual", input_size=SIZE)
    slots = backbones.slots(host, SIZE)
    costs = PlanCosts(host, slots, input_size=SIZE, identity_init=gated, attach=headed)
    for plan in load_space("sr-transformers").resolve(slots).plans:
        model = headed(insert(host, plan, input_size=SIZE, identity_init=gated))
        whole, parts = measure(model, input_size=SIZE), costs(plan)
        for name in ("params", "macs", "elementwise_flops", "activations"):
            assert getattr(parts, name) == getattr(whole, name)
        assert whole.exact
        with torch.no_grad():
            assert model.eval()(torch.rand(1, 3, 21, 18))["image"].shape == (1, 3, 63, 54)


def test_what_does_not_fit():
    with pytest.raises(PlanError, match="one level, so it takes no neck"):
        create_dense("sr_residual", "fpn", input_size=SIZE)
    with pytest.raises(BackboneError, match="its input size must be"):
        backbones.create_backbone("sr_residual", input_size=(1, 16, 16))
    with pytest.raises(PlanError, match="the finest level has stride 8; a level of stride 1 is needed"):
        headed(create_dense("test_resnet", input_size=(3, 64, 64)))
