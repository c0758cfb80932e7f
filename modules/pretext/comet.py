"""COMET (Wang et al., "Contrast Everything: A Hierarchical Contrastive Framework for Medical Time-Series", NeurIPS
2023, arXiv:2310.14017).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from nasbench import register_module
from nasbench.ops.pretext import Encoder, Pretext
from nasbench.ops.series_contrast import group_contrast, hidden_steps, id_contrast, step_levels


@register_module(
    name="comet",
    kind="pretext",
    dims=1,
    paper="Wang et al., Contrast Everything: A Hierarchical Contrastive Framework for Medical Time-Series, NeurIPS "
    "2023, arXiv:2310.14017",
    limits="needs a host with one vector for each time step; trials and patients need data with groups",
    ranges={
        "observation": "at least 0",
        "sample": "at least 0",
        "trial": "at least 0",
        "patient": "at least 0",
        "temperature": "at least 0.001, at most 100",
        "hidden": "at least 0, at most 1",
    },
)
class COMET(Pretext):
    """Contrast observations, samples, trials and patients.

    .. math:: L = \\mathrm{mean}_{levels} (w_o \\ell_o + w_s \\ell_s + w_t \\ell_t + w_p \\ell_p)

    Both views are the whole series, with other steps hidden. Observation contrast compares the steps of one series, and
    sample contrast the same step of all series of the batch, both by dot products. Trial and patient contrast compare
    whole series by the cosine of all their vectors: series of the same trial or patient are positives of each other. A
    level is a max pooling over 2 steps, and the weights apply at every level.

    The numbers of trials and patients are the groups of the data. With one level of groups, it is the patient. Without
    groups, the first two contrasts are left.

    Args:
        channels: Width C of the host's vectors.
        observation: Weight of observation contrast.
        sample: Weight of sample contrast.
        trial: Weight of trial contrast.
        patient: Weight of patient contrast.
        temperature: Temperature of trial and patient contrast.
        hidden: Share of the steps that are hidden.
    """

    needs = "steps"
    reads = ("groups",)
    recipe: ClassVar = {"epochs": 10}

    def __init__(
        self,
        channels: int,
        *,
        observation: float = 0.25,
        sample: float = 0.25,
        trial: float = 0.25,
        patient: float = 0.25,
        temperature: float = 0.1,
        hidden: float = 0.5,
    ) -> None:
        super().__init__()
        self.observation, self.sample, self.hidden, self.temperature = observation, sample, hidden, temperature
        self.of_groups = (trial, patient)

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Any]:
        """Return the series and the steps to hide in each of two views."""
        return {"x": x, "hide": [hidden_steps(x, self.hidden, draw) for _ in range(2)]}

    def forward(self, encoder: Encoder, views: Any) -> list[Tensor]:
        """Return the vectors of both views, `(B, L, C)` each."""
        return [encoder(views["x"], hide=hide).transpose(1, 2) for hide in views["hide"]]

    def loss(self, outputs: Any, groups: Tensor) -> Tensor:  # type: ignore[override]
        """Return the mean over all levels of the weighted sum of the contrasts.

        Args:
            outputs: The vectors of both views.
            groups: Numbers of the trial and the patient of each series, `(B, 2)`; or of the patient, `(B, 1)`; or none.
        """
        ids = groups.unbind(1)[-2:]
        weights = self.of_groups[len(self.of_groups) - len(ids) :]
        total, levels = outputs[0].new_zeros(()), 0
        for one, two in step_levels(outputs):
            total = total + self.observation * group_contrast(one, two)
            total = total + self.sample * group_contrast(one.transpose(0, 1), two.transpose(0, 1))
            for weight, numbers in zip(weights, ids, strict=True):
                total = total + weight * id_contrast(one.flatten(1), two.flatten(1), numbers, self.temperature)
            levels += 1
        return total / levels
