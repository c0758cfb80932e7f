"""Plain-torch forms of modules that no installed package has, as their papers' public code is usually written.

Peers for `scripts/benchmarks/modules.py`, written from the definitions, without anything of nasbench. Each takes and
returns `(B, C, *S)`. Fused attention is used where its users would use it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def heads_of(channels: int) -> int:
    """Return the most heads, at most 8, that divide the channels and have 16 or more each."""
    return max(h for h in range(1, 9) if channels % h == 0 and channels // h >= 16)


def tokens_of(x: Tensor) -> Tensor:
    """Flatten a map to tokens, `(B, C, *S) -> (B, N, C)`."""
    return x.flatten(2).transpose(1, 2)


def split(tokens: Tensor, heads: int) -> Tensor:
    """Split channels into heads, `(*, N, C) -> (*, heads, N, C / heads)`."""
    return tokens.reshape(*tokens.shape[:-1], heads, -1).transpose(-2, -3)


def merge(tokens: Tensor) -> Tensor:
    """Join heads into channels, `(*, heads, N, C / heads) -> (*, N, C)`."""
    return tokens.transpose(-2, -3).flatten(-2)


def dense(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Attend with an explicit matrix of scores and a bias on it."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return (scores + bias).softmax(-1) @ v


class ExternalAttention(nn.Module):
    """External attention: two linear memories of 64 rows shared by all items, normalised both ways."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, c, 1)
        self.linear0, self.linear1 = nn.Conv1d(c, 64, 1, bias=False), nn.Conv1d(64, c, 1, bias=False)
        self.conv2 = nn.Sequential(nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        a = self.linear0(self.conv1(x).flatten(2)).softmax(-1)
        a = a / (1e-9 + a.sum(1, keepdim=True))
        return F.relu(self.conv2(self.linear1(a).view_as(x)) + x)


class Muse(nn.Module):
    """MUSE: self-attention, dynamic convolutions of two sizes by unfold, and a feed-forward net, in parallel."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.heads = heads_of(c)
        self.q, self.k, self.v = (nn.Linear(c, c) for _ in range(3))
        self.w = nn.ModuleList(nn.Linear(c, self.heads * s * s, bias=False) for s in (3, 5))
        self.gates, self.out = nn.Parameter(torch.full((2,), 0.5)), nn.Linear(2 * c, c)
        self.ffn = nn.Sequential(nn.Linear(c, 4 * c), nn.ReLU(), nn.Linear(4 * c, c))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, c, h, w = x.shape
        t = tokens_of(x)
        v = self.v(t)
        q, k, values = (split(y, self.heads) for y in (self.q(t), self.k(t), v))
        attended = merge(F.scaled_dot_product_attention(q, k, values))
        image, local = v.transpose(1, 2).reshape(b, c, h, w), []
        for gate, linear, side in zip(self.gates.softmax(0), self.w, (3, 5), strict=True):
            windows = F.unfold(image, side, padding=side // 2).view(b, self.heads, -1, side * side, h * w)
            weights = linear(v).view(b, h * w, self.heads, 1, -1).softmax(-1).permute(0, 2, 3, 4, 1)
            local.append(gate * (windows * weights).sum(3).flatten(1, 2).transpose(1, 2))
        y = self.out(torch.cat([attended, local[0] + local[1]], -1)) + self.ffn(t)
        return y.transpose(1, 2).reshape(b, c, h, w)


class AgentAttention(nn.Module):
    """Agent attention with the position biases of one square map."""

    def __init__(self, c: int, size: int, side: int = 7) -> None:
        super().__init__()
        self.heads, self.side, self.size, n = heads_of(c), side, size, side * side
        self.qkv, self.proj, self.dwc = nn.Linear(c, 3 * c), nn.Linear(c, c), nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.an, self.na = (nn.Parameter(torch.randn(self.heads, n, 7, 7) * 0.02) for _ in range(2))
        self.ah, self.aw = (nn.Parameter(torch.randn(1, self.heads, n, *s) * 0.02) for s in ((size, 1), (1, size)))
        self.ha, self.wa = (nn.Parameter(torch.randn(1, self.heads, *s, n) * 0.02) for s in ((size, 1), (1, size)))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, c, h, w = x.shape
        n = self.side**2
        q, k, v = self.qkv(tokens_of(x)).reshape(b, h * w, 3, c).permute(2, 0, 1, 3)
        agents = tokens_of(F.adaptive_avg_pool2d(q.reshape(b, h, w, c).permute(0, 3, 1, 2), self.side))
        q, k, v, agents = (split(t, self.heads) for t in (q, k, v, agents))
        bias1 = F.interpolate(self.an, size=(h, w), mode="bilinear").reshape(1, self.heads, n, -1)
        bias1 = bias1 + (self.ah + self.aw).reshape(1, self.heads, n, -1)
        bias2 = F.interpolate(self.na, size=(h, w), mode="bilinear").reshape(1, self.heads, n, -1).transpose(2, 3)
        bias2 = bias2 + (self.ha + self.wa).reshape(1, self.heads, -1, n)
        found = dense(agents, k, v, bias1)
        y = merge(dense(q, agents, found, bias2))
        y = y + tokens_of(self.dwc(merge(v).transpose(1, 2).reshape(b, c, h, w)))
        return self.proj(y).transpose(1, 2).reshape(b, c, h, w)


class DilatedAttention(nn.Module):
    """Multi-scale dilated attention: each position attends to 3 x 3 dilated neighbours, taken by unfold."""

    def __init__(self, c: int, dilations: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()
        self.dilations, self.heads = dilations, heads_of(c) // len(dilations)
        self.qkv, self.proj = nn.Conv2d(c, 3 * c, 1), nn.Linear(c, c)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dilation: int) -> Tensor:
        """Attend to 3 x 3 neighbours at one dilation, `(B, D, H, W)` to `(B, H, W, D)`."""
        b, d, h, w = q.shape
        shape = (b, self.heads, d // self.heads, 9, h * w)
        q = q.reshape(b, self.heads, d // self.heads, 1, h * w).permute(0, 1, 4, 3, 2)
        k, v = (F.unfold(t, 3, dilation, dilation).reshape(shape) for t in (k, v))
        attention = (q @ k.permute(0, 1, 4, 2, 3) * (d // self.heads) ** -0.5).softmax(-1)
        return (attention @ v.permute(0, 1, 4, 3, 2)).transpose(1, 2).reshape(b, h, w, d)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, _, h, w = x.shape
        groups = self.qkv(x).reshape(b, 3, len(self.dilations), -1, h, w).permute(2, 1, 0, 3, 4, 5)
        parts = [self.attend(q, k, v, dilation) for (q, k, v), dilation in zip(groups, self.dilations, strict=True)]
        return self.proj(torch.cat(parts, -1)).permute(0, 3, 1, 2)


class HiLo(nn.Module):
    """HiLo: attention within small windows beside attention to pooled keys."""

    def __init__(self, c: int, window: int = 2) -> None:
        super().__init__()
        self.window, self.heads, half = window, heads_of(c) // 2, c // 2
        self.h_qkv, self.h_proj = nn.Linear(c, 3 * half), nn.Linear(half, half)
        self.l_q, self.l_kv, self.l_proj = nn.Linear(c, half), nn.Linear(c, 2 * half), nn.Linear(half, half)
        self.pool = nn.AvgPool2d(window, window)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, c, h, w = x.shape
        s, d = self.window, c // 2 // self.heads
        y = x.permute(0, 2, 3, 1)
        z = y.reshape(b, h // s, s, w // s, s, c).transpose(2, 3)
        qkv = self.h_qkv(z).reshape(b, h * w // s**2, s * s, 3, self.heads, d).permute(3, 0, 1, 4, 2, 5)
        high = merge(dense(*qkv)).reshape(b, h // s, w // s, s, s, c // 2)
        high = self.h_proj(high.transpose(2, 3).reshape(b, h, w, c // 2))
        q = split(self.l_q(y.reshape(b, h * w, c)), self.heads)
        k, v = (split(t, self.heads) for t in self.l_kv(tokens_of(self.pool(x))).chunk(2, -1))
        low = self.l_proj(merge(dense(q, k, v))).reshape(b, h, w, c // 2)
        return torch.cat([high, low], -1).permute(0, 3, 1, 2)


class PyramidPool(nn.Module):
    """Pyramid pooling attention: keys and values from pools of several ratios."""

    def __init__(self, c: int, ratios: tuple[int, ...] = (12, 16, 20, 24)) -> None:
        super().__init__()
        self.heads, self.ratios = heads_of(c), ratios
        self.q, self.kv, self.proj, self.norm = nn.Linear(c, c), nn.Linear(c, 2 * c), nn.Linear(c, c), nn.LayerNorm(c)
        self.local = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1, groups=c) for _ in ratios)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, c, h, w = x.shape
        pools = []
        for ratio, local in zip(self.ratios, self.local, strict=True):
            pool = F.adaptive_avg_pool2d(x, (max(1, round(h / ratio)), max(1, round(w / ratio))))
            pools.append((pool + local(pool)).flatten(2))
        kv = self.kv(self.norm(torch.cat(pools, 2).transpose(1, 2)))
        k, v = kv.reshape(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = merge(dense(split(self.q(tokens_of(x)), self.heads), k, v))
        return self.proj(y).transpose(1, 2).reshape(b, c, h, w)


class DualViT(nn.Module):
    """Dual-ViT attention: pooled semantic tokens attend to the map, and the map attends to them."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.heads = heads_of(c)
        self.q, self.kv, self.proj = nn.Linear(c, c), nn.Linear(c, 2 * c), nn.Linear(c, c)
        self.sq, self.skv, self.sqkv = nn.Linear(c, c), nn.Linear(c, 2 * c), nn.Linear(c, 3 * c)
        self.n1, self.n2, self.n3, self.n4 = (nn.LayerNorm(c) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.ReLU(), nn.Linear(4 * c, c))
        self.g1, self.g2, self.g3 = (nn.Parameter(torch.full((c,), 1e-6)) for _ in range(3))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend with several heads, `(B, N, C)` to `(B, M, C)`."""
        return merge(dense(*(split(t, self.heads) for t in (q, k, v))))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, c, h, w = x.shape
        t, z = tokens_of(x), tokens_of(F.adaptive_avg_pool2d(x, 7))
        z = z + self.g1 * self.attend(*self.sqkv(self.n1(z)).chunk(3, -1))
        z = z + self.g2 * self.attend(self.sq(self.n2(z)), *self.skv(t).chunk(2, -1))
        z = z + self.g3 * self.mlp(self.n3(z))
        y = self.proj(self.attend(self.q(t), *self.kv(self.n4(z)).chunk(2, -1)))
        return y.transpose(1, 2).reshape(b, c, h, w)


class Deformable(nn.Module):
    """Deformable attention of one level, sampled by grid_sample."""

    def __init__(self, c: int, points: int = 4) -> None:
        super().__init__()
        self.heads, self.points = heads_of(c), points
        self.offsets, self.weights = nn.Linear(c, self.heads * points * 2), nn.Linear(c, self.heads * points)
        self.value, self.proj = nn.Linear(c, c), nn.Linear(c, c)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, c, h, w = x.shape
        t, m, p = tokens_of(x), self.heads, self.points
        value = self.value(t).view(b, h * w, m, c // m).flatten(2).transpose(1, 2).reshape(b * m, c // m, h, w)
        offsets = self.offsets(t).view(b, h * w, m, p, 2)
        weights = self.weights(t).view(b, h * w, m, p).softmax(-1).transpose(1, 2).reshape(b * m, 1, h * w, p)
        ys, xs = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        reference = torch.stack([xs.flatten() / w, ys.flatten() / h], -1).to(x)[None, :, None, None]
        grid = 2 * (reference + offsets / offsets.new_tensor([w, h])) - 1
        sampled = F.grid_sample(value, grid.transpose(1, 2).flatten(0, 1), align_corners=False)
        y = (sampled * weights).sum(-1).view(b, c, h * w).transpose(1, 2)
        return self.proj(y).transpose(1, 2).reshape(b, c, h, w)


class VectorQuantiser(nn.Module):
    """A vector quantiser with a codebook of moving averages, its codes chosen by a one-hot product."""

    codebook: Tensor
    size: Tensor
    total: Tensor

    def __init__(self, c: int, codes: int = 512) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.randn(codes, c))
        self.register_buffer("size", torch.ones(codes))
        self.register_buffer("total", self.codebook.clone())

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        t = x.permute(0, 2, 3, 1).contiguous()
        flat = t.view(-1, t.shape[-1])
        distances = flat.pow(2).sum(1, keepdim=True) + self.codebook.pow(2).sum(1) - 2 * flat @ self.codebook.t()
        chosen = F.one_hot(distances.argmin(1), self.codebook.shape[0]).to(flat)
        quantised = (chosen @ self.codebook).view_as(t)
        with torch.no_grad():
            self.size = self.size * 0.99 + 0.01 * chosen.sum(0)
            self.total = self.total * 0.99 + 0.01 * (chosen.t() @ flat)
            n = self.size.sum()
            self.codebook = self.total / ((self.size + 1e-5) / (n + self.size.shape[0] * 1e-5) * n)[:, None]
        self.loss = 0.25 * F.mse_loss(quantised, t)
        return (t + (quantised - t).detach()).permute(0, 3, 1, 2)


class ProbSparse(nn.Module):
    """ProbSparse self-attention: only the queries with the sharpest sampled scores attend."""

    def __init__(self, c: int, factor: int = 5) -> None:
        super().__init__()
        self.heads, self.factor = heads_of(c), factor
        self.q, self.k, self.v, self.out = (nn.Linear(c, c) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        t = tokens_of(x)
        q, k, v = (split(f(t), self.heads) for f in (self.q, self.k, self.v))
        b, m, n, d = q.shape
        u = min(self.factor * math.ceil(math.log(n)), n)
        sample = torch.randint(n, (n, u), device=x.device)
        keys = k.unsqueeze(-3).expand(b, m, n, n, d)[:, :, torch.arange(n)[:, None], sample]
        scores = (q.unsqueeze(-2) @ keys.transpose(-2, -1)).squeeze(-2)
        top = (scores.max(-1)[0] - scores.sum(-1) / n).topk(u, sorted=False)[1]
        rows, columns = torch.arange(b)[:, None, None], torch.arange(m)[None, :, None]
        context = v.mean(-2, keepdim=True).expand(b, m, n, d).clone()
        context[rows, columns, top] = dense(q[rows, columns, top], k, v)
        return self.out(merge(context)).transpose(1, 2).reshape(x.shape)


class TokenDictionary(nn.Module):
    """Adaptive token dictionary: attention to a dictionary, within categories and within windows."""

    index: Tensor

    def __init__(self, c: int, memory: int = 64, window: int = 8, group: int = 128, rank: int = 10) -> None:
        super().__init__()
        self.heads, self.window, self.group = heads_of(c), window, group
        self.dictionary, self.scale = nn.Parameter(torch.randn(memory, c)), nn.Parameter(torch.full((memory,), 0.5))
        self.group_scale = nn.Parameter(torch.full((1, 1), math.log(10.0)))
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, self.heads) * 0.02)
        self.norm, self.qkv = nn.LayerNorm(c), nn.Linear(c, 3 * c)
        self.q, self.k = nn.Linear(c, rank), nn.Linear(c, rank)
        self.v, self.proj_window, self.proj_group = (nn.Linear(c, c) for _ in range(3))
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        steps = place[:, None] - place + window - 1
        self.register_buffer("index", steps[..., 0] * (2 * window - 1) + steps[..., 1])

    def grouped(self, qkv: Tensor, category: Tensor) -> Tensor:
        """Attend within groups of tokens of like category."""
        b, n, c = qkv.shape
        size = min(n, self.group)
        order = category.argsort(dim=-1, stable=True)
        s = qkv.gather(1, order[..., None].expand(-1, -1, c))
        pad = -n % size
        s = torch.cat([s, s[:, n - pad :]], 1).reshape(b, -1, size, 3, self.heads, c // 3 // self.heads)
        q, k, v = s.permute(3, 0, 1, 4, 2, 5)
        a = (q @ k.transpose(-2, -1) * self.group_scale.clamp(max=math.log(100.0)).exp()).softmax(-1)
        y = merge(a @ v).reshape(b, n + pad, c // 3)[:, :n]
        return self.proj_group(y.gather(1, order.argsort(-1)[..., None].expand(-1, -1, c // 3)))

    def windowed(self, qkv: Tensor, h: int, w: int) -> Tensor:
        """Attend within square windows, with a bias by offset."""
        b, _, c = qkv.shape
        s = self.window
        y = F.pad(qkv.reshape(b, h, w, c), (0, 0, 0, -w % s, 0, -h % s))
        hp, wp = y.shape[1:3]
        y = y.reshape(b, hp // s, s, wp // s, s, c).transpose(2, 3)
        y = y.reshape(-1, s * s, 3, self.heads, c // 3 // self.heads)
        bias = self.table[self.index].permute(2, 0, 1)
        real = F.pad(torch.ones(h, w, device=qkv.device), (0, -w % s, 0, -h % s))
        real = real.reshape(hp // s, s, wp // s, s).transpose(1, 2).reshape(-1, 1, 1, s * s)
        bias = bias + (1 - real) * -1e9
        q, k, v = y.permute(2, 0, 3, 1, 4)
        a = merge(dense(q, k, v, bias.repeat(b, 1, 1, 1)))
        a = self.proj_window(a).reshape(b, hp // s, wp // s, s, s, c // 3).transpose(2, 3).reshape(b, hp, wp, c // 3)
        return a[:, :h, :w].reshape(b, h * w, c // 3)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W) -> (B, C, H, W)`."""
        b, c, h, w = x.shape
        t = tokens_of(x)
        n = self.norm(t)
        qkv = self.qkv(n)
        scale = 1 + self.scale.clamp(0, 1) * math.log(len(self.scale))
        s = (F.normalize(self.q(n), dim=-1) @ F.normalize(self.k(self.dictionary), dim=-1).T * scale).softmax(-1)
        y = t + s @ self.v(self.dictionary) + self.grouped(qkv, s.argmax(-1)) + self.windowed(qkv, h, w)
        return y.transpose(1, 2).reshape(b, c, h, w)
