"""A training loop in plain JAX, by hand: what flax_impl is measured against."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flax_impl.device import DType
from flax_impl.models import build_model
from pipeline.config.models import AttentionKernel, ModelConfig, TransformerConfig

STEPS_PER_CALL = 32  # on a GPU: a call costs more than a step

# Arrays that stay on the devices; rows `[steps, batch, …]` of a call; a function of the first and of the rows
# of one step that gives inputs and targets.
Batches = tuple[tuple[jax.Array, ...], Callable[[int, int], np.ndarray], Callable]


class CNN(nn.Module):
    """The `cnn`."""

    classes: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images `[batch, height, width, channels]` to logits."""
        for channels in (6, 16):
            x = nn.relu(nn.Conv(channels, (5, 5), padding=2, dtype=self.dtype)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for width in (120, 84):
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        return nn.Dense(self.classes, dtype=self.dtype)(x)


def cnn(shape: tuple[int, ...], classes: int, bf16: bool) -> nn.Module:
    """The `cnn` for images `[height, width, channels]`."""
    return CNN(classes, jnp.bfloat16 if bf16 else jnp.float32)


def ours(config: ModelConfig, shape: tuple[int, ...], classes: int, bf16: bool) -> nn.Module:
    """A model of Tandem: what is compared is the loop."""
    types = {"dtype": jnp.bfloat16, "param_dtype": jnp.float32} if bf16 else {}
    if jax.default_backend() == "cpu" and isinstance(config, TransformerConfig):
        config = replace(config, attention=AttentionKernel.written_out)  # as Tandem chooses there
    return build_model(config, shape, classes, **types)


def shardings(devices: int) -> tuple[NamedSharding, NamedSharding]:
    """Of what each device has a copy of, and of batches `[steps, samples]`, of which it has a share."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    return NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))


def image_batches(
    images: np.ndarray, labels: np.ndarray, batch: int, device: str, devices: int = 1
) -> Batches:
    """Batches of uint8 images `[samples, height, width, channels]`, which stay on the devices."""
    if device == "cpu" and devices > max(1, jax.config.jax_num_cpu_devices):
        jax.config.update("jax_num_cpu_devices", devices)
        # By default XLA may have too few threads for devices that wait for each other.
        os.environ.setdefault("PJRT_NPROC", str(os.cpu_count() + devices))
    mean = jnp.asarray(images.mean(axis=(0, 1, 2)), jnp.float32)
    scale = jnp.asarray(1 / images.std(axis=(0, 1, 2)), jnp.float32)
    order = np.random.default_rng(0).permutation(len(images)).astype(np.int32)

    def rows(first: int, count: int) -> np.ndarray:
        starts = [step * batch % (len(images) - batch) for step in range(first, first + count)]
        return np.stack([order[start : start + batch] for start in starts])

    def prepare(kept: tuple, chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels, targets = kept
        return (pixels[chosen].astype(jnp.float32) - mean) * scale, targets[chosen]

    return (jnp.asarray(images), jnp.asarray(labels, jnp.int32)), rows, prepare


def token_batches(tokens: np.ndarray, length: int, batch: int, device: str) -> Batches:
    """Batches of random windows of token ids, which may be a memory-mapped file, as nanoGPT cuts them."""
    random = np.random.default_rng(0)

    def rows(first: int, count: int) -> np.ndarray:
        starts = random.integers(len(tokens) - length, size=count * batch)
        windows = np.stack([tokens[start : start + length + 1] for start in starts])
        return windows.astype(np.int32).reshape(count, batch, -1)

    return (), rows, lambda kept, windows: (windows[:, :-1], windows[:, 1:])


def train(
    model: nn.Module,
    batches: Batches,
    batch: int,
    steps: tuple[int, int],
    device: str,
    devices: int = 1,
    bf16: bool = False,
) -> float:
    """Samples per second with AdamW, over the second of `steps` after the first, which warms up.

    `devices` share the batch. On a GPU `steps` are multiples of `STEPS_PER_CALL`.
    """
    (kept, rows, prepare), (warmup, timed) = batches, steps
    optimizer, per_call = optax.adamw(1e-3), 1 if device == "cpu" else STEPS_PER_CALL
    inputs = jax.eval_shape(prepare, kept, rows(0, 1)[0])[0]
    start = partial(model.init, train=False)
    variables = jax.jit(start)(jax.random.key(0), jnp.zeros(inputs.shape, inputs.dtype))
    params, stats = variables["params"], variables.get("batch_stats", {})
    state = (params, stats, optimizer.init(params))
    places = {}
    if devices > 1:
        whole, split = shardings(devices)
        state, kept = jax.device_put((state, kept), whole)
        places = {"in_shardings": (whole, whole, split), "out_shardings": whole}

    def step(kept: tuple, state: tuple, chosen: jax.Array) -> tuple:
        params, stats, opt_state = state
        inputs, targets = prepare(kept, chosen)

        def loss(params: dict) -> tuple[jax.Array, dict]:
            logits, changed = model.apply(
                {"params": params, "batch_stats": stats},
                inputs,
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits.astype(jnp.float32), targets
            )
            return losses.mean(), changed.get("batch_stats", {})

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), value

    @partial(jax.jit, donate_argnums=0, **places)
    def call(state: tuple, kept: tuple, chosen: jax.Array) -> tuple:
        if per_call == 1:
            return step(kept, state, chosen[0])
        return jax.lax.scan(partial(step, kept), state, chosen)

    for index in range(0, warmup, per_call):
        state, value = call(state, kept, rows(index, per_call))
    jax.block_until_ready(value)
    started = time.perf_counter()
    for index in range(warmup, warmup + timed, per_call):
        state, value = call(state, kept, rows(index, per_call))
    jax.block_until_ready(value)
    return timed * batch / (time.perf_counter() - started)
