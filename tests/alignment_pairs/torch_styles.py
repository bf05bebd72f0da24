"""Models of torch that do the same in other ways, whose names say nothing."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from alignment_pairs.pair import Pair

WIDTH, HEADS, LENGTH, ROWS = 8, 2, 5, 11


def table(*shape):
    return nn.Parameter(torch.randn(*shape))


class Apart(nn.Module):
    """Attention with separate projections, made in another order than they are used."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        v, k, q = (
            p(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (self.c, self.a, self.d)
        )
        y = torch.softmax(q @ k.mT / 2, -1) @ v
        return x + self.b(y.transpose(1, 2).flatten(2))


class Fused(nn.Module):
    """Attention with one projection; query, key and value of every head side by side."""

    def __init__(self):
        super().__init__()
        self.m, self.n = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.m(x).unflatten(-1, (HEADS, 3, -1)).permute(3, 0, 2, 1, 4)
        y = torch.softmax(q @ k.mT / 2, -1) @ v
        return x + self.n(y.transpose(1, 2).flatten(2))


class Blocks(nn.Sequential):
    """Three blocks and a last layer."""

    def __init__(self, block):
        super().__init__(*(block() for _ in range(3)), nn.Linear(WIDTH, 3))


class Lookup(nn.Module):
    """Tokens and positions that are looked up."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (
            nn.Embedding(ROWS, WIDTH),
            nn.Embedding(ROWS, WIDTH),
            nn.Linear(WIDTH, 3),
        )

    def forward(self, ids):
        return self.c(self.a(ids) + self.b(torch.arange(ids.shape[1])))


class Sliced(nn.Module):
    """Tokens by one-hot vectors, positions by a slice."""

    def __init__(self):
        super().__init__()
        self.z, self.y, self.x = table(1, ROWS, WIDTH), table(WIDTH, ROWS), table(WIDTH, 3)
        self.w = table(1, 3)

    def forward(self, ids):
        tokens = F.one_hot(ids, ROWS).double() @ self.y.T
        return (tokens + self.z[:, : ids.shape[1]]) @ self.x + self.w


class Normed(nn.Module):
    """Weight norm, and a table resized to its own size."""

    def __init__(self):
        super().__init__()
        self.a = weight_norm(nn.Conv1d(WIDTH, 2 * WIDTH, 3, padding=1, groups=2))
        self.b = table(1, WIDTH, LENGTH)
        self.c = nn.Linear(2 * WIDTH, 3)

    def forward(self, x):
        x = x.mT + F.interpolate(self.b, size=LENGTH, mode="linear")
        return self.c(self.a(x).mT)


class NormedByHand(nn.Module):
    """The same with kernels `[width, in, out]`."""

    def __init__(self):
        super().__init__()
        self.t, self.g, self.v = (
            table(LENGTH, WIDTH),
            table(2 * WIDTH),
            table(3, WIDTH // 2, 2 * WIDTH),
        )
        self.u, self.r, self.s = table(2 * WIDTH), table(2 * WIDTH, 3), table(3)

    def forward(self, x):
        kernel = self.v / self.v.square().sum((0, 1)).sqrt() * self.g
        y = F.conv1d((x + self.t).mT, kernel.permute(2, 1, 0), self.u, padding=1, groups=2).mT
        return y @ self.r + self.s


class ChannelsFirst(nn.Module):
    """A norm over whole images, and a layer of the flattened image."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (
            nn.Conv2d(2, 4, 3, padding=1),
            nn.LayerNorm([4, 3, 5]),
            nn.Linear(60, 3),
        )

    def forward(self, x):
        return self.c(torch.tanh(self.b(self.a(x))).flatten(1))


