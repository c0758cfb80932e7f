"""A task and a network that train in milliseconds."""

import torch
from torch import nn

from nasbench.tasks import Task
from nasbench.tasks._base import epoch_generator, shuffled


class Points(Task):
    """Points in three dimensions, two classes told apart by the sign of the first coordinate."""

    name, kind, metric = "points", "classification", "accuracy"
    metrics = {"accuracy": "maximize", "loss": "minimize"}  # noqa: RUF012
    input_size, model_kwargs = (3,), {"num_classes": 2}

    def __init__(self, train=32, scores=None):
        self.splits = {"train": train, "val": 20, "test": 20}
        x = torch.randn(sum(self.splits.values()), 3, generator=torch.Generator().manual_seed(0))
        self.data = dict(zip(self.splits, x.split(list(self.splits.values())), strict=True))
        self.scores = scores  # accuracies to pretend, one a validation
        self.targets_seen = []
        self.opened = []

    def describe(self):
        return {"task": self.name}

    def train_batches(self, batch_size, *, seed, epoch, augmentation="none", device="cpu"):
        for chosen in shuffled(self.splits["train"], batch_size, epoch_generator(seed, epoch)):
            x = self.data["train"][chosen]
            yield x.to(device), (x[:, 0] > 0).long().to(device)

    def eval_batches(self, split, batch_size, *, device="cpu"):
        self.opened.append(split)
        for x in self.data[split].split(batch_size):
            yield x.to(device), (x[:, 0] > 0).long().to(device)

    def loss(self, outputs, targets):
        self.targets_seen.append(targets)
        return nn.functional.cross_entropy(outputs, targets)

    def evaluate(self, outputs, targets):
        correct = (outputs.argmax(1) == targets).double()
        accuracy = float(correct.mean()) if self.scores is None else self.scores.pop(0)
        return {"accuracy": accuracy, "loss": float(nn.functional.cross_entropy(outputs, targets))}, correct.numpy()


def network(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])
