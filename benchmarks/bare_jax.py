"""A training loop in plain JAX, by hand: what flax_impl is measured against."""

import os
import time
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

STEPS_PER_CALL = 32  # on a GPU: a call costs more than a step


class CNN(nn.Module):
    """The same network."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images `[batch, height, width, channels]` to logits."""
        for channels in (6, 16):
            x = nn.max_pool(nn.relu(nn.Conv(channels, (5, 5), padding=2)(x)), (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for width in (120, 84):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.classes)(x)


def shardings(devices: int) -> tuple[NamedSharding, NamedSharding]:
    """Of what each device has a copy of, and of batches `[steps, samples]`, of which it has a share."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    return NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))


def train(
    images: np.ndarray,
    labels: np.ndarray,
    classes: int,
    batch: int,
    steps: int,
    warmup: int,
    device: str,
    devices: int = 1,
) -> float:
    """Samples per second of the `cnn` with AdamW, over `steps` steps after `warmup` steps.

    Args:
        images: uint8 `[samples, height, width, channels]`.
        labels: int64 `[samples]`.
        classes: number of classes.
        batch: samples in a step.
        steps: timed; on a GPU a multiple of `STEPS_PER_CALL`.
        warmup: not timed; likewise.
        device: `cpu` or `gpu`.
        devices: that share the batch.
    """
    if device == "cpu" and devices > max(1, jax.config.jax_num_cpu_devices):
        jax.config.update("jax_num_cpu_devices", devices)
        # By default XLA may have too few threads for devices that wait for each other.
        os.environ.setdefault("PJRT_NPROC", str(os.cpu_count() + devices))
    model, optimizer = CNN(classes), optax.adamw(1e-3)
    params = model.init(jax.random.key(0), jnp.zeros((1, *images.shape[1:])))
    state = (params, optimizer.init(params))
    pixels, targets = jnp.asarray(images), jnp.asarray(labels, jnp.int32)
    mean = jnp.asarray(images.mean(axis=(0, 1, 2)), jnp.float32)
    scale = jnp.asarray(1 / images.std(axis=(0, 1, 2)), jnp.float32)
    order = np.random.default_rng(0).permutation(len(images)).astype(np.int32)
    per_call = 1 if device == "cpu" else STEPS_PER_CALL
    places = {}
    if devices > 1:
        whole, split = shardings(devices)
        state, pixels, targets = jax.device_put((state, pixels, targets), whole)
        places = {"in_shardings": (whole, whole, whole, split), "out_shardings": whole}

    def step(pixels: jax.Array, targets: jax.Array, state: tuple, chosen: jax.Array) -> tuple:
        params, opt_state = state
        inputs = (pixels[chosen].astype(jnp.float32) - mean) * scale

        def loss(params: dict) -> jax.Array:
            logits = model.apply(params, inputs)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets[chosen]).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    @partial(jax.jit, donate_argnums=0, **places)
    def call(state: tuple, pixels: jax.Array, targets: jax.Array, chosen: jax.Array) -> tuple:
        if per_call == 1:
            return step(pixels, targets, state, chosen[0])
        return jax.lax.scan(partial(step, pixels, targets), state, chosen)

    def batches(index: int) -> np.ndarray:
        starts = [(index * per_call + i) * batch % (len(images) - batch) for i in range(per_call)]
        return np.stack([order[start : start + batch] for start in starts])

    for index in range(warmup // per_call):
        state, value = call(state, pixels, targets, batches(index))
    jax.block_until_ready(value)
    start = time.perf_counter()
    for index in range(steps // per_call):
        state, value = call(state, pixels, targets, batches(index))
    jax.block_until_ready(value)
    return steps * batch / (time.perf_counter() - start)
