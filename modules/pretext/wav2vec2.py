"""wav2vec 2.0 (Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations",
NeurIPS 2020, arXiv:2006.11477).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasbench import register_module
from nasbench.errors import UnsupportedError
from nasbench.ops.pretext import Encoder, Pretext, Progress
from nasbench.ops.series import short_patch

_SHORTEST = 4  # steps of a series of which a part can be hidden
_SPANS = 2  # at least
_WARMEST, _COLDEST = 2.0, 0.5  # temperature of the Gumbel softmax at the start and at the end
_DIVERSITY, _PENALTY = 0.1, 10.0
_GRADIENT = 0.1  # share of the gradient that reaches the convolutions


@register_module(
    name="wav2vec2",
    kind="pretext",
    dims=1,
    paper="Baevski et al., wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations, NeurIPS "
    "2020, arXiv:2006.11477",
    limits="needs a host with one vector for each time step, and series of at least 4 steps",
    ranges={
        "span": "at least 1",
        "start": "at least 0, at most 1",
        "negatives": "at least 1",
        "temperature": "at least 0.001, at most 100",
        "width": "at least 1",
        "codebooks": "at least 1",
        "codes": "at least 2",
    },
)
class Wav2Vec2(Pretext):
    """Tell the code of a hidden step from the codes of other hidden steps of the same series.

    .. math:: L = -\\mathrm{mean}_t \\log \\frac{\\exp(\\cos(c_t, q_t) / \\tau)}
              {\\sum_{q \\in \\{q_t\\} \\cup Q_t} \\exp(\\cos(c_t, q) / \\tau)}
              + 0.1\\, \\frac{GV - \\sum_g \\exp(H(\\bar p_g))}{GV} + 10\\, \\mathrm{mean}(f^2)

    f are the features of a small convolutional encoder of the pretext, which is the same in all plans, and q their
    codes: one of V codes from each of G codebooks, chosen by a Gumbel softmax whose temperature falls from 2 to 0.5
    over the training. c is the projection of the host's vectors. Q_t are codes of hidden steps of the same series.
    Those that are equal to q_t do not count. A tenth of the gradient reaches the encoder.

    The host is the context network. In the paper it reads the features f. Here it reads the series itself, because the
    host is used without the encoder afterwards. So the encoder keeps the length, and its features are the targets
    alone. Hidden steps are set to zero after the host's input layer. The Gumbel noise is left out in validation.

    Args:
        channels: Width C of the host's vectors.
        input_size: `(L, D)`.
        span: Number of steps of a hidden span. It is shortened so that a series has four spans or more.
        start: Share of the steps at which a span starts. Each series has at least two spans, which can overlap.
        negatives: Number of negatives of each step.
        temperature: Temperature τ of the contrast.
        width: Width of the projections, of the features and of the codes.
        codebooks: Number G of codebooks. It must divide the width.
        codes: Number V of codes of a codebook.
    """

    needs = "steps"
    fewest = 1
    recipe: ClassVar = {"epochs": 10}

    def __init__(
        self,
        channels: int,
        *,
        input_size: Sequence[int],
        span: int = 10,
        start: float = 0.065,
        negatives: int = 100,
        temperature: float = 0.1,
        width: int = 256,
        codebooks: int = 2,
        codes: int = 320,
    ) -> None:
        super().__init__()
        steps, series = input_size
        if steps < _SHORTEST:
            raise UnsupportedError(f"wav2vec2 needs series of at least {_SHORTEST} steps, got {steps}")
        if width % codebooks:
            raise UnsupportedError(f"codebooks={codebooks} must divide width={width}")
        self.span, self.share, self.negatives, self.temperature = (
            short_patch(span, steps),
            start,
            negatives,
            temperature,
        )
        self.encoder = nn.Sequential(
            nn.Conv1d(series, width, 3, padding=1), nn.GELU(), nn.Conv1d(width, width, 3, padding=1), nn.GELU()
        )
        self.norm = nn.LayerNorm(width)
        self.quantiser = Quantiser(width, codebooks, codes)
        self.of_code, self.of_context = nn.Linear(width, width), nn.Linear(channels, width)

    def views(self, x: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Return the series, which steps are hidden, `(B, L)`, and the negatives of each step, `(B, L, negatives)`.

        A negative is the number of a hidden step of the same series. If it is the step itself, it does not count.
        """
        count, steps = x.shape[:2]
        there = ~x.isnan().any(2)
        starts = there.clone()  # a span ends within the series
        starts[:, : self.span - 1] = False
        number = max(_SPANS, round(self.share * steps))
        order = torch.rand(count, steps, generator=draw).to(x.device).masked_fill(~starts, -1.0)
        hide = torch.zeros_like(there)
        chosen = order.topk(min(number, steps), dim=1).indices
        hide.scatter_(1, chosen, True)
        hide &= starts
        # `hide` has the last steps of the spans.
        hide = F.max_pool1d(F.pad(hide.float(), (0, self.span - 1)).unsqueeze(1), self.span, stride=1).squeeze(1) > 0
        pick = torch.rand(count, steps * self.negatives, generator=draw).to(x.device)
        hidden = hide.sum(1, keepdim=True).clamp(min=1)
        # The numbers of the hidden steps come first.
        places = (~hide).to(torch.uint8).argsort(dim=1, stable=True)
        negatives = places.gather(1, (pick * hidden).long().clamp(max=steps - 1))
        return {"x": x, "hide": hide, "negatives": negatives.view(count, steps, self.negatives)}

    def before_step(self, progress: Progress) -> None:
        """Set the temperature of the Gumbel softmax."""
        self.quantiser.warmth = _WARMEST * (_COLDEST / _WARMEST) ** progress.share

    def forward(self, encoder: Encoder, views: Any) -> dict[str, Tensor]:
        """Return contexts and codes `(B, L, width)`, numbers of codes `(B, L)`, and what the loss adds."""
        x, hide = views["x"], views["hide"]
        context = self.of_context(encoder(x, hide=hide).transpose(1, 2))
        features = self.encoder(x.nan_to_num(0.0).transpose(1, 2)).transpose(1, 2)
        features = _GRADIENT * features + (1 - _GRADIENT) * features.detach()
        codes, numbers, used = self.quantiser(self.norm(features), hide)
        return {
            "context": context,
            "code": self.of_code(codes),
            "number": numbers,
            "used": used,
            "square": features.float().square(),
            **views,
        }

    def loss(self, outputs: Any) -> Tensor:
        """Return the contrast of the hidden steps, with the diversity of the codes and the penalty on the features."""
        context, code, hide = outputs["context"], outputs["code"], outputs["hide"]
        there = ~outputs["x"].isnan().any(2)
        extra = _DIVERSITY * (1.0 - outputs["used"]) + _PENALTY * outputs["square"][there].mean()
        if not bool(hide.any()):
            return extra + 0.0 * context.sum()
        # All pairs of steps of a series, because a step is a negative of many others.
        cosine = F.normalize(context, dim=2) @ F.normalize(code, dim=2).transpose(1, 2)
        equal = outputs["number"].unsqueeze(2) == outputs["number"].unsqueeze(1)
        far = cosine.masked_fill(equal, -torch.inf).gather(2, outputs["negatives"])
        logits = torch.cat([cosine.diagonal(dim1=1, dim2=2).unsqueeze(2), far], dim=2)[hide] / self.temperature
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device)) + extra


