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
    ranges={"factor": "at least 1", "heads": "at least 1"},
    dims=(1, 2),
)
class ProbSparseAttention(ProbSparseSelfAttention):
    """Self-attention of the queries whose attention is far from uniform. The others get the mean of the values.

    .. math:: M(q_i) = \\max_{j \\in S_i} q_i k_j^T - \\frac{1}{N} \\sum_{j \\in S_i} q_i k_j^T,\\qquad
              y_i = \\begin{cases} \\mathrm{softmax}(q_i K^T / \\sqrt{d})\\, V & i \\in \\mathrm{top}_u(M) \\\\
              \\bar V & \\text{else} \\end{cases}

    S_i are U keys sampled for query i, with u = U = c ⌈ln N⌉, at least 1 and at most N. Operations and memory are of
    order N log N. Each head chooses its own queries. As in the official code the sum is divided by N and not by U. In
    training S is drawn anew in each forward pass. In evaluation it is a fixed golden-ratio sequence, which depends only
    on N and U and spreads each query's sample evenly over the keys.

    With `causal` the top queries see only the past, and the others take the cumulative *sum* of the values, as in the
    official code. Values of the future then do not reach the output. The top queries are still chosen by sampled keys
    of the whole series.

    q, k, v and the projection have a bias: 4 C² + 4 C parameters. Norm and residual belong to the surrounding block.

    Shapes: `(B, C, *S) -> (B, C, *S)`, S of one or two dimensions. Two are read row by row.

    Args:
        channels: Channels C.
        factor: Sampling factor c. If c ⌈ln N⌉ >= N, this is full attention.
        heads: Attention heads. The default is the largest divisor of C up to 8 that leaves at least 16 channels a head.
        causal: Whether position i attends only to positions up to i.

    Raises:
        UnsupportedError: If `heads` does not divide C.
    """

    def __init__(
        self, channels: int, *, dims: int = 2, factor: int = 5, heads: int | None = None, causal: bool = False
    ) -> None:
        super().__init__(channels, factor=factor, heads=heads, causal=causal)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S) -> (B, C, *S)`."""
        return from_tokens(super().forward(to_tokens(x)), x.shape[2:])
