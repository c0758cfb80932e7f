"""Which hosts a pretext can train."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nasbench import backbones
from nasbench.backbones.insertion import insert
from nasbench.errors import InputError, NasbenchError, UnsupportedError
from nasbench.ops.pretext import Form
from nasbench.training.pretexts.encoder import encoder_of
from nasbench.training.pretexts.pretext_task import PretextTask

__all__ = ["check_host", "hosts_for"]

_IMAGE_HOSTS: dict[Form, list[str]] = {
    "pooled": ["timm models"],
    "maps": ["timm models with maps, such as test_resnet, test_convnext and test_vit"],
    "patches": ["plain vision transformers of timm, such as test_vit, vit_tiny_patch16_224 and deit_tiny_patch16_224"],
}
"""For each form of features, the hosts for images that have it. Every classifier of images has pooled features."""

_ARGUMENTS = {"forecasting": "horizon", "series-classification": "num_classes"}
"""For each kind of task of series, the argument of the built-in backbones for it."""


def check_host(model: nn.Module, backbone: str, task: PretextTask) -> None:
    """Check that the pretext of a task can train a host.

    Args:
        model: The host, with a plan or with none.
        backbone: Its name, for the message.
        task: The task.

    Raises:
        InputError: If it cannot. The message names the built-in hosts that fit.
    """
    try:
        encoder_of(model, task.needs, task.input_size)
    except UnsupportedError as error:
        fitting = ", ".join(hosts_for(task)) or "none of the built-in ones"
        raise InputError(
            f"learn={task.learn} does not fit backbone {backbone!r}: {error}; hosts for {task.name} that fit: {fitting}"
        ) from None
    try:
        task.learner(model, 0)
    except UnsupportedError as error:  # not because of the host, but of its width or of the number of items
        raise InputError(f"learn={task.learn}: {error}") from None


def hosts_for(task: PretextTask) -> list[str]:
    """Return the built-in hosts for the data of a task that have the features which its pretext needs."""
    argument = _ARGUMENTS.get(task.kind)
    if argument is None:
        return _IMAGE_HOSTS.get(task.needs, [])
    return [name for name in backbones.stems_for(argument) if _has(name, task.needs, task)]


def _has(name: str, needs: Form, task: PretextTask) -> bool:
    known: dict[str, Any] = dict(task.model_kwargs)
    try:
        with torch.device("meta"):
            host = backbones.create_backbone(name, input_size=task.input_size, **known)
            encoder_of(insert(host, None, input_size=task.input_size), needs, task.input_size)
    except NasbenchError:
        return False
    return True