class ChannelsLast(nn.Module):
    """The same with channels last."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (
            nn.Linear(60, 3),
            nn.LayerNorm([3, 5, 4]),
            nn.Conv2d(2, 4, 3, padding=1),
        )

    def forward(self, x):
        return self.a(torch.tanh(self.b(self.c(x).permute(0, 2, 3, 1))).flatten(1))


class Gated(nn.Module):
    """A gate and what goes through it; `is_first` is whether the gate is computed first."""

    def __init__(self, is_first):
        super().__init__()
        self.is_first, self.c = is_first, nn.Linear(16, 3)
        self.a, self.b = nn.Linear(WIDTH, 16), nn.Linear(WIDTH, 16)

    def forward(self, x):
        if self.is_first:
            return self.c(F.silu(self.a(x)) * self.b(x))
        values = self.b(x)
        return self.c(values * F.silu(self.a(x)))


class Reading(nn.Module):
    """Layers that all read the same memory; `is_first` is whether keys come before values."""

    def __init__(self, is_first):
        super().__init__()
        self.is_first, self.start = is_first, table(LENGTH, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(9))

    def forward(self, x):
        y = self.start
        for q, k, v in zip(self.layers[:3], self.layers[3:6], self.layers[6:], strict=True):
            if self.is_first:
                keys, values = k(x), v(x)
            else:
                values, keys = v(x), k(x)
            y = y + torch.softmax(q(y) @ keys.mT, -1) @ values
        return y


class Branches(nn.Module):
    """Two convolutions and a shorter branch, all with batch norm; `is_first` is whether that comes first."""

    def __init__(self, is_first):
        super().__init__()
        self.is_first, self.f = is_first, nn.Linear(WIDTH, 3)
        self.a, self.b = nn.Conv1d(2, 4, 3, padding=1), nn.Conv1d(4, WIDTH, 1)
        self.c, self.d = nn.Conv1d(2, WIDTH, 1), nn.BatchNorm1d(WIDTH)
        self.e = nn.BatchNorm1d(WIDTH)

    def forward(self, x):
        if self.is_first:
            short = self.d(self.c(x))
            y = self.e(self.b(torch.relu(self.a(x)))) + short
        else:
            y = self.d(self.b(torch.relu(self.a(x)))) + self.e(self.c(x))
        return self.f(torch.relu(y).mT)


class Rotated(nn.Module):
    """Attention with norms of queries and keys, and rotation by a table that is kept, or made in float32."""

    def __init__(self, is_kept):
        super().__init__()
        self.is_kept, size = is_kept, WIDTH // HEADS
        self.a, self.b, self.c, self.d = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.e, self.f = nn.LayerNorm(size), nn.LayerNorm(size)
        if is_kept:
            self.register_buffer("t", self.table().double())

    def table(self):
        angles = torch.arange(LENGTH).float()[:, None] * 0.7 ** torch.arange(2).float()
        return torch.stack([torch.sin(angles), torch.cos(angles)]).repeat(1, 1, 2)

    def turned(self, x):
        sin, cos = self.t if self.is_kept else self.table().double()
        return x * cos + torch.cat([-x[..., 2:], x[..., :2]], -1) * sin

    def forward(self, x):
        if self.is_kept:
            q, k, v = self.e(heads(self.a(x))), self.f(heads(self.b(x))), heads(self.c(x))
        else:
            k, q, v = self.e(heads(self.a(x))), self.f(heads(self.b(x))), heads(self.c(x))
        y = torch.softmax(self.turned(q) @ self.turned(k).mT / 2, -1) @ v
        return x + self.d(y.transpose(1, 2).flatten(2))


def heads(x):
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


TOKENS = (3, LENGTH, WIDTH)
PAIRS = {
    "separate and fused projections": Pair(lambda: Blocks(Apart), lambda: Blocks(Fused), TOKENS),
    "fused and separate projections": Pair(lambda: Blocks(Fused), lambda: Blocks(Apart), TOKENS),
    "lookups, slices and one-hot vectors": Pair(Lookup, Sliced, (3, LENGTH), ROWS),
    "weight norm and interpolation": Pair(Normed, NormedByHand, TOKENS),
    "channels first and last": Pair(ChannelsFirst, ChannelsLast, (2, 2, 3, 5)),
    "gate first and last": Pair(lambda: Gated(True), lambda: Gated(False), (6, WIDTH)),
    "norms of two branches": Pair(lambda: Branches(True), lambda: Branches(False), (2, 2, LENGTH)),
    "norms of queries and keys, and a table on one side": Pair(
        lambda: Blocks(lambda: Rotated(True)),
        lambda: Blocks(lambda: Rotated(False)),
        TOKENS,
        alone=(3, 0),
        bar=1e-6,
    ),
    "keys before and after values": Pair(
        lambda: Reading(True), lambda: Reading(False), (2, 4, WIDTH)
    ),
}
