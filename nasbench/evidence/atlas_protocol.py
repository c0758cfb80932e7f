"""The protocol of the atlas: which hosts learn which data, and how. Everything that defines a row is in this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasbench.errors import UnknownNameError

__all__ = ["GROUPS", "LATENCY_S", "PASSES", "PROTOCOL", "RULES", "SAME", "Group", "Pass", "group_named"]

PROTOCOL = "2026-11"
"""Name of the protocol. Rows of another protocol cannot be compared with these, so a change needs a new name."""

SAME = "same"
"""What the column `slots` says of a module that is in every stage of the host at once."""

LATENCY_S = 60.0
"""Most seconds for which the latency of a group's plans is measured."""

RULES = (
    "A group is one host on one data set. Its plans are all modules of the library that serve its dimensions.",
    "Each module has its default hyper-parameters. It is inserted plainly, and host and module train from scratch.",
    "`same` is the module at every stage of the host. In a host without stages it is at every slot.",
    "All plans of a group and the bare host train on the same seeds, in one search of given plans.",
    "Numbers of seeds are equal and set beforehand, because a look after each training leads to more wrong verdicts.",
    "Training is the task's own recipe with the epochs of the group, as listed below, without augmentation.",
    "Differences are on validation data. Positive is better, also for an error. Intervals have 95 %, over items and "
    "seeds.",
    "Verdicts are those of every search: one hierarchical model of all plans of the group (verdicts.md).",
    "The control of a plan is a plain residual bottleneck that adds about the same MACs at the same slots.",
    "Latency is measured beside the bare host, in turns, for at most 60 s a group, on the device of the training.",
)  # fmt: skip
"""The protocol in sentences, as docs/atlas.md prints it."""


@dataclass(frozen=True)
class Group:
    """One host on one data set. All its rows come from one run.

    Attributes:
        host: The backbone.
        data: Name of the data, as in the column `data`.
        dims: 2 for images, 1 for series.
        task: The task, with `{data}` in the place of the folder or file of data that does not ship with a package.
        sha256: The hash of the data as a run records it, so that rows of other data are refused.
        stages: The slots that a plan without a slot fills: the stages of the host, or all its slots if it has none.
        settings: Further settings of the search. `training` has the whole recipe where it differs from the defaults of
            `nasbench.tasks.recipe.Recipe`, so that another default of a task does not change the protocol. All other
            settings have their defaults. `latency_s` is the same for all.
        files: Names of the files that the data is read from. Empty if it ships with a package.
    """

    host: str
    data: str
    dims: int
    task: str
    sha256: str
    stages: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the group and of its run folder, such as `digits-test_resnet`."""
        return f"{self.data}-{self.host}"


@dataclass(frozen=True)
class Pass:
    """A part of the work on a group. Each pass extends the run of the one before.

    Attributes:
        name: Its name on the command line.
        stages: Whether each module is also tried at each single stage.
        seeds: Number of seeds of every plan.
        about: What it does, in a few words.
    """

    name: str
    stages: bool
    seeds: int
    about: str


PASSES = (
    Pass("same", False, 4, "each module at every stage"),
    Pass("stages", True, 4, "each module at each single stage too"),
    Pass("eight", True, 8, "all plans with eight seeds"),
)

_DIGITS = "0a63e27ae1ae8568b08ac9943eef6198c367f5950c581f0f4886a7a72538759d"
_CO2 = "4f842f185b5139e9fb35ac092b422be8cbbf5ae9765b140c0e42577bb69a1ff5"
_ETTH1 = "23af9a04e5f5a579cf0731799ebfb3284b6444585e46f3fbbe70cc8fd3895cbf"
_CIFAR = "6f9ca7de8e68110be7ebd4a089f6d411e9fc1ed03dc4e193175931f534783e41"
_BUILT_IN = {"batch_size": 32, "learning_rate": 3e-3}
_DIGITS_SETTINGS = {"size": 32, "training": {"epochs": 8, **_BUILT_IN}}
_CO2_SETTINGS = {"training": {"epochs": 4, **_BUILT_IN}}
_CIFAR_SETTINGS = {
    "size": 32, "training": {"epochs": 8, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.05},
}  # fmt: skip
_ETT_TRAINING = {"batch_size": 32, "learning_rate": 1e-3, "schedule": "cosine", "patience": 3, "validate_every": 1}
_ETT_SETTINGS = {"training": {"epochs": 4, **_ETT_TRAINING}}
_FOUR = ("stage1", "stage2", "stage3", "stage4")
_PATCHTST = ("stage1", "stage2", "stage3")
_DLINEAR = ("input", "seasonal", "trend")
_TARS = ("cifar10-small-train.tar", "cifar10-small-test.tar")

GROUPS = (
    Group("test_resnet", "digits", 2, "digits", _DIGITS, _FOUR, _DIGITS_SETTINGS),
    Group("patchtst", "co2", 1, "co2", _CO2, _PATCHTST, _CO2_SETTINGS),
    Group("test_convnext", "digits", 2, "digits", _DIGITS, _FOUR, _DIGITS_SETTINGS),
    Group("dlinear", "co2", 1, "co2", _CO2, _DLINEAR, _CO2_SETTINGS),
    Group("test_resnet", "cifar10", 2, "tar:{data}", _CIFAR, _FOUR, _CIFAR_SETTINGS, _TARS),
    Group("test_convnext", "cifar10", 2, "tar:{data}", _CIFAR, _FOUR, _CIFAR_SETTINGS, _TARS),
    Group("dlinear", "ETTh1", 1, "ett:{data}", _ETTH1, _DLINEAR, _ETT_SETTINGS, ("ETTh1.csv",)),
    Group("patchtst", "ETTh1", 1, "ett:{data}", _ETTH1, _PATCHTST, _ETT_SETTINGS, ("ETTh1.csv",)),
)
"""The groups in the order in which they are measured."""


def group_named(name: str) -> Group:
    """Return the group with this name.

    Raises:
        UnknownNameError: If there is none.
    """
    for group in GROUPS:
        if group.name == name:
            return group
    raise UnknownNameError("group of the atlas", name, [group.name for group in GROUPS])
