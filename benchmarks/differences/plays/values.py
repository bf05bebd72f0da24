"""Code whose value is the result, or whose gradient is."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import torch

from benchmarks.differences.namespaces import evaluate, to_native, to_numpy
from benchmarks.differences.row import Case, Code, Play

QUANTILES = np.linspace(0.02, 0.98, 33)


def value(code: Code, case: Case) -> np.ndarray:
    """Value of an expression of the inputs."""
    native = {name: to_native(code.framework, array) for name, array in case.inputs.items()}
    return to_numpy(evaluate(code, native) if code.framework == "torch" else _program(code)(native))


def heads_first(code: Code, case: Case) -> np.ndarray:
    """Value of attention, for which torch has the heads before the length in `q`, `k` and `v`."""
    if code.framework != "torch":
        return value(code, case)
    moved = {n: a.swapaxes(1, 2) if n in "qkv" else a for n, a in case.inputs.items()}
    return value(code, replace(case, inputs=moved)).swapaxes(1, 2)


def quantiles(code: Code, case: Case) -> np.ndarray:
    """Quantiles of the random numbers that an expression draws, in the order of their size."""
    return np.quantile(value(code, case), QUANTILES)


def gradient(*by: str) -> Play:
    """Make the play of a gradient by the inputs `by`: that of a sum with different weights."""

    def played(code: Code, case: Case) -> np.ndarray:
        run = _torch_gradient if code.framework == "torch" else _jax_gradient
        return to_numpy(run(code, case.inputs, by))

    return played


def _torch_gradient(code: Code, inputs: Mapping[str, np.ndarray], by: tuple[str, ...]) -> list:
    native = {name: torch.tensor(inputs[name], requires_grad=name in by) for name in inputs}
    result = evaluate(code, native)
    assert isinstance(result, torch.Tensor)
    (result * torch.tensor(_weights(result.shape))).sum().backward()
    return [native[name].grad for name in by]


@cache
def _program(code: Code) -> Callable[[Mapping[str, jax.Array]], object]:
    """Compile code of JAX as one program, which takes a tenth of the time of its operations one by one."""
    return jax.jit(lambda native: evaluate(code, native))


@cache
def _gradient(code: Code, by: tuple[str, ...]) -> Callable[..., Mapping[str, jax.Array]]:
    def total(varied: Mapping[str, jax.Array], native: Mapping[str, jax.Array]) -> jax.Array:
        result = evaluate(code, dict(native) | dict(varied))
        assert isinstance(result, jax.Array)
        return (result * _weights(result.shape)).sum()

    return jax.jit(jax.grad(total))


def _jax_gradient(code: Code, inputs: Mapping[str, np.ndarray], by: tuple[str, ...]) -> list:
    native = {name: to_native("jax", array) for name, array in inputs.items()}
    found = _gradient(code, by)({name: native[name] for name in by}, native)
    return [found[name] for name in by]


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(tuple(shape))
