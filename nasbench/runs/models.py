"""The builder of a run's models, made from its settings or config.yaml.

It reads no data, unless the task of the run has an `attach` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from nasbench.backbones import create_backbone
from nasbench.backbones.dense import create_dense
from nasbench.backbones.insertion import freeze_backbone, insert
from nasbench.errors import InputError, RunError
from nasbench.library.heads import attach_head, check_head
from nasbench.library.plan import Plan
from nasbench.library.pretexts import SUPERVISED, spec_of
from nasbench.library.surroundings import surroundings_kept
from nasbench.runs.data import task_of_run
from nasbench.runs.settings import SearchSettings
from nasbench.runs.sources import Sources
from nasbench.tasks import Task

__all__ = ["ModelBuilder", "with_ending"]


@dataclass(frozen=True)
class ModelBuilder:
    """Builds the models of plans in one backbone.

    Attributes:
        backbone: Name of the backbone.
        input_size: Size of one input, without the batch dimension.
        model_kwargs: Further arguments of the backbone's constructor, as `Task.model_kwargs`.
        identity_init: Whether the backbone computes the same function after the modules are inserted. True if training
            starts from pretrained weights, so that they stay valid.
        pretrained: Whether to load timm's weights.
        checkpoint: File of weights to load. None if no file is loaded.
        freeze: Whether to train only the inserted modules and the head.
        drop_path: Highest rate of stochastic depth in the backbone.
        head: The head that ends the model of a dense task, as an expression. None if the backbone ends it.
        neck: The neck of a dense host, as an expression.
        task: The task, if its class has an `attach` of its own. It makes the models of hosts.
        learn: How the models are trained, as in the settings. A pretext can remove patches from the host, whose slots
            are then those of sequences.
    """

    backbone: str
    input_size: tuple[int, ...]
    model_kwargs: Mapping[str, int]
    identity_init: bool = False
    pretrained: bool = False
    checkpoint: str | None = None
    freeze: bool = False
    drop_path: float = 0.0
    head: str | None = None
    neck: str = "none"
    task: Task | None = None
    learn: str = SUPERVISED

    @classmethod
    def of(cls, settings: SearchSettings, task: Task) -> ModelBuilder:
        """Return the builder for settings whose backbone is resolved, and their task."""
        builder = cls._of_sizes(settings, task.input_size, task.model_kwargs, task.neck)
        return replace(builder, task=task) if task.attaches_itself else builder

    @classmethod
    def _of_sizes(
        cls, settings: SearchSettings, input_size: tuple[int, ...], model_kwargs: Mapping[str, int], neck: str
    ) -> ModelBuilder:
        return cls(
            backbone=str(settings.backbone),
            input_size=input_size,
            model_kwargs=dict(model_kwargs),
            identity_init=settings.pretrained or settings.checkpoint is not None,
            pretrained=settings.pretrained,
            checkpoint=settings.checkpoint,
            freeze=settings.freeze is not None,
            drop_path=float(settings.training.get("drop_path", 0)),
            head=settings.head,
            neck=settings.neck or neck,
            learn=settings.learn,
        )

    @classmethod
    def of_run(cls, config: Mapping[str, Any], sources: Sources) -> ModelBuilder:
        """Return the builder of a run's models, and load the plug-ins of the run.

        If the task has an `attach` of its own, the data are read too.

        Args:
            config: The contents of the run's config.yaml.
            sources: The Python files of the run.

        Raises:
            RunError: If a function or a table evaluated the run's plans, so that there are no models. Also if the run
                has Python code of its own and is not trusted, or if its models need data that cannot be read.
            PluginError: If a plug-in cannot be loaded.
        """
        task = config["task"]
        if task is None:
            raise RunError(
                f"run {sources.folder.name} was evaluated by a function or from a table, so it has no models"
            )
        settings = sources.load()
        if task.get("attaches_itself"):
            return cls.of(settings, task_of_run(sources.folder, config, settings))
        kwargs = task.get("model_kwargs")
        if kwargs is None:
            kwargs = _kwargs_of_data(config["identity"].get("data", {}))
        # a run of an earlier version has the neck in its settings
        return cls._of_sizes(settings, tuple(task["input_size"]), kwargs, task.get("neck", "none"))

    def host(self) -> nn.Module:
        """Build the bare backbone, or the dense host without a head."""
        if self.head is not None:
            return create_dense(
                self.backbone,
                self.neck,
                input_size=self.input_size,
                pretrained=self.pretrained,
                checkpoint=self.checkpoint,
                drop_path=self.drop_path,
                head=self.head,
            )
        host = create_backbone(
            self.backbone,
            input_size=self.input_size,
            pretrained=self.pretrained,
            checkpoint=self.checkpoint,
            drop_path=self.drop_path,
            **dict[str, Any](self.model_kwargs),
        )
        if self.learn != SUPERVISED and getattr(spec_of(self.learn).cls, "needs", "") == "patches":
            setattr(host, "sequence_slots", True)  # noqa: B010  (torch types attributes of modules as tensors)
        return host

    def attach(self, host: nn.Module) -> nn.Module:
        """Return the model of a host: the host itself, the host with its head, or what the task makes of it."""
        if self.task is not None:
            return self.task.model_of(host)
        return host if self.head is None else attach_head(host, self.head, **dict[str, Any](self.model_kwargs))

    def build(self, plan: Plan, seed: int = 0, *, identity_init: bool | None = None) -> nn.Module:
        """Build the model of a plan. The initial weights of the backbone depend on the seed, and not on the plan.

        Args:
            plan: The plan.
            seed: Seed of the initial weights.
            identity_init: Whether each module starts behind a gate with the value 0. By default the builder's
                `identity_init`.
        """
        with surroundings_kept():  # the states of the caller's random generators do not change
            torch.manual_seed(seed)
            host = self.host()
            # seeded again, because the weights of modules must not depend on how many random numbers the backbone has
            # drawn
            torch.manual_seed(seed)
            gated = self.identity_init if identity_init is None else identity_init
            model = self.attach(insert(host, plan, input_size=self.input_size, identity_init=gated))
            if self.freeze:
                freeze_backbone(model)
            return model

    def without_weights(self) -> ModelBuilder:
        """Return a builder that loads no weights into the backbone. Trained weights can be loaded into its models."""
        return replace(self, pretrained=False, checkpoint=None)


def with_ending(settings: SearchSettings, task: Task) -> SearchSettings:
    """Return the settings with the head of a dense task, or as they are for a task without a head.

    The neck stays as it was given: a neck in the settings is that of every plan, so a default that is filled in would
    be another search when the settings are given again, as to a worker.

    Raises:
        InputError: If they are given for a task whose backbone ends the model.
        UnknownNameError: If no head has this name.
        PlanError: If the head is for another kind of task.
    """
    if task.head is None:
        given = [name for name in ("head", "neck", "ignore") if getattr(settings, name) is not None]
        if given:
            raise InputError(
                f"{', '.join(given)}: only for a task whose model ends with a head (segment:, detect:, sr:, "
                "scenes-segment, scenes-detect, photos-sr, or one of your own with a head)"
            )
        return settings
    check_head(task.head, task.kind)
    return settings.model_copy(update={"head": task.head})


def _kwargs_of_data(data: Mapping[str, Any]) -> dict[str, int]:
    """Return the `model_kwargs` of a run of version 0.1.0, which recorded only the description of the data."""
    kwargs = {"num_classes": data.get("classes"), "horizon": data.get("horizon")}
    kwargs["covariates"] = len(data["covariates"]) if data.get("covariates") else None
    return {name: value for name, value in kwargs.items() if value is not None}
