"""A user's own networks with a list of blocks, each with statistics and dropout, in NNX and Equinox."""

import equinox as eqx
import jax
from flax import nnx


class NNXBlock(nnx.Module):
    def __init__(self, width, rngs):
        self.linear = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return x + self.drop(jax.nn.tanh(self.norm(self.linear(x))))


class NNXBlocks(nnx.Module):
    def __init__(self, input_shape, outputs, width=8, *, rngs: nnx.Rngs):
        height, breadth, channels = input_shape
        self.stem = nnx.Linear(height * breadth * channels, width, rngs=rngs)
        self.blocks = nnx.List([NNXBlock(width, rngs) for _ in range(3)])
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x.reshape(len(x), -1))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class EquinoxBlock(eqx.Module):
    linear: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout

    def __init__(self, width, key):
        self.linear = eqx.nn.Linear(width, width, key=key)
        self.norm = eqx.nn.BatchNorm(width, "batch", mode="batch", momentum=0.9)
        self.drop = eqx.nn.Dropout(0.2)

    def __call__(self, x, state, key):
        wide, state = self.norm(self.linear(x), state)
        return x + self.drop(jax.nn.tanh(wide), key=key), state


class EquinoxBlocks(eqx.Module):
    stem: eqx.nn.Linear
    blocks: list[EquinoxBlock]
    head: eqx.nn.Linear

    def __init__(self, input_shape, outputs, width=8, *, key):
        height, breadth, channels = input_shape
        keys = jax.random.split(key, 5)
        self.stem = eqx.nn.Linear(height * breadth * channels, width, key=keys[0])
        self.blocks = [EquinoxBlock(width, each) for each in keys[1:4]]
        self.head = eqx.nn.Linear(width, outputs, key=keys[4])

    def __call__(self, x, state, *, key):
        x = self.stem(x.reshape(-1))
        for block, each in zip(self.blocks, jax.random.split(key, 3), strict=True):
            x, state = block(x, state, each)
        return self.head(x), state
