"""The conformance table of the MAC counter: hand-worked truths, and what each engine alone makes of them.

A change of the last two columns after an upgrade of torch or fvcore is news to act on, not a fault of ours.
"""
# ruff: noqa: E501  (a table is read by its columns)

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasbench.measurement import costs
from nasbench.measurement.costs.counter import FlopCountAnalysis

RAISES = "raises"


class Fn(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    macs: int  # by hand
    fvcore: int | str  # stock fvcore alone, on the CPU
    flop_counter: int | str  # FlopCounterMode alone, on the meta device
    elementwise: int | None = None  # by hand, where the case is about it
    dtype: torch.dtype = torch.float32

    def inputs(self, device: str = "cpu") -> tuple[torch.Tensor, ...]:
        return tuple(torch.zeros(s, dtype=self.dtype, device=device) for s in self.shapes)


def fn(function: Callable[..., Any]) -> Callable[[], nn.Module]:
    return lambda: Fn(function)


class Attend(nn.Module):
    """Self-attention by nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Packed(nn.Module):
    """An LSTM over a packed batch of lengths 5 and 3."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = torch.tensor([5, 3], device="cpu")
        return self.lstm(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))[0].data


def sdpa(**options: Any) -> Callable[[], nn.Module]:
    return fn(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options))


def boxes(x: torch.Tensor, count: int) -> torch.Tensor:
    """Boxes over a corner of the first image: (image, x1, y1, x2, y2)."""
    return x.new_tensor([[0, 0, 0, 3, 3]]).expand(count, 5).to(x.dtype)


def places(x: torch.Tensor, *shape: int) -> torch.Tensor:
    """Indices of the first row of a table."""
    return torch.zeros(shape, dtype=torch.long, device=x.device)


def marked(x: torch.Tensor) -> torch.Tensor:
    """A product between marks of the profiler."""
    with torch.profiler.record_function("product"):
        return x @ x


QKV = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6))
ATTENTION = 2 * 3 * 5 * 7 * 4 + 2 * 3 * 5 * 7 * 6  # q·k + a·v
MHA = 2 * 5 * 8 * 24 + 2 * (5 * 5 * 8) * 2 + 2 * 5 * 8 * 8  # in-projection, q·k and a·v over two heads of 4, out
LAYER = MHA + 2 * 2 * 5 * 8 * 16  # and a feed-forward of 16
LSTM = 2 * 5 * 4 * (3 + 4) * 4  # batch, steps, 4·(i+h)·h
GRU = 2 * 5 * 3 * (3 + 4) * 4

