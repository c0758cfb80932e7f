"""Plain-torch forms of convolutional, temporal, fusion and neck modules that no installed package has.

Peers for `scripts/benchmarks/modules.py`, as `plain_modules.py`: written from the definitions, without anything
of nasbench.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from scripts.benchmarks.plain_modules import dense, heads_of, merge, split, tokens_of


def conv_bn(
    i: int, o: int, k: int = 1, act: Callable[[], nn.Module] = nn.SiLU, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution of `i` to `o` channels with a square kernel, a batch norm and an activation."""
    convolution = nn.Conv2d(i, o, k, stride, padding=k // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(o), act())


class ChannelAttention(nn.Module):
    """Channel attention of DANet: a softmax of the channels' inner products."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        rows = x.flatten(2)
        energy = torch.bmm(rows, rows.transpose(1, 2))
        energy = energy.max(-1, keepdim=True)[0].expand_as(energy) - energy
        return self.gamma * torch.bmm(energy.softmax(-1), rows).view_as(x) + x


class PositionAttention(nn.Module):
    """Position attention of DANet: a softmax of N x N positions."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Conv2d(c, c // 8, 1), nn.Conv2d(c, c // 8, 1), nn.Conv2d(c, c, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        attention = torch.bmm(self.q(x).flatten(2).transpose(1, 2), self.k(x).flatten(2)).softmax(-1)
        return self.gamma * torch.bmm(self.v(x).flatten(2), attention.transpose(1, 2)).view_as(x) + x


class Danet(nn.Module):
    """Position attention plus channel attention."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.position, self.channel = PositionAttention(c), ChannelAttention(c)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        return self.position(x) + self.channel(x)


class SelfGate(nn.Module):
    """A gate of each position from a 1 x 1 convolution."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        return x * torch.sigmoid(self.conv(x))


class Triplet(nn.Module):
    """Triplet attention: a gate of 7 x 7 over each pair of the three axes."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1)) for _ in range(3)
        )

    def gated(self, gate: nn.Module, x: Tensor) -> Tensor:
        """Gate the last two axes by the maximum and the mean of the first."""
        pooled = torch.cat([x.max(1)[0].unsqueeze(1), x.mean(1).unsqueeze(1)], 1)
        return x * torch.sigmoid(gate(pooled))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        a = self.gated(self.gates[0], x.permute(0, 2, 1, 3).contiguous()).permute(0, 2, 1, 3).contiguous()
        b = self.gated(self.gates[1], x.permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1).contiguous()
        return (a + b + self.gated(self.gates[2], x)) / 3


class Cot(nn.Module):
    """Contextual transformer block: local weights from keys and queries, applied by unfold."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.static, self.value = conv_bn(c, c, 3, nn.ReLU, groups=4), conv_bn(c, c, 1, nn.Identity)
        self.weigh = nn.Sequential(
            conv_bn(2 * c, c // 2, 1, nn.ReLU), nn.Conv2d(c // 2, 9 * c // 8, 1), nn.GroupNorm(c // 8, 9 * c // 8)
        )
        self.after = nn.Sequential(nn.BatchNorm2d(c), nn.SiLU())
        wide = max(c // 2, 32)
        self.select = nn.Sequential(nn.Conv2d(c, wide, 1), nn.BatchNorm2d(wide), nn.ReLU(), nn.Conv2d(wide, 2 * c, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, c, h, w = x.shape
        k = self.static(x)
        weights = self.weigh(torch.cat([x, k], 1)).view(b, 1, c // 8, 9, h * w)
        windows = F.unfold(self.value(x), 3, padding=1).view(b, 8, c // 8, 9, h * w)
        d = self.after((weights * windows).sum(3).view(b, c, h, w))
        a = self.select((d + k).mean((2, 3), keepdim=True)).view(b, c, 2, 1).softmax(2)
        return (torch.stack([d, k], 2) * a.unsqueeze(-1)).sum(2)


class Strips(nn.Module):
    """A gate from pooling and two depthwise strips, 1 x 11 and 11 x 1."""

    def __init__(self, c: int, f: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.AvgPool2d(7, 1, 3), f(), nn.Conv2d(c, c, (1, 11), padding=(0, 5), groups=c),
            nn.Conv2d(c, c, (11, 1), padding=(5, 0), groups=c), f(), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        return self.body(x)


class Caa(nn.Module):
    """Context anchor attention: the map times the gate of the strips."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.gate = Strips(c, lambda: conv_bn(c, c))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        return x * self.gate(x)


class PolyKernel(nn.Module):
    """The poly-kernel inception block: depthwise kernels of 3 to 11 and a gate of the strips."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.pre, self.mix, self.post = conv_bn(c, c), conv_bn(c, c), conv_bn(c, c)
        self.dw = nn.ModuleList(nn.Conv2d(c, c, k, padding=k // 2, groups=c) for k in (3, 5, 7, 9, 11))
        self.gate = Strips(c, lambda: nn.Conv2d(c, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        p = self.pre(x)
        d = self.dw[0](p)
        z = self.mix(d + self.dw[1](d) + self.dw[2](d) + self.dw[3](d) + self.dw[4](d))
        return x + self.post(z + z * self.gate(p))


class DualPool(nn.Module):
    """A gate of each position from a maximum and a mean of its 3 x 3 neighbours."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.max, self.avg, self.conv = nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1), nn.Conv2d(2 * c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        return x * torch.sigmoid(self.conv(torch.cat([self.max(x), self.avg(x)], 1)))


class PositionBias(nn.Module):
    """A bias of each pair of positions in a window, by an MLP of their offset."""

    index: Tensor
    offsets: Tensor

    def __init__(self, c: int, heads: int, h: int, w: int) -> None:
        super().__init__()
        n = max(2, c // 16)
        layers: list[nn.Module] = [nn.Linear(2, n)]
        for out in (n, n, heads):
            layers += [nn.LayerNorm(n), nn.ReLU(), nn.Linear(n, out)]
        self.mlp = nn.Sequential(*layers)
        place = torch.cartesian_prod(torch.arange(h), torch.arange(w))
        steps = place[:, None] - place + torch.tensor([h - 1, w - 1])
        self.register_buffer("index", steps[..., 0] * (2 * w - 1) + steps[..., 1])
        self.register_buffer("offsets", torch.cartesian_prod(torch.arange(1.0 - h, h), torch.arange(1.0 - w, w)))

    def forward(self) -> Tensor:
        """Return the bias, `(heads, N, N)`."""
        return self.mlp(self.offsets)[self.index].permute(2, 0, 1)


class DualAggregation(nn.Module):
    """Attention in flat and tall windows, with a convolution that gates and is gated by it."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.heads = heads_of(c) // 2
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.biases = nn.ModuleList(PositionBias(c // 2, self.heads, h, w) for h, w in ((8, 16), (16, 8)))
        self.local = conv_bn(c, c, 3, nn.GELU, groups=c)
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c // 8, 1), nn.BatchNorm2d(c // 8), nn.GELU(), nn.Conv2d(c // 8, c, 1)
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(c, c // 16, 1), nn.BatchNorm2d(c // 16), nn.GELU(), nn.Conv2d(c // 16, 1, 1)
        )

    def windows(self, qkv: Tensor, bias: nn.Module, h: int, w: int) -> Tensor:
        """Attend within windows of h x w, `(3, B, H, W, C)` to `(B, H, W, C)`."""
        _, b, rows, columns, c = qkv.shape
        qkv = F.pad(qkv, (0, 0, 0, -columns % w, 0, -rows % h))
        hp, wp = qkv.shape[2:4]
        parts = qkv.reshape(3, b, hp // h, h, wp // w, w, c).transpose(3, 4).reshape(3, -1, h * w, c)
        q, k, v = split(parts, self.heads)
        y = merge(dense(q, k, v, bias()))
        y = y.reshape(b, hp // h, wp // w, h, w, c).transpose(2, 3).reshape(b, hp, wp, c)
        return y[:, :rows, :columns]

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, c, h, w = x.shape
        qkv = self.qkv(tokens_of(x)).reshape(b, h, w, 3, c).permute(3, 0, 1, 2, 4)
        local = self.local(qkv[2].permute(0, 3, 1, 2))
        halves = zip(qkv.chunk(2, -1), self.biases, ((8, 16), (16, 8)), strict=True)
        attended = torch.cat([self.windows(half, bias, *side) for half, bias, side in halves], -1).permute(0, 3, 1, 2)
        y = attended * torch.sigmoid(self.channel(local)) + local * torch.sigmoid(self.spatial(attended))
        return self.proj(tokens_of(y)).transpose(1, 2).reshape(b, c, h, w)


class GatedTCN(nn.Module):
    """A gated temporal convolution with causal kernels of 2, 3, 6 and 7 steps."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.filters, self.gates = (nn.ModuleList(nn.Conv1d(c, c // 4, k) for k in (2, 3, 6, 7)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        x = F.pad(x, (6, 0))
        a, b = (torch.cat([f(x)[..., -(x.shape[2] - 6) :] for f in fs], 1) for fs in (self.filters, self.gates))
        return torch.tanh(a) * torch.sigmoid(b)


class Mgtu(nn.Module):
    """Multi-scale gated temporal units whose outputs are mixed over one length."""

    def __init__(self, c: int, length: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(c, 2 * c, k) for k in (3, 5, 7))
        self.mix = nn.Linear(3 * length - 12, length)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        pairs = (conv(x).chunk(2, 1) for conv in self.convs)
        return F.relu(x + self.mix(torch.cat([torch.tanh(a) * torch.sigmoid(b) for a, b in pairs], 2)))


class ConvAttention(nn.Module):
    """Attention with queries and keys from causal convolutions of 3 steps."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.heads = heads_of(c)
        self.q, self.k = nn.Conv1d(c, c, 3), nn.Conv1d(c, c, 3)
        self.v, self.proj = nn.Linear(c, c), nn.Linear(c, c)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        past, t = F.pad(x, (2, 0)), x.transpose(1, 2)
        q, k, v = (
            split(y, self.heads) for y in (self.q(past).transpose(1, 2), self.k(past).transpose(1, 2), self.v(t))
        )
        return self.proj(merge(F.scaled_dot_product_attention(q, k, v))).transpose(1, 2)


class DilatedConvs(nn.Module):
    """A residual block of two dilated convolutions."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(c, c, 3, padding=2, dilation=2) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        return x + self.convs[1](F.gelu(self.convs[0](F.gelu(x))))


class Pyramidal(nn.Module):
    """Pyraformer's masked form: attention of all nodes with a dense mask of the pyramid's edges."""

    mask: Tensor

    def __init__(self, c: int, length: int) -> None:
        super().__init__()
        self.heads, w = heads_of(c), c // 4
        self.down, self.up, self.norm = nn.Linear(c, w), nn.Linear(w, c), nn.LayerNorm(c)
        self.convs = nn.ModuleList(nn.Sequential(nn.Conv1d(w, w, 4, 4), nn.BatchNorm1d(w), nn.ELU()) for _ in range(3))
        self.qkv = nn.ModuleList(nn.Linear(c, 3 * c, bias=False) for _ in range(3))
        self.proj = nn.ModuleList(nn.Linear(c, c) for _ in range(3))
        self.ffn = nn.ModuleList(nn.Sequential(nn.Linear(c, c), nn.GELU(), nn.Linear(c, c)) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(c, eps=1e-6) for _ in range(6))
        sizes = [length, length // 4, length // 16, length // 64]
        starts = [sum(sizes[:i]) for i in range(5)]
        allowed = torch.zeros(starts[-1], starts[-1], dtype=torch.bool)
        for level, size in enumerate(sizes):
            for i in range(size):
                a = starts[level]
                allowed[a + i, a + max(i - 1, 0) : a + min(i + 2, size)] = True
                if level:
                    below, end = starts[level - 1], sizes[level - 1] if i == size - 1 else 4 * i + 4
                    allowed[a + i, below + 4 * i : below + end] = allowed[below + 4 * i : below + end, a + i] = True
        self.register_buffer("mask", allowed)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, L) -> (B, C, L)`."""
        t, levels, y = x.transpose(1, 2), [], self.down(x.transpose(1, 2)).transpose(1, 2)
        for conv in self.convs:
            y = conv(y)
            levels.append(y)
        t = self.norm(torch.cat([t, self.up(torch.cat(levels, 2).transpose(1, 2))], 1))
        for i, qkv in enumerate(self.qkv):
            q, k, v = (split(part, self.heads) for part in qkv(t).chunk(3, -1))
            t = self.norms[2 * i](t + self.proj[i](merge(F.scaled_dot_product_attention(q, k, v, self.mask))))
            t = self.norms[2 * i + 1](t + self.ffn[i](t))
        return t[:, : x.shape[2]].transpose(1, 2)


class Gate(nn.Module):
    """A learned gate between two maps."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * c, c, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two maps `(B, C, H, W)` to one."""
        g = torch.sigmoid(self.conv(torch.cat([a, b], 1)))
        return g * a + (1 - g) * b


class Concat(nn.Module):
    """Two maps side by side, then a 1 x 1 convolution."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * c, c, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two maps `(B, C, H, W)` to one."""
        return self.conv(torch.cat([a, b], 1))


class Interact(nn.Module):
    """Branches weighted by a softmax over their own gates."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two maps `(B, C, H, W)` to one."""
        rates = [torch.sigmoid(f(F.adaptive_avg_pool2d(x, 1))) for f, x in ((self.a, a), (self.b, b))]
        return (torch.stack([a, b], 1) * torch.stack(rates, 1).softmax(1)).sum(1)


class Pan(nn.Module):
    """torchvision's FPN, and the second path that it does not have."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(channels, 256)
        self.down = nn.ModuleList(nn.Conv2d(256, 256, 3, 2, 1) for _ in channels[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(256, 256, 3, 1, 1) for _ in channels[1:])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """A pyramid, fine to coarse, to one of the same sizes."""
        first, *rest = self.fpn(dict(zip("abc", maps, strict=True))).values()
        out = [first]
        for down, smooth, p in zip(self.down, self.smooth, rest, strict=True):
            out.append(smooth(down(out[-1]) + p))
        return out


class AsffLevel(nn.Module):
    """One level of ASFF: all three levels resized to it, weighted at each position and added."""

    def __init__(self, channels: Sequence[int], level: int) -> None:
        super().__init__()
        c = channels[level]
        self.resize = nn.ModuleList(resize(d, c, level - j) for j, d in enumerate(channels))
        self.rate = nn.ModuleList(conv_bn(c, 16, 1, leaky) for _ in channels)
        self.weigh, self.expand = nn.Conv2d(16 * len(channels), len(channels), 1), conv_bn(c, c, 3, leaky)

    def forward(self, maps: list[Tensor], size: torch.Size) -> Tensor:
        """The pyramid to its level of this size."""
        alike = [F.interpolate(f(m), size=size) for f, m in zip(self.resize, maps, strict=True)]
        w = self.weigh(torch.cat([f(m) for f, m in zip(self.rate, alike, strict=True)], 1)).softmax(1)
        a, b, c = alike
        return self.expand(a * w[:, 0:1] + b * w[:, 1:2] + c * w[:, 2:3])


class Asff(nn.Module):
    """Adaptively spatial feature fusion: each level is a weighted sum of all, resized to it."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(AsffLevel(channels, level) for level in range(len(channels)))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """A pyramid, fine to coarse, to one of the same sizes."""
        return [level(maps, x.shape[2:]) for level, x in zip(self.levels, maps, strict=True)]


def leaky() -> nn.Module:
    """Return the activation of ASFF."""
    return nn.LeakyReLU(0.1)


def resize(i: int, o: int, finer: int) -> nn.Module:
    """Return a layer that takes a level to one that lies `finer` levels below it.

    Upwards it changes the channels alone, and an interpolation follows.
    """
    if finer == 0:
        return nn.Identity()
    if finer < 0:
        return conv_bn(i, o, 1, leaky)
    return nn.Sequential(*[nn.MaxPool2d(3, 2, 1)] * (finer - 1), conv_bn(i, o, 3, leaky, stride=2))
