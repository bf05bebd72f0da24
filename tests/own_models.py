"""The same small network in torch and Flax, as a user brings it with `model=own`."""

import flax.linen
import jax
import numpy as np
import torch


class TorchNet(torch.nn.Module):
    """A linear layer, self-attention over four parts of its outputs, and a linear head."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int = 16) -> None:
        super().__init__()
        features = input_shape[0] * input_shape[1] * input_shape[2]
        self.scale = torch.nn.Parameter(torch.ones(1, width))
        self.stem = torch.nn.Linear(features, 4 * width)
        self.mix = torch.nn.MultiheadAttention(width, 2, batch_first=True)
        self.head = torch.nn.Linear(width, outputs)
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.permute(0, 2, 3, 1).flatten(1)).unflatten(1, (4, self.width)) * self.scale
        return self.head(self.mix(x, x, x, need_weights=False)[0].mean(1))


class FlaxNet(flax.linen.Module):
    """The Flax twin, whose call takes no `train`."""

    input_shape: tuple[int, ...]
    outputs: int
    width: int = 16

    @flax.linen.compact
    def __call__(self, x):
        scale = self.param("scale", flax.linen.initializers.ones, (1, self.width))
        x = flax.linen.Dense(4 * self.width, name="stem")(x.reshape(len(x), -1))
        x = x.reshape(-1, 4, self.width) * scale
        x = flax.linen.MultiHeadDotProductAttention(2, name="mix")(x)
        return flax.linen.Dense(self.outputs, name="head")(x.mean(1))


class TorchFused(torch.nn.Module):
    """A convolution, attention with one projection for query, key and value, and a linear head."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int = 4) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(input_shape[2], width, 4, stride=4)
        self.bn = torch.nn.BatchNorm2d(width)
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.fc = torch.nn.Linear(width * (input_shape[0] // 4) * (input_shape[1] // 4), outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.bn(self.stem(x)))
        tokens = x.flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).chunk(3, -1)
        tokens = tokens + torch.softmax(query @ key.transpose(1, 2), -1) @ value
        return self.fc(tokens.transpose(1, 2).flatten(1))


class FlaxSeparate(flax.linen.Module):
    """The Flax twin with names of its own, three projections, and channels last before the head."""

    input_shape: tuple[int, ...]
    outputs: int
    width: int = 4

    @flax.linen.compact
    def __call__(self, x, train=False):
        from flax_impl.norms import BatchNorm

        x = flax.linen.Conv(self.width, (4, 4), strides=4, padding="VALID", name="patches")(x)
        x = flax.linen.tanh(BatchNorm(name="norm")(x, train))
        tokens = x.reshape(len(x), -1, self.width)
        query, key, value = (flax.linen.Dense(self.width, name=name)(tokens) for name in "abc")
        tokens = tokens + flax.linen.softmax(query @ key.swapaxes(1, 2), -1) @ value
        return flax.linen.Dense(self.outputs, name="classifier")(tokens.reshape(len(x), -1))


class TorchPlain(torch.nn.Module):
    """Two linear layers called by keyword, a factor of ones, and torch's own dropout.

    The options are of both models; those of the Flax twin's mistakes have no effect here. `more` is another
    layer, `unused` one that nothing calls.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        rate: float = 0.1,
        more: bool = False,
        unused: bool = False,
        narrow: bool = False,
        **_: object,
    ) -> None:
        super().__init__()
        self.factor = 1 / 3 if narrow else 1.0
        self.a = torch.nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], 16)
        self.scale = torch.nn.Parameter(torch.ones(16))
        self.drop = torch.nn.Dropout(rate)
        self.more = torch.nn.Linear(16, 16) if more else None
        self.unused = torch.nn.Linear(4, 4) if unused else None
        self.b = torch.nn.Linear(16, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(input=x.permute(0, 2, 3, 1).flatten(1)) * self.factor
        x = self.drop(x * self.scale)
        x = torch.relu(self.more(x) if self.more else x)
        return self.b(input=x)


class FlaxPlain(flax.linen.Module):
    """The Flax twin; `other_rate`, `activation` and `twice` (another dropout) make it another model.

    With `narrow` it computes in float32 at one place.
    """

    input_shape: tuple[int, ...]
    outputs: int
    rate: float = 0.1
    other_rate: float | None = None
    activation: str = "relu"
    twice: bool = False
    more: bool = False
    unused: bool = False
    narrow: bool = False

    @flax.linen.compact
    def __call__(self, x, deterministic):
        rate = self.rate if self.other_rate is None else self.other_rate
        x = flax.linen.Dense(16, name="a")(inputs=x.reshape(len(x), -1))
        if self.narrow:
            x = x.astype("float32") * (1 / 3)
        x = x * self.param("scale", flax.linen.initializers.ones, (16,))
        x = flax.linen.Dropout(rate, deterministic=deterministic)(x)
        x = getattr(flax.linen, self.activation)(x)
        if self.twice:
            flax.linen.Dropout(rate, deterministic=deterministic)(x)
        return flax.linen.Dense(self.outputs, name="b")(inputs=x)


class TorchNorm(torch.nn.Module):
    """A convolution with batch norm and dropout, a list of linear layers, and a linear head."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        width: int = 8,
        rate: float = 0.0,
        norm: bool = True,
        **_: object,
    ) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(input_shape[-1], width, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(width) if norm else torch.nn.Identity()
        self.drop = torch.nn.Dropout(rate)
        self.hidden = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(2))
        self.head = torch.nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.norm(self.conv(x)).relu()).mean((2, 3))
        for layer in self.hidden:
            x = layer(x).tanh()
        return self.head(x)


class TorchBranching(TorchNet):
    """A network that looks at its numbers, which `torch.func.vmap` refuses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (1.0 if x.mean() > -1.0 and self.scale.mean() > -9.0 else 0.0)


class TorchTossing(TorchNet):
    """A network that draws from NumPy's global generator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (1 + 0.01 * np.random.rand())


class TorchHungry(TorchNet):
    """A network whose memory suffices for two runs at once."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functorch = torch._C._functorch
        is_mapped = functorch.is_batchedtensor(self.scale)
        if is_mapped and len(functorch.get_unwrapped(self.scale)) > 2:
            raise MemoryError("out of memory")
        return super().forward(x)


class FlaxBranching(FlaxNet):
    """A network that calls NumPy, which `jax.vmap` refuses."""

    def __call__(self, x):
        outputs = super().__call__(x)
        shape = jax.ShapeDtypeStruct((), outputs.dtype)
        mean = jax.lax.stop_gradient(outputs).mean()
        return outputs + jax.pure_callback(np.zeros_like, shape, mean)
