"""Pretexts for series in the machinery: the hosts that they fit, and trainings from end to end."""

from __future__ import annotations

import pytest
import torch

from nasbench.backbones import create_backbone
from nasbench.backbones.insertion import insert
from nasbench.errors import InputError
from nasbench.tasks import create_task
from nasbench.training.loop import evaluate, train
from nasbench.training.pretexts import PretextTask, check_host, hosts_for


@pytest.fixture(scope="module")
def rows():
    return create_task("digits-rows")


def host_of(task, name, plan=None):
    torch.manual_seed(0)
    host = create_backbone(name, input_size=task.input_size, **task.model_kwargs)
    return insert(host, plan, input_size=task.input_size)


@pytest.mark.parametrize(
    ("learn", "fitting", "other"),
    [
        ("cpc", {"inception_time", "resnet1d", "ts2vec"}, "patchtst"),
        ("masked", {"informer", "patchtst", "pyraformer"}, "resnet1d"),
    ],
)
def test_hosts_that_do_not_fit_are_refused_with_those_that_do(rows, learn, fitting, other):
    task = PretextTask(rows, learn)
    found = hosts_for(task)
    assert fitting <= set(found)
    assert other not in found
    with pytest.raises(InputError, match=rf"learn={learn} does not fit backbone '{other}'.*fit: .*{min(fitting)}"):
        check_host(host_of(task, other), other, task)


@pytest.mark.parametrize(
    ("learn", "backbone"),
    [("cpc(width=32)", "ts2vec"), ("masked(bert=True)", "pyraformer")],
)
def test_a_training_from_end_to_end(rows, learn, backbone):
    task = PretextTask(rows, learn)
    host = host_of(task, backbone)
    result = train(host, task, task.recipe.with_settings({"epochs": 1, "batch_size": 64, "validate_every": 0}))
    assert evaluate(host, task, "val")[0]["knn_accuracy"] == result.metrics["knn_accuracy"] > 0.3
    assert result.metrics["pretext_loss"] < 100


def test_the_frequency_encoder_has_the_plan_and_no_part_in_the_model(rows):
    task = PretextTask(rows, "tfc(hidden=8, width=8)")
    model = host_of(task, "ts2vec", "se")
    learner = task.learner(model, 0)
    copy = learner.pretext.spectrum_encoder.model
    assert set(copy.state_dict()) == set(model.state_dict())
    assert any("stage1.module" in name for name in copy.state_dict())
    assert not {id(p) for p in copy.parameters()} & {id(p) for p in model.parameters()}


def test_auxiliary_losses_of_the_second_copy_count_and_are_not_kept(rows):
    task = PretextTask(rows, "tfc(hidden=8, width=8)")
    learner = task.learner(host_of(task, "ts2vec"), 0).train()
    for encoder in (learner.encoder, learner.pretext.spectrum_encoder):
        encoder.aux.append(torch.tensor(2.0))
    assert float(learner._take_aux()) == 4.0
    assert learner._take_aux() == 0.0