CASES = [
    # what both engines know
    Case("conv2d", lambda: nn.Conv2d(3, 4, 3, 2, 1), ((2, 3, 9, 9),), 2 * 4 * 25 * 27, 5400, 5400),
    Case("conv2d depthwise", lambda: nn.Conv2d(6, 6, 3, groups=6), ((1, 6, 5, 5),), 6 * 9 * 9, 486, 486),
    Case("conv2d dilated, grouped", lambda: nn.Conv2d(4, 6, 3, dilation=2, groups=2), ((1, 4, 7, 7),), 6 * 9 * 18, 972, 972),
    Case("conv1d", lambda: nn.Conv1d(3, 4, 5), ((2, 3, 9),), 2 * 4 * 5 * 15, 600, 600),
    Case("conv3d", lambda: nn.Conv3d(2, 3, 3), ((1, 2, 4, 4, 4),), 3 * 8 * 54, 1296, 1296),
    Case("conv2d unbatched", lambda: nn.Conv2d(3, 4, 3), ((3, 5, 5),), 4 * 9 * 27, 972, 972),
    Case("conv_transpose2d", lambda: nn.ConvTranspose2d(3, 4, 3, 2), ((2, 3, 5, 5),), 2 * 3 * 25 * 4 * 9, 5400, 5400),
    Case("linear", lambda: nn.Linear(6, 5), ((2, 3, 6),), 2 * 3 * 6 * 5, 180, 180),
    Case("matmul", fn(torch.matmul), ((2, 3, 4, 5), (2, 3, 5, 6)), 2 * 3 * 4 * 5 * 6, 720, 720),
    Case("bmm", fn(torch.bmm), ((2, 4, 5), (2, 5, 6)), 240, 240, 240),
    # padding by name
    Case("conv2d padding=same", lambda: nn.Conv2d(3, 4, 3, padding="same"), ((2, 3, 5, 5),), 2 * 4 * 25 * 27, 0, 5400),
    Case("conv2d same, even kernel", lambda: nn.Conv2d(3, 4, 4, padding="same"), ((2, 3, 5, 5),), 2 * 4 * 25 * 48, 0, 9600),
    Case("conv1d padding=same", lambda: nn.Conv1d(3, 4, 3, padding="same"), ((3, 5),), 4 * 5 * 9, 0, 180),
    # attention
    Case("sdpa", sdpa(), QKV, ATTENTION, 0, ATTENTION, elementwise=5 * 2 * 3 * 5 * 7),
    Case("sdpa causal", sdpa(is_causal=True), QKV, ATTENTION, 0, ATTENTION),
    Case("sdpa masked", fn(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m)), (*QKV, (5, 7)), ATTENTION, 0, ATTENTION),
    Case("sdpa grouped heads", sdpa(enable_gqa=True), ((2, 4, 5, 4), (2, 2, 7, 4), (2, 2, 7, 4)), 2 * 4 * 5 * 7 * 8, 0, 2240),
    Case("sdpa 3-D, broadcast", sdpa(), ((2, 5, 4), (1, 7, 4), (1, 7, 4)), 2 * 5 * 7 * 8, 0, 560),
    Case("MultiheadAttention", Attend, ((2, 5, 8),), MHA, 0, MHA),
    Case(
        "TransformerEncoderLayer",
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        ((2, 5, 8),),
        LAYER,
        3360,
        LAYER,
    ),
    # recurrent
    Case("LSTM", lambda: nn.LSTM(3, 4, batch_first=True), ((2, 5, 3),), LSTM, 0, LSTM, elementwise=2 * 5 * 4 * 13),
    Case("LSTM, 2 layers, both ways", lambda: nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True), ((2, 5, 3),),
         2 * (LSTM + 2 * 5 * 4 * (8 + 4) * 4), 0, 2 * (LSTM + 2 * 5 * 4 * 12 * 4)),
    Case("LSTM, projected", lambda: nn.LSTM(3, 4, proj_size=2), ((5, 2, 3),), 10 * (16 * 3 + 16 * 2 + 2 * 4), 0, 880),
    Case("LSTM, packed", Packed, ((2, 5, 3),), 8 * 4 * 7 * 4, 0, 8 * 4 * 7 * 4),
    Case("GRU", lambda: nn.GRU(3, 4, batch_first=True), ((2, 5, 3),), GRU, 0, GRU, elementwise=2 * 5 * 4 * 10),
    Case("RNN", lambda: nn.RNN(3, 4), ((5, 2, 3),), 2 * 5 * 7 * 4, 0, 280, elementwise=2 * 5 * 4 * 2),
    Case("LSTMCell", lambda: nn.LSTMCell(3, 4), ((2, 3),), 2 * 4 * 7 * 4, 224, 224),
    # matrix products
    Case("matmul left broadcast", fn(torch.matmul), ((4, 5), (3, 5, 6)), 3 * 4 * 5 * 6, 120, 360),
    Case("matmul left 1 of b", fn(torch.matmul), ((1, 2, 4, 5), (3, 2, 5, 6)), 3 * 2 * 4 * 5 * 6, 240, 720),
    Case("matmul (b,n,k)@(k)", fn(torch.matmul), ((2, 3, 4), (4,)), 24, RAISES, 0),
    Case("matmul (k)@(b,k,m)", fn(torch.matmul), ((4,), (2, 4, 5)), 40, 20, 40),
    Case("mv", fn(torch.mv), ((3, 4), (4,)), 12, 0, 0),
    Case("dot", fn(torch.dot), ((4,), (4,)), 4, 0, 0),
    Case("inner", fn(torch.inner), ((2, 4), (3, 4)), 24, 0, 24),
    Case("addmv", fn(torch.addmv), ((3,), (3, 4), (4,)), 12, 0, 0),
    Case("baddbmm", fn(torch.baddbmm), ((2, 3, 5), (2, 3, 4), (2, 4, 5)), 120, 0, 120),
    Case("addbmm", fn(torch.addbmm), ((3, 5), (2, 3, 4), (2, 4, 5)), 120, 0, 0),
    Case("tensordot", fn(lambda a, b: torch.tensordot(a, b, dims=2)), ((2, 3, 4), (3, 4, 5)), 2 * 12 * 5, 0, 120),
    Case("linalg.matmul", fn(torch.linalg.matmul), ((2, 3, 4), (4, 5)), 120, 120, 120),
    Case("linalg.multi_dot", fn(lambda *m: torch.linalg.multi_dot(m)), ((2, 9), (9, 3), (3, 4), (4, 2)), 54 + 24 + 12, 0, 90),
    Case("linalg.matrix_power", fn(lambda a: torch.linalg.matrix_power(a, 5)), ((3, 3),), 3 * 27, 0, 81),
    Case("linalg.vecdot", fn(torch.linalg.vecdot), ((2, 4), (2, 4)), 8, 0, 0),
    Case("cosine_similarity", fn(F.cosine_similarity), ((2, 4), (2, 4)), 8, 0, 0),
    # einsum
    Case("einsum bik,bkj", fn(lambda a, b: torch.einsum("bik,bkj->bij", a, b)), ((2, 3, 4), (2, 4, 5)), 120, 120, 120),
    Case("einsum outer", fn(lambda a, b: torch.einsum("bi,bj->bij", a, b)), ((2, 3), (2, 4)), 24, 12, 0),
    Case("einsum implicit", fn(lambda a, b: torch.einsum("ij,jk", a, b)), ((3, 4), (4, 5)), 60, 60, 60),
    Case("einsum ellipsis", fn(lambda a, b: torch.einsum("...ij,...jk->...ik", a, b)), ((2, 3, 4), (2, 4, 5)), 120, 120, 120),
    Case("einsum summed first", fn(lambda a, b: torch.einsum("bnd,de->e", a, b)), ((2, 3, 4), (4, 5)), 20, 120, 20),
    Case("einsum three", fn(lambda a, b, c: torch.einsum("bi,ij,bj->b", a, b, c)), ((2, 3), (3, 4), (2, 4)),
         2 * 3 * 4 + 2 * 4, 30, 32),
    Case("einsum diagonal", fn(lambda a: torch.einsum("bii->b", a)), ((2, 3, 3),), 0, 6, 0),
    # complex
    Case("complex matmul", fn(torch.matmul), ((3, 4), (4, 5)), 4 * 60, 60, 60, dtype=torch.cfloat),
    Case("complex linear", lambda: nn.Linear(4, 5, dtype=torch.cfloat), ((3, 4),), 4 * 60, 60, 60, dtype=torch.cfloat),
    Case("complex einsum", fn(lambda a, b: torch.einsum("bi,io->bo", a, b)), ((2, 3), (3, 4)), 4 * 24, 24, 24, dtype=torch.cfloat),
    Case("complex conv, as 3 real ones", lambda: nn.Conv2d(2, 3, 3, dtype=torch.cfloat), ((1, 2, 4, 4),), 3 * 3 * 4 * 18, 648, 648,
         dtype=torch.cfloat),
    # Fourier: 5·N·log2 N real operations, no contraction
    Case("fft", fn(torch.fft.fft), ((3, 8),), 0, 0, 0, elementwise=3 * 5 * 8 * 3),
    Case("rfft2", fn(torch.fft.rfft2), ((2, 3, 8, 4),), 0, 0, 0, elementwise=6 * 5 * 32 * 5),
    Case("rfft over dim 1", fn(lambda x: torch.fft.rfft(x, dim=1)), ((2, 16, 3),), 0, 0, 0, elementwise=6 * 5 * 16 * 4),
    Case("irfft", fn(lambda x: torch.fft.irfft(x, n=8)), ((3, 5),), 0, 0, 0, elementwise=3 * 5 * 8 * 3, dtype=torch.cfloat),
    # sampling
    Case("grid_sample", fn(lambda x, g: F.grid_sample(x, g, align_corners=False)), ((2, 3, 4, 4), (2, 5, 6, 2)),
         4 * 2 * 3 * 30, 720, 0),
    Case("grid_sample nearest", fn(lambda x, g: F.grid_sample(x, g, mode="nearest", align_corners=False)),
         ((2, 3, 4, 4), (2, 5, 6, 2)), 0, 720, 0),
    Case("grid_sample 3-D", fn(lambda x, g: F.grid_sample(x, g, align_corners=False)), ((1, 2, 3, 3, 3), (1, 2, 2, 2, 3)),
         8 * 2 * 8, 64, 0),
    Case("interpolate bilinear", fn(lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear")), ((1, 2, 3, 3),),
         4 * 2 * 36, 288, 0),
    Case("interpolate bilinear, antialiased", fn(lambda x: F.interpolate(x, size=(2, 3), mode="bilinear", antialias=True)),
         ((1, 2, 4, 3),), 2 * (4 * 3 * 2 + 2 * 3 * 4), 0, 0),
    Case("interpolate nearest", fn(lambda x: F.interpolate(x, scale_factor=2.0)), ((1, 2, 3, 3),), 0, 72, 0),
    # 6 filters of 4·9 taps at 9 positions, and a sample of 4 for each of the 4 channels, 9 taps and 9 positions
    Case("deform_conv2d", fn(torchvision.ops.deform_conv2d), ((1, 4, 5, 5), (1, 18, 3, 3), (6, 4, 3, 3)),
         6 * 9 * 36 + 4 * 4 * 9 * 9, 0, 0, elementwise=0),
    Case("deform_conv2d, masked", fn(lambda x, o, m, w: torchvision.ops.deform_conv2d(x, o, w, mask=m)),
         ((2, 4, 5, 5), (2, 18, 3, 3), (2, 9, 3, 3), (6, 4, 3, 3)), 2 * (6 * 9 * 36 + 4 * 4 * 9 * 9), 0, 0,
         elementwise=2 * 4 * 9 * 9),
    Case("deform_conv2d, 2 groups", fn(torchvision.ops.deform_conv2d), ((1, 4, 5, 5), (1, 18, 3, 3), (6, 2, 3, 3)),
         6 * 9 * 18 + 4 * 4 * 9 * 9, 0, 0),
    # 2 boxes, 3 channels, 2x2 bins of 2x2 samples of 4
    Case("roi_align", fn(lambda x: torchvision.ops.roi_align(x, boxes(x, 2), 2, sampling_ratio=2)), ((1, 3, 8, 8),),
         2 * 3 * 4 * 4 * 4, 0, 0),
    Case("ps_roi_align", fn(lambda x: torchvision.ops.ps_roi_align(x, boxes(x, 2), 2, sampling_ratio=3)), ((1, 12, 8, 8),),
         2 * 3 * 4 * 9 * 4, 0, 0),
    Case("roi_pool", fn(lambda x: torchvision.ops.roi_pool(x, boxes(x, 2), 2)), ((1, 3, 8, 8),), 0, 0, 0, elementwise=24),
    Case("affine_grid", fn(lambda t: F.affine_grid(t, [2, 3, 4, 5], align_corners=False)), ((2, 2, 3),),
         2 * 4 * 5 * 2 * 3, 0, 0),
    # look-ups that are summed
    Case("embedding_bag", fn(lambda w: F.embedding_bag(places(w, 2, 3), w, mode="sum")), ((9, 4),), 0, 0, 0,
         elementwise=2 * 3 * 4),
    Case("embedding_bag, weighted",
         fn(lambda w, p: F.embedding_bag(places(w, 2, 3), w, per_sample_weights=p, mode="sum")), ((9, 4), (2, 3)),
         2 * 3 * 4, 0, 0, elementwise=0),
    # Fourier over frames: (64 + 16) // 4 + 1 - 4 = 17 frames of 16 points
    Case("stft", fn(lambda x: torch.stft(x, 16, return_complex=True)), ((2, 64),), 0, 0, 0,
         elementwise=2 * 17 * 5 * 16 * 4),
    Case("stft, windowed, as pairs", fn(lambda x, w: torch.view_as_real(torch.stft(x, 16, window=w, return_complex=True))),
         ((2, 64), (16,)), 0, 0, 0, elementwise=2 * 17 * (5 * 16 * 4 + 16)),
    Case("fft, cut to 4", fn(lambda x: torch.fft.fft(x, n=4)), ((3, 8),), 0, 0, 0, elementwise=3 * 5 * 4 * 2),
    Case("fft, padded to 16", fn(lambda x: torch.fft.fft(x, n=16)), ((3, 8),), 0, 0, 0, elementwise=3 * 5 * 16 * 4),
    Case("rfft, cut to 4", fn(lambda x: torch.fft.rfft(x, n=4)), ((3, 8),), 0, 0, 0, elementwise=3 * 5 * 4 * 2),
    Case("rfft of 7", fn(torch.fft.rfft), ((1, 7),), 0, 0, 0, elementwise=round(5 * 7 * math.log2(7))),
    Case("rfft2, cut to 4x4", fn(lambda x: torch.fft.rfft2(x, s=(4, 4))), ((8, 8),), 0, 0, 0, elementwise=5 * 16 * 4),
    Case("irfft, cut to 4", fn(lambda x: torch.fft.irfft(x, n=4)), ((3, 8),), 0, 0, 0, elementwise=3 * 5 * 4 * 2,
         dtype=torch.cfloat),
    Case("fftfreq and fftshift", fn(lambda x: torch.fft.fftshift(x) * torch.fft.fftfreq(8)), ((3, 8),), 0, 0, 0, elementwise=24),
    # outer products count as einsum counts them
    Case("outer", fn(torch.outer), ((3,), (4,)), 12, 0, 0, elementwise=0),
    Case("outer, a method", fn(torch.Tensor.outer), ((3,), (4,)), 12, 0, 0, elementwise=0),
    Case("outer, summed", fn(lambda a, b: torch.outer(a, b).sum()), ((3,), (4,)), 12, 0, 0, elementwise=12),
    Case("complex outer", fn(torch.outer), ((3,), (4,)), 48, 0, 0, dtype=torch.cfloat),
    Case("addr", fn(torch.addr), ((3, 4), (3,), (4,)), 12, 0, 0),
    Case("kron", fn(torch.kron), ((2, 3), (3, 4)), 6 * 12, 0, 0),
    # products that change their first operand
    Case("addmm_", fn(lambda c, a, b: c.clone().addmm_(a, b)), ((3, 5), (3, 4), (4, 5)), 60, 0, 0),
    Case("addmv_", fn(lambda c, a, b: c.clone().addmv_(a, b)), ((3,), (3, 4), (4,)), 12, 0, 0),
    Case("baddbmm_", fn(lambda c, a, b: c.clone().baddbmm_(a, b)), ((2, 3, 5), (2, 3, 4), (2, 4, 5)), 120, 0, 0),
    Case("addbmm_", fn(lambda c, a, b: c.clone().addbmm_(a, b)), ((3, 5), (2, 3, 4), (2, 4, 5)), 120, 0, 0),
    Case("addr_", fn(lambda c, a, b: c.clone().addr_(a, b)), ((3, 4), (3,), (4,)), 12, 0, 0),
    # others that an engine does not know
    Case("conv_tbc", fn(torch.conv_tbc), ((9, 2, 3), (5, 3, 4), (4,)), 5 * 2 * 4 * 5 * 3, 0, 0),
    Case("linear, 1-D weight", fn(F.linear), ((3, 4), (4,)), 12, 48, 0),
    Case("cov", fn(torch.cov), ((3, 5),), 3 * 3 * 5, 0, RAISES),
    Case("corrcoef", fn(torch.corrcoef), ((3, 5),), 3 * 3 * 5, 0, RAISES),
    Case("pdist", fn(torch.pdist), ((4, 3),), 6 * 3, 0, 0),
    Case("_int_mm", fn(lambda x: torch._int_mm(x.to(torch.int8), x.to(torch.int8))), ((32, 32),), 32**3, 0, 0),
    Case("profiler", fn(lambda x: marked(x)), ((3, 3),), 27, 27, 27),
    # products that are summed
    Case("mul, sum", fn(lambda a, b: (a * b).sum(1)), ((3, 4, 5), (3, 4, 5)), 60, 0, 0, elementwise=0),
    Case("mul alone", fn(lambda a, b: (a * b).mean(1)), ((3, 4), (3, 4)), 0, 0, 0, elementwise=24),
    Case("mul, sum, and used again", fn(lambda a, b: ((p := a * b).sum(1), p.relu())), ((3, 4), (3, 4)), 0, 0, 0,
         elementwise=36),
    Case("mul, sum, and returned", fn(lambda a, b: ((p := a * b).sum(1), p)), ((3, 4), (3, 4)), 0, 0, 0, elementwise=24),
    Case("a product that nobody uses", fn(lambda x: (x @ x, x + 1)[1]), ((3, 3),), 27, 0, 27, elementwise=9),
    Case("involution", fn(lambda x, w: (F.unfold(x, 3, padding=1).view(2, 4, 9, 25) * w).sum(2)),
         ((2, 4, 5, 5), (2, 1, 9, 25)), 2 * 4 * 9 * 25, 0, 0),
    Case("cdist", fn(torch.cdist), ((2, 7, 3), (2, 9, 3)), 2 * 7 * 9 * 3, 0, 0),
    Case("cdist of many", fn(torch.cdist), ((2, 70, 3), (2, 9, 3)), 2 * 70 * 9 * 3, 0, 0),
    Case("Bilinear", lambda: nn.Bilinear(3, 4, 5), ((2, 3), (2, 4)), 2 * 3 * 4 * 5, 0, 0),
    # elementwise work stays apart
    Case("batch_norm, relu", lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), ((2, 3, 4, 4),), 0, 192, 0,
         elementwise=96 * 6),
    Case("layer_norm, gelu", lambda: nn.Sequential(nn.LayerNorm(4), nn.GELU()), ((3, 4),), 0, 60, 0, elementwise=72),
    Case("softmax", lambda: nn.Softmax(-1), ((3, 4),), 0, 0, 0, elementwise=60),
    Case("mean over a broadcast sum", fn(lambda a, b: (a + b).mean((2, 3))), ((1, 3, 1, 1), (2, 3, 4, 4)), 0, 0, 0,
         elementwise=96 + 96),
    Case("views, pads, gathers", fn(lambda x: F.pad(x.flip(1).roll(2, 2)[:, ::2], (1, 1)).permute(2, 0, 1)), ((2, 4, 6),),
         0, 0, 0, elementwise=0),
    Case("index arithmetic", fn(lambda x: x[:, torch.arange(3) * 2 % 4]), ((2, 4),), 0, 0, 0, elementwise=0),
]  # fmt: skip


