"""Recurrent gates over positions (Hochreiter and Schmidhuber, LSTM, 1997, and Cho et al., GRU, 2014)."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from nasbench import register_module
from nasbench.ops.nd import from_tokens, reduced, to_tokens

_CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


@register_module(
    name="recurrent",
    properties=("globality",),
    paper="Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 1997; Cho et al., Learning Phrase "
    "Representations using RNN Encoder-Decoder, EMNLP 2014, arXiv:1406.1078",
    space={"cell": ("lstm", "gru"), "causal": (False, True)},
    ranges={"cell": tuple(_CELLS)},
    dims=(1,),
)
class Recurrent(nn.Module):
    """A recurrent network over the series in both directions, projected back and added to the input.

    .. math:: h = [\\overrightarrow{\\mathrm{RNN}}(x), \\overleftarrow{\\mathrm{RNN}}(x)],\\qquad y = x + W h + b

    The hidden state has h = max(1, C // 2) channels in each direction. A step costs 4 (LSTM) or 3 (GRU) gates of
    (C + h) h multiply-adds. torch.compile refuses nn.LSTM and nn.GRU with `fullgraph=True`. Without it they run
    uncompiled.

    Shapes: `(B, C, L) -> (B, C, L)` for L time steps.

    Args:
        channels: Channels C.
        cell: "lstm" or "gru".
        causal: Whether to read only forwards, so that position t depends on positions up to t.
    """

    def __init__(self, channels: int, *, cell: str = "lstm", causal: bool = False) -> None:
        super().__init__()
        hidden = reduced(channels, 2)
        self.rnn = _CELLS[cell](channels, hidden, batch_first=True, bidirectional=not causal)
        self.proj = nn.Linear(hidden if causal else 2 * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        # cuDNN has a backward pass in training mode alone. Grad-CAM and fingerprints need one in evaluation mode too.
        other = x.is_cuda and not self.training and torch.is_grad_enabled()
        with torch.backends.cudnn.flags(enabled=False) if other else nullcontext():
            hidden, _ = self.rnn(to_tokens(x))
        return x + from_tokens(self.proj(hidden), x.shape[2:])
