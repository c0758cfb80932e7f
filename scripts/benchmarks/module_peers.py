"""The peer of each module for `scripts/benchmarks/modules.py`, which is never code of nasbench.

A label begins with the package that the peer comes from. "plain torch" says that no installed package has the module.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm import layers
from timm.layers.selective_kernel import SelectiveKernel, SelectiveKernelAttn
from timm.models.efficientvit_mit import LiteMLA
from timm.models.swiftformer import EfficientAdditiveAttention
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from scripts.benchmarks import plain_maps as maps
from scripts.benchmarks import plain_modules as plain
from scripts.benchmarks.plain_modules import heads_of, tokens_of


@dataclass(frozen=True)
class Peer:
    """What a module is compared with: a label, and `build(channels, size)` to make it."""

    label: str
    build: Callable[[int, tuple[int, ...]], nn.Module]


class OnTokens(nn.Module):
    """A layer of tokens `(B, N, C)` used on a map."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        return self.body(tokens_of(x)).transpose(1, 2).reshape(x.shape)


class PreNorm(nn.Module):
    """A residual layer of tokens with its norm before it."""

    def __init__(self, c: int, body: nn.Module) -> None:
        super().__init__()
        self.norm, self.body = nn.LayerNorm(c), body

    def forward(self, t: Tensor) -> Tensor:
        """`(B, N, C) -> (B, N, C)`."""
        return t + self.body(self.norm(t))


class Experts(nn.Module):
    """Two feed-forward nets, weighted at each token by a learned route."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.route, self.a, self.b = nn.Linear(c, 2), layers.Mlp(c, 4 * c), layers.Mlp(c, 4 * c)

    def forward(self, t: Tensor) -> Tensor:
        """`(B, N, C) -> (B, N, C)`."""
        share = self.route(t).softmax(-1)
        return share[..., :1] * self.a(t) + share[..., 1:] * self.b(t)


class Queries(nn.Module):
    """A hundred learned queries that read the tokens and are read by them."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(100, c))
        self.read, self.write = (nn.MultiheadAttention(c, heads_of(c), batch_first=True) for _ in range(2))

    def forward(self, t: Tensor) -> Tensor:
        """`(B, N, C) -> (B, N, C)`."""
        position = self.queries.expand(len(t), -1, -1)
        found = self.read(position, t, t, need_weights=False)[0]
        return self.write(t, found + position, found, need_weights=False)[0]


class Windows(nn.Module):
    """Causal attention within windows of a few steps."""

    def __init__(self, c: int, window: int = 6) -> None:
        super().__init__()
        self.window, self.attention = window, nn.MultiheadAttention(c, heads_of(c), batch_first=True)
        self.register_buffer("mask", torch.ones(window, window, dtype=torch.bool).triu(1))

    def forward(self, t: Tensor) -> Tensor:
        """`(B, N, C) -> (B, N, C)`."""
        b, n, c = t.shape
        w = F.pad(t, (0, 0, 0, -n % self.window)).reshape(-1, self.window, c)
        y = self.attention(w, w, w, attn_mask=self.mask, is_causal=True, need_weights=False)[0]
        return y.reshape(b, -1, c)[:, :n]


