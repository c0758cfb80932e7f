"""ProbSparse attention (Zhou et al., Informer, AAAI 2021, arXiv:2012.07436)."""

from __future__ import annotations

from torch import Tensor

from nasbench import register_module
from nasbench.ops.nd import from_tokens, to_tokens
from nasbench.ops.probsparse import ProbSparseSelfAttention


@register_module(
    name="probsparse_attention",
    properties=("sparsity", "globality"),
    paper="Zhou et al., Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting, AAAI 2021, "
    "arXiv:2012.07436",
    space={"factor": (1, 3, 5)},
    dims=(1, 2),
)
class ProbSparseAttention(ProbSparseSelfAttention):
    """Only the queries whose attention is far from uniform attend; the others take the mean of the values.

    .. math:: M(q_i) = \\max_{j \\in S_i} q_i k_j^T - \\frac{1}{N} \\sum_{j \\in S_i} q_i k_j^T,\\qquad
              y_i = \\begin{cases} \\mathrm{softmax}(q_i K^T / \\sqrt{d})\\, V & i \\in \\mathrm{top}_u(M) \\\\
              \\bar V & \\text{else} \\end{cases}

    S_i are U keys sampled for query i, with u = U = c ⌈ln N⌉, at least 1 and at most N: N log N operations and
    memory, in each head a choice of its own. As in the official code the sum is divided by N and not by U. In
    training S is drawn anew in each forward; in evaluation it is a fixed sequence that depends on N and U alone (a
    golden-ratio sequence, which spreads each query's sample evenly over the keys).

    With `causal` the top queries see the past alone and the others take the cumulative *sum* of the values (the
    official code's). The values of the future do not reach the output then, but which queries are at the top is still
    measured on sampled keys of the whole series.

    q, k, v and the projection have a bias: 4 C² + 4 C parameters. Norm and residual belong to the surrounding block.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions; two are read row by row.

    Args:
        channels: Channels C.
        factor: c; from c ⌈ln N⌉ >= N on this is full attention.
        heads: Attention heads; by default the largest count that leaves at least 16 channels a head, at most 8.
        causal: Position i attends to positions up to i alone.

    Raises:
        UnsupportedError: If `heads` does not divide C, or `factor` is below 1.
    """

    def __init__(
        self, channels: int, *, dims: int = 2, factor: int = 5, heads: int | None = None, causal: bool = False
    ) -> None:
        super().__init__(channels, factor=factor, heads=heads, causal=causal)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        return from_tokens(super().forward(to_tokens(x)), x.shape[2:])
