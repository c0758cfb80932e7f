"""A task without its labels: the same inputs and splits, learnt by a pretext."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import InputError
from nasbench.library.pretexts import labels_read, pretexts_for, spec_of
from nasbench.ops.pretext import Pretext
from nasbench.tasks import Batch, Task, epoch_generator, shuffled
from nasbench.tasks.forms import LABEL_FREE, PRETEXT_METRICS
from nasbench.training.pretexts.learner import GROUPS, ITEMS, LABELS, Learner

__all__ = ["PretextTask"]

_LABELLED = ("classification", "series-classification")
_CURVE = 5  # validations in a training
_KINDS = (*_LABELLED, "forecasting")


class PretextTask(Task):
    """What a search sees of a task whose labels are not learnt.

    Args:
        data: The user's task.
        learn: The pretext, as canonical text.

    Attributes:
        data: The user's task.
        learn: The pretext.
        needs: The form of the features that the pretext needs.
        reads: What it reads besides inputs.
        labelled: Whether the items have classes, so that their features can be judged by them.

    Raises:
        InputError: If the pretext does not fit the data.
    """

    augmentations = ("none",)

    def __init__(self, data: Task, learn: str) -> None:
        spec = spec_of(learn)
        dims = len(data.input_size) - 1
        if data.kind not in _KINDS or data.head is not None:
            raise InputError(
                f"learn={learn}: {data.name} is a {data.kind} task; a pretext trains the hosts of {', '.join(_KINDS)}"
            )
        if dims not in spec.dims:
            what = {1: "series", 2: "images"}
            fitting = ", ".join(pretexts_for(dims)) or "none yet"
            raise InputError(
                f"learn={learn}: {spec.name} learns from {what[max(spec.dims)]}, and {data.name} has {what[dims]}; "
                f"pretexts for {what[dims]}: {fitting}"
            )
        cls: Any = spec.cls
        assert issubclass(cls, Pretext)
        for split in ("train", "val"):
            if data.splits[split] < cls.fewest:
                raise InputError(
                    f"learn={learn}: {spec.name} compares items and needs at least {cls.fewest} in the {split} split, "
                    f"which has {data.splits[split]}"
                )
        self.data, self.learn, self.needs, self.reads = data, learn, cls.needs, cls.reads
        # A classifier of a single output belongs to data without labels.
        self.labelled = self.has_items = data.kind in _LABELLED and data.model_kwargs["num_classes"] > 1
        if LABELS in cls.reads and not self.labelled:
            raise InputError(f"learn={learn}: {spec.name} reads some labels, and the items of {data.name} have none")
        self.kind, self.input_size, self.any_size = data.kind, data.input_size, data.any_size
        self.model_kwargs, self.splits, self.read = data.model_kwargs, data.splits, data.read
        self.metrics = PRETEXT_METRICS if self.labelled else {name: PRETEXT_METRICS[name] for name in LABEL_FREE}
        self.metric = next(iter(self.metrics))
        self.notes = (*data.notes, self._note())
        usual = data.recipe.with_settings(cls.recipe)
        # Validated several times, so that a curve of kNN is recorded. It takes about as long as an epoch of training.
        self.recipe = usual.with_settings({"validate_every": max(1, usual.epochs // _CURVE)})

    @property
    def name(self) -> str:
        """The name of the user's task."""
        return self.data.name

    @name.setter
    def name(self, name: str) -> None:
        self.data.name = name  # `describe` reads it there

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, or their numbers if the user's task names none. Empty if the items have no classes."""
        if not self.labelled:
            return []
        return [str(name) for name in getattr(self.data, "classes", range(self.model_kwargs["num_classes"]))]

    def _note(self) -> str:
        share = labels_read(self.learn)
        which = "all training items" if share >= 1 else f"{100 * share:.4g} % of the training items"
        if not self.labelled:
            told = (
                f"learnt without labels by {self.learn}: there are no labels, so plans are compared by the pretext's "
                "own validation loss, which says how well the pretext is solved and not what the features are good for"
            )
        elif share:
            told = (
                f"learnt by {self.learn}, which reads the labels of {which}; knn_accuracy and probe_accuracy read "
                "those of all items"
            )
        else:
            told = f"learnt without labels by {self.learn}: labels are read by knn_accuracy and probe_accuracy alone"
        return f"{told}. The last layer of each model is not trained; the features before it are what was learnt"

    def check_augmentation(self, augmentation: str) -> None:
        """Raise `InputError` for any augmentation."""
        if augmentation != "none":
            raise InputError(f"augmentation={augmentation}: the views of {self.learn} take its place; leave it out")

    def check_objectives(self, names: Iterable[str]) -> None:
        """Raise `InputError` for an objective that needs labels, if the items have none."""
        for name in names:
            if name in PRETEXT_METRICS and name not in self.metrics:
                raise InputError(
                    f"{name} needs labels, and the items of {self.name} have none; without labels there are "
                    f"{', '.join(self.metrics)}"
                )

    def learner(self, model: nn.Module, seed: int) -> Learner:
        """Return what is trained for a host.

        Raises:
            UnsupportedError: If the pretext does not support the host.
        """
        shown = self.data.preprocessing()
        pixels = (shown["mean"], shown["std"]) if len(self.input_size) == 3 else None
        return Learner(
            model,
            self.learn,
            items=self.splits["train"],
            input_size=self.input_size,
            num_classes=self.model_kwargs["num_classes"] if self.labelled else None,
            pixels=pixels,
            seed=seed,
        )

    def attach(self, host: nn.Module) -> nn.Module:
        """Return the model of a host, as the user's task makes it."""
        return self.data.attach(host)

    @property
    def attaches_itself(self) -> bool:
        """Whether the class of the user's task has an `attach` of its own."""
        return self.data.attaches_itself

    def describe(self) -> dict[str, Any]:
        """Return the description of the data."""
        return self.data.describe()

    def preprocessing(self) -> dict[str, Any]:
        """Return how inputs are prepared."""
        return self.data.preprocessing()

    def train_batches(
        self, batch_size: int, *, seed: int, epoch: int, augmentation: str = "none", device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield training batches. Targets have only what the pretext declares, of `READS`, or nothing.

        Raises:
            InputError: If the pretext needs the numbers of items, and the task draws its batches in an order of its
                own.
        """
        self.check_augmentation(augmentation)
        batches = self.data.train_batches(batch_size, seed=seed, epoch=epoch, device=device)
        numbers = shuffled(self.splits["train"], batch_size, epoch_generator(seed, epoch))
        for x, y in batches:
            count = len(x if isinstance(x, Tensor) else x[0])
            # Without anything to read, the targets still say how many items there are.
            targets: dict[str, Tensor] = {"count": torch.zeros(count, device=device)}
            if {ITEMS, GROUPS} & set(self.reads):
                items = next(numbers, torch.empty(0))
                if len(items) != count:
                    raise InputError(f"learn={self.learn}: {self.name} draws its batches in an order of its own")
                known = {ITEMS: items, GROUPS: self.groups_of("train")[items]}
                targets |= {name: known[name].to(device) for name in known if name in self.reads}
            if LABELS in self.reads:
                targets[LABELS] = y
            yield x, targets

    def groups_of(self, split: str) -> Tensor:
        """Return the numbers of the groups of all items of a split, `(items, levels)`."""
        return self.data.groups.get(split, torch.zeros(self.splits[split], 0, dtype=torch.long))

    def eval_batches(self, split: str, batch_size: int, *, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Yield every item of a split in order, with the targets of the user's task."""
        return self.data.eval_batches(split, batch_size, device=device)

    def loss(self, model: nn.Module, outputs: Any, targets: Any) -> Tensor:
        """Raise an error: the loss is that of the pretext (`Learner.loss`), and needs more than a model's outputs."""
        raise InputError(f"{self.name} is learnt by {self.learn}, so there is no loss of the model's outputs")

    def naive(self, split: str) -> Mapping[str, Mapping[str, float]]:
        """Return nothing: naive methods of the task have other metrics."""
        return {}