def stock(case: Case) -> int | str:
    analysis = FlopCountAnalysis(case.make().eval(), case.inputs())
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    try:
        with torch.no_grad():
            return int(analysis.total())
    except Exception:
        return RAISES


def flop_counter(case: Case) -> int | str:
    try:
        with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
            case.make().eval()(*case.inputs("meta"))
        return counter.get_total_flops() // 2
    except Exception:
        return RAISES


by_name = pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])


@by_name
def test_ours_is_the_truth(case):
    found = costs.count(case.make(), *case.inputs())
    assert (found.macs, found.exact, found.unknown_ops) == (case.macs, True, ())
    if case.elementwise is not None:
        assert found.elementwise_flops == case.elementwise


@by_name
def test_the_engines_alone_are_as_recorded(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (stock(case), flop_counter(case)) == (case.fvcore, case.flop_counter)


def test_we_are_right_more_often_than_either_engine():
    stock_right = sum(c.fvcore == c.macs for c in CASES)
    audit_right = sum(c.flop_counter == c.macs for c in CASES)
    assert stock_right < audit_right < len(CASES)
    assert math.isclose(audit_right / len(CASES), 0.75, abs_tol=0.15)


BATCHED = {  # which inputs have a batch, along their first dimension
    "deform_conv2d": (0, 1),
    "deform_conv2d, masked": (0, 1, 2),
    "stft": (0,),
    "fft, cut to 4": (0,),
    "rfft, cut to 4": (0,),
    "outer": (0,),
    "addr": (0, 1),
    "kron": (0,),
    "addmm_": (0, 1),
    "addmv_": (0, 1),
    "baddbmm_": (0, 1, 2),
    "linear, 1-D weight": (0,),
}


@pytest.mark.parametrize("name", BATCHED)
def test_twice_the_batch_costs_twice(name):
    case = next(case for case in CASES if case.name == name)
    doubled = [(shape[0] * (2 if i in BATCHED[name] else 1), *shape[1:]) for i, shape in enumerate(case.shapes)]
    once = costs.count(case.make(), *case.inputs())
    twice = costs.count(case.make(), *(torch.zeros(shape, dtype=case.dtype) for shape in doubled))
    assert (twice.macs, twice.elementwise_flops) == (2 * once.macs, 2 * once.elementwise_flops)


@pytest.mark.parametrize(
    ("of", "elementwise"),
    [
        (lambda n, x: torchvision.ops.roi_align(x, boxes(x, n), 2, sampling_ratio=2), False),
        (lambda n, x: F.embedding_bag(places(x, n, 3), x[0, 0], mode="sum"), True),
        (lambda n, x: torch.conv_tbc(x.new_zeros(9, n, 3), x.new_zeros(5, 3, 4), x.new_zeros(4)), False),
        (lambda n, x: F.affine_grid(x.new_zeros(n, 2, 3), [n, 3, 4, 5], align_corners=False), False),
    ],
    ids=["boxes", "bags", "conv_tbc", "affine_grid"],
)
def test_twice_as_many_cost_twice(of, elementwise):
    one, two = (costs.count(Fn(lambda x, n=n: of(n, x)), torch.zeros(1, 3, 8, 8)) for n in (2, 4))
    assert one.exact
    assert two.exact
    figures = [c.elementwise_flops if elementwise else c.macs for c in (one, two)]
    assert 0 < figures[1] == 2 * figures[0]