class Quantiser(nn.Module):
    """Replace vectors by codes, one from each codebook.

    Args:
        width: Width of the vectors and of the codes together.
        codebooks: Number G of codebooks.
        codes: Number V of codes of a codebook.

    Attributes:
        warmth: Temperature of the Gumbel softmax in training.
    """

    def __init__(self, width: int, codebooks: int, codes: int) -> None:
        super().__init__()
        self.warmth = _WARMEST
        self.books = nn.Parameter(torch.rand(codebooks, codes, width // codebooks))
        self.choose = nn.Linear(width, codebooks * codes)
        nn.init.normal_(self.choose.weight)
        nn.init.zeros_(self.choose.bias)

    def forward(self, x: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the codes of vectors, `(B, L, width)`, their numbers, `(B, L)`, and which share of codes is used.

        Args:
            x: Vectors, `(B, L, width)`.
            counted: The vectors over which the share is computed, `(B, L)`. It is the sum over the codebooks of
                exp(entropy of the mean probabilities), by the number of all codes.
        """
        logits = self.choose(x).float().unflatten(2, self.books.shape[:2])
        if self.training:
            chosen = F.gumbel_softmax(logits, tau=self.warmth, hard=True)
        else:
            chosen = F.one_hot(logits.argmax(3), logits.shape[3]).to(logits)
        codes = torch.einsum("blgv,gvw->blgw", chosen, self.books).flatten(2)
        numbers = torch.zeros_like(counted, dtype=torch.long)
        for number in chosen.detach().argmax(3).unbind(2):
            numbers = numbers * logits.shape[3] + number
        weights = counted.to(logits)[:, :, None, None]
        mean = (logits.softmax(3) * weights).sum((0, 1)) / weights.sum().clamp(min=1)
        perplexity = torch.exp(-(mean * (mean + 1e-7).log()).sum(1)).sum()
        return codes, numbers, perplexity / mean.numel()