class Rnn(nn.Module):
    """A residual bidirectional LSTM."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.rnn, self.proj = nn.LSTM(c, c // 2, batch_first=True, bidirectional=True), nn.Linear(c, c)

    def forward(self, t: Tensor) -> Tensor:
        """`(B, N, C) -> (B, N, C)`."""
        return t + self.proj(self.rnn(t)[0])


class TwoStage(nn.Module):
    """Attention over time, then over the series through a few routers."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.time, self.gather, self.give = (nn.MultiheadAttention(c, heads_of(c), batch_first=True) for _ in range(3))
        self.routers, self.norms = nn.Parameter(torch.randn(10, c)), nn.ModuleList(nn.LayerNorm(c) for _ in range(4))
        self.ffn = nn.ModuleList(layers.Mlp(c, 4 * c) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, D, L) -> (B, C, D, L)`, D series of L steps."""
        b, c, d, n = x.shape
        t = x.permute(0, 2, 3, 1).reshape(b * d, n, c)
        t = self.norms[0](t + self.time(t, t, t, need_weights=False)[0])
        t = self.norms[1](t + self.ffn[0](t))
        t = t.view(b, d, n, c).transpose(1, 2).reshape(b * n, d, c)
        messages = self.gather(self.routers.expand(b * n, -1, -1), t, t, need_weights=False)[0]
        t = self.norms[2](t + self.give(t, messages, messages, need_weights=False)[0])
        t = self.norms[3](t + self.ffn[1](t))
        return t.view(b, n, d, c).permute(0, 3, 2, 1)


class Cross(nn.Module):
    """Cross-attention of one map to another, with a residual and a norm."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(c, heads_of(c), batch_first=True)
        self.norm = nn.LayerNorm(c, eps=1e-12)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two maps `(B, C, H, W)` to one."""
        q, k = tokens_of(a), tokens_of(b)
        return self.norm(q + self.attention(q, k, k, need_weights=False)[0]).transpose(1, 2).reshape(a.shape)


class SelectPaths(nn.Module):
    """timm's selective-kernel attention over two paths."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.attention = SelectiveKernelAttn(c, 2, max(c // 16, 32))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two maps `(B, C, H, W)` to one."""
        x = torch.stack([a, b], 1)
        return (x * self.attention(x)).sum(1)


class Fpn(nn.Module):
    """torchvision's feature pyramid network of 256 channels."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork([c, 2 * c, 4 * c], 256)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """A pyramid, fine to coarse, to one of the same sizes."""
        return list(self.fpn(dict(zip("abc", x, strict=True))).values())


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Tensor) -> Tensor:
        """Apply the function."""
        return self.function(*x)


def _plain(cls: type[nn.Module], note: str = "") -> Peer:
    return Peer(f"plain torch{note}", lambda c, size: cls(c))


PEERS = {
    "se": Peer("timm SEModule, same width", lambda c, s: layers.SEModule(c, rd_channels=c // 16)),
    "eca": Peer("timm EcaModule", lambda c, s: layers.EcaModule(c)),
    "channel_attention": _plain(maps.ChannelAttention),
    "self_gate": _plain(maps.SelfGate),
    "cbam": Peer("timm CbamModule", lambda c, s: layers.create_attn("cbam", c, rd_channels=c // 16)),
    "coord_attention": Peer(
        "timm CoordAttn, same width", lambda c, s: layers.create_attn("coord", c, rd_channels=max(8, c // 32))
    ),
    "triplet_attention": _plain(maps.Triplet),
    "position_attention": _plain(maps.PositionAttention, ", softmax of N x N"),
    "danet": _plain(maps.Danet, ", softmax of N x N"),
    "cot": _plain(maps.Cot, ", unfold"),
    "caa": _plain(maps.Caa),
    "depthwise_separable": Peer("timm SeparableConv2d", lambda c, s: layers.SeparableConv2d(c, c, 3)),
    "sk": Peer(
        "timm SelectiveKernel, unsplit, 32 groups",
        lambda c, s: SelectiveKernel(c, c, groups=32, split_input=False, rd_channels=max(c // 16, 32)),
    ),
    "mixconv": Peer("timm MixedConv2d", lambda c, s: layers.MixedConv2d(c, c, [3, 5, 7], depthwise=True)),
    "poly_kernel": _plain(maps.PolyKernel),
    "dual_pool": _plain(maps.DualPool),
    "self_attention": Peer(
        "timm Attention, pre-norm", lambda c, s: OnTokens(PreNorm(c, layers.Attention(c, heads_of(c), qkv_bias=True)))
    ),
    "transformer_block": Peer(
        "timm vision_transformer.Block", lambda c, s: OnTokens(Block(c, heads_of(c), qkv_bias=True))
    ),
    "external_attention": _plain(plain.ExternalAttention),
    "muse": _plain(plain.Muse, ", unfold"),
    "agent_attention": Peer("plain torch, fixed size", lambda c, s: plain.AgentAttention(c, s[0])),
    "relu_linear_attention": Peer(
        "timm efficientvit_mit.LiteMLA", lambda c, s: LiteMLA(c, c, heads=heads_of(c), dim=c // heads_of(c))
    ),
    "additive_attention": Peer(
        "timm swiftformer.EfficientAdditiveAttention", lambda c, s: EfficientAdditiveAttention(c, c)
    ),
    "dilated_attention": _plain(plain.DilatedAttention, ", unfold"),
    "hilo_attention": _plain(plain.HiLo),
    "pyramid_pool_attention": _plain(plain.PyramidPool),
    "token_dictionary": _plain(plain.TokenDictionary),
    "dual_aggregation": _plain(maps.DualAggregation),
    "dual_vit": _plain(plain.DualViT),
    "deformable_attention": _plain(plain.Deformable, ", grid_sample"),
    "query_attention": Peer("torch MultiheadAttention, two", lambda c, s: OnTokens(Queries(c))),
    "vector_quantise": _plain(plain.VectorQuantiser, ", one-hot"),
    "multiway_ffn": Peer("timm Mlp, two and a route", lambda c, s: OnTokens(Experts(c))),
    "gated_tcn": _plain(maps.GatedTCN),
    "mgtu": Peer("plain torch, fixed length", lambda c, s: maps.Mgtu(c, s[0])),
    "conv_attention": _plain(maps.ConvAttention),
    "window_attention": Peer("torch MultiheadAttention in windows", lambda c, s: OnTokens(Windows(c))),
    "pyramidal_attention": Peer("plain torch, dense mask", lambda c, s: maps.Pyramidal(c, s[0])),
    "probsparse_attention": _plain(plain.ProbSparse),
    "two_stage_attention": Peer("torch MultiheadAttention, three, timm Mlp", lambda c, s: TwoStage(c)),
    "recurrent": Peer("torch LSTM", lambda c, s: OnTokens(Rnn(c))),
    "dilated_conv_block": _plain(maps.DilatedConvs),
    "add": Peer("torch add", lambda c, s: Function(torch.add)),
    "concat": _plain(maps.Concat),
    "gate": _plain(maps.Gate),
    "select": Peer("timm SelectiveKernelAttn", lambda c, s: SelectPaths(c)),
    "interact": _plain(maps.Interact),
    "cross_attention": Peer("torch MultiheadAttention and LayerNorm", lambda c, s: Cross(c)),
    "two_stream": Peer("plain torch", lambda c, s: Function(lambda a, b: (a + b) / 2)),
    "fpn": Peer("torchvision FeaturePyramidNetwork", lambda c, s: Fpn(c)),
    "pan": Peer("torchvision FPN and a plain second path", lambda c, s: maps.Pan([c, 2 * c, 4 * c])),
    "asff": Peer("plain torch", lambda c, s: maps.Asff([c, 2 * c, 4 * c])),
}
