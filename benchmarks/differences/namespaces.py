"""Names that the code of a row may use, by framework, and its evaluation in float64."""

import importlib.util
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from types import CodeType

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torchvision
from flax import linen, nnx
from torch import nn

import flax_impl.norms
import flax_impl.optimizers
import lightning_impl.optimizers
from benchmarks.differences.row import Code
from pipeline.config import optimizers as configs

HAS_EQUINOX = importlib.util.find_spec("equinox") is not None
TORCH = {
    "torch": torch,
    "nn": nn,
    "F": nn.functional,
    "init": nn.init,
    "optim": torch.optim,
    "lr_scheduler": torch.optim.lr_scheduler,
    "utils": nn.utils,
    "torchvision": torchvision,
    "lightning_impl": lightning_impl,
    "configs": configs,
}
JAX = {
    "jax": jax,
    "jnp": jnp,
    "initializers": jax.nn.initializers,
    "linen": linen,
    "nnx": nnx,
    "optax": optax,
    "flax_impl": flax_impl,
    "configs": configs,
}
MODULES = [torch, jax, flax, optax]
if HAS_EQUINOX:
    import equinox

    JAX["eqx"] = equinox
    MODULES.append(equinox)

VERSIONS = {module.__name__: module.__version__.partition("+")[0] for module in MODULES}


@contextmanager
def float64() -> Generator[None]:
    """Compute in float64, torch on one thread; settings are restored afterwards."""
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(default)


def evaluate(code: Code, names: Mapping[str, object]) -> object:
    """Value of a row's code with `names` beside those of its framework."""
    if code.framework == "torch":
        torch.manual_seed(0)
        known = TORCH
    else:
        known = JAX | {"key": jax.random.key(0), "rngs": nnx.Rngs(0)}
    return eval(_compiled(code.text), known | dict(names))


def to_native(framework: str, array: np.ndarray) -> "torch.Tensor | jax.Array":
    """An array in a framework."""
    # `jnp.array` would compile a program for each shape.
    return torch.tensor(array) if framework == "torch" else jax.device_put(array)


def to_numpy(value: object) -> np.ndarray:
    """A result as an array; several are strung together."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, tuple | list):
        return np.concatenate([to_numpy(each).ravel() for each in value])
    return np.asarray(value)


@cache
def _compiled(text: str) -> CodeType:
    return compile(text, text, "eval")
