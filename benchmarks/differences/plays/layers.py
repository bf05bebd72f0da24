"""Layers with the weights of torch's: outputs, running statistics, number and initial values of weights."""

from collections.abc import Callable

import jax
import numpy as np
import torch
from flax import nnx
from torch import nn

from benchmarks.differences.namespaces import HAS_EQUINOX, evaluate, to_native, to_numpy
from benchmarks.differences.plays.flax_layers import run_linen, run_nnx
from benchmarks.differences.plays.task import CHANNELS_FIRST, STATISTICS, Task
from benchmarks.differences.plays.weights import draw, split
from benchmarks.differences.row import Case, Code, Play

# Initial values that are not looked at are not drawn: each shape would be compiled.
ABSTRACT: dict[str, Callable] = {"linen": lambda make: make(), "nnx": nnx.eval_shape}
RUNS: dict[str, Callable[..., np.ndarray]] = {"linen": run_linen, "nnx": run_nnx}
if HAS_EQUINOX:
    import equinox

    from benchmarks.differences.plays.equinox_layers import run_equinox

    RUNS["equinox"] = run_equinox
    ABSTRACT["equinox"] = equinox.filter_eval_shape


def layer(part: str = "output", steps: int = 1) -> Play:
    """Make the play of a layer that is given torch's weights; its inputs are in the order of the row.

    Inputs and outputs are channels last. Layers for which that makes a difference are in training.

    Args:
        part: what is compared: `output`, `evaluation` (the output in evaluation, after training),
            `running_mean`, `running_var`, `parameters` (their number), or `initial weight` (quantiles of
            the initial values of that parameter).
        steps: calls in training, on the inputs times 1, 2, …
    """

    def played(code: Code, case: Case) -> np.ndarray:
        task = Task(part, steps)
        named = {name: to_native(code.framework, array) for name, array in case.inputs.items()}
        inputs = list(named.values())
        if code.framework == "torch":
            return run_torch(evaluate(code, {}), case.seed, inputs, task)
        twin = evaluate(case.torch, {})
        assert isinstance(twin, nn.Module)
        is_drawn = task.part.startswith("initial ") or isinstance(twin, nn.RNNBase)
        if not is_drawn and list(twin.parameters()) and not list(twin.buffers()):
            module = ABSTRACT[code.framework](lambda: evaluate(code, {}))
        else:
            module = evaluate(code, named)
        if isinstance(module, jax.Array):  # pools of linen and NNX are functions
            return to_numpy(module)
        return RUNS[code.framework](module, split(twin, draw(twin, case.seed)), inputs, task)

    return played


def run_torch(module: object, seed: int, inputs: list[torch.Tensor], task: Task) -> np.ndarray:
    """Run a layer of torch with weights of the seed."""
    assert isinstance(module, nn.Module)
    own = {name: to_numpy(parameter) for name, parameter in module.named_parameters()}
    if task.is_initial:
        return task.of_initial(split(module, own) if task.part != "parameters" else own)
    with torch.no_grad():
        for name, array in draw(module, seed).items():
            module.get_parameter(name).copy_(torch.tensor(array))
    first = type(module).__name__.startswith(CHANNELS_FIRST)
    moved = [x.movedim(-1, 1) if first else x for x in inputs]
    if isinstance(module, nn.MultiheadAttention):
        return to_numpy(module(*moved * 3, need_weights=False)[0])
    for scale in task.scales:
        y = module(moved[0] * scale if scale > 1 else moved[0], *moved[1:])
    if task.part in STATISTICS:
        return to_numpy(module.get_buffer(task.part))
    if task.part == "evaluation":
        y = module.eval()(*moved)
    y = y[0] if isinstance(y, tuple) else y  # of an LSTM, without its last state
    return to_numpy(y.movedim(1, -1) if first else y)
