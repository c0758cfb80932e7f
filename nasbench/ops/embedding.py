"""Informer's embedding of a multivariate series: values, positions and time covariates."""

from __future__ import annotations

from torch import Tensor, nn

from nasbench.ops.position import sinusoidal

__all__ = ["SeriesEmbedding"]


class SeriesEmbedding(nn.Module):
    """Embed each time step of all series as one token (Zhou et al., AAAI 2021, arXiv:2012.07436, appendix B).

    .. math:: u_t = \\mathrm{conv}_3(x)_t + \\mathrm{PE}_t + W_m m_t

    The convolution has circular padding, as in the official code. So it keeps the length. There are 3 D C + C + K C
    parameters.

    Shapes: `(B, L, D) -> (B, L, C)` for L time steps.

    Args:
        series: Number of series D.
        width: Number of channels C.
        covariates: Number K of covariates of each time step. 0 means none.
    """

    def __init__(self, series: int, width: int, covariates: int = 0) -> None:
        super().__init__()
        self.value = nn.Conv1d(series, width, 3, padding=1, padding_mode="circular")
        # The official code initialises it like this.
        nn.init.kaiming_normal_(self.value.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.marks = nn.Linear(covariates, width, bias=False) if covariates else None

    def forward(self, x: Tensor, marks: Tensor | None = None) -> Tensor:
        """`(B, L, D)` and the covariates `(B, L, K)` to `(B, L, C)`. Without `marks`, the covariates are zeros."""
        tokens = self.value(x.transpose(1, 2)).transpose(1, 2)
        tokens = tokens + sinusoidal(tokens.shape[1:2], tokens.shape[2], device=x.device).to(tokens.dtype)
        if self.marks is None:
            return tokens
        # The layer also runs on zeros, so that a model costs the same with and without covariates.
        marks = x.new_zeros(*x.shape[:2], self.marks.in_features) if marks is None else marks
        return tokens + self.marks(marks)
