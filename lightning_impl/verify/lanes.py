"""A torch module run as its users would run it, in a precision, eager or compiled."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_impl.verify.trace.replay import to_numpy
from pipeline.config.train import Precision
from pipeline.verify.sides.outputs import leaves
from pipeline.verify.sides.subject import Pass

MODES = ("torch eager", "torch.compile")
DTYPES = {
    Precision.fp64: torch.float64,
    Precision.fp32: torch.float32,
    Precision.bf16: torch.bfloat16,
}
NARROW = (torch.float32, torch.float16, torch.bfloat16)

Tensors = Mapping[str, torch.Tensor]


def run_lane(
    model: nn.Module,
    call: Callable[[Tensors], object],
    inputs: Tensors,
    training: bool,
    weights: Mapping[str, np.ndarray],
    precision: Precision,
    compiled: bool,
) -> Pass:
    """Run a module forward and backward; `call` calls it with its inputs. It stays as it is."""
    dtype = DTYPES[precision]
    given = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in inputs.items()
    }
    narrow = _NarrowFinder(model) if precision is Precision.fp64 and not compiled else nullcontext()
    with _converted(model, dtype, training), _compiled(model) if compiled else nullcontext():
        with narrow as found:
            outputs: dict[str, Any] = dict(leaves(call(given), torch.is_tensor))
            used = {
                path: output
                for path, output in outputs.items()
                if path in weights and output.requires_grad
            }
            factors = [torch.tensor(weights[p], dtype=output.dtype) for p, output in used.items()]
            torch.autograd.backward(list(used.values()), factors)
        gradients = {
            name: _wide(parameter.grad)
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        results = {path: _wide(output) for path, output in outputs.items()}
    loss = sum(float((results[path] * weights[path]).sum()) for path in used)
    return Pass(loss, gradients, results, narrow=found.place if found else "")


class _NarrowFinder(TorchDispatchMode):
    """Finds the first operation that computes in less than float64, by its module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.place = ""
        self.layers: list[str] = []  # modules being executed, innermost last
        self.hooks = [
            hook
            for name, module in model.named_modules()
            for hook in (
                module.register_forward_pre_hook(lambda *_, name=name: self.layers.append(name)),
                module.register_forward_hook(lambda *_: self._leave(), always_call=True),
            )
        ]

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: Any = None
    ) -> object:
        """Execute an operation."""
        out = func(*args, **(kwargs or {}))
        for result in out if isinstance(out, list | tuple) else (out,):
            if not self.place and isinstance(result, torch.Tensor) and result.dtype in NARROW:
                kind = str(result.dtype).removeprefix("torch.")
                layer = self.layers[-1] if self.layers else ""
                self.place = f"{kind} in {layer or func.name()}"
        return out

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        """Remove the hooks."""
        super().__exit__(exc_type, exc_val, exc_tb)
        for hook in self.hooks:
            hook.remove()

    def _leave(self) -> None:
        self.layers.pop()


@contextmanager
def _converted(model: nn.Module, dtype: torch.dtype, training: bool) -> Generator[None]:
    """Convert a module to a dtype, with constants in float32 as where users make it; then back.

    The tensors stay the same objects, since others refer to them.
    """
    before, mode = torch.get_default_dtype(), model.training
    constant = torch.float64 if dtype is torch.float64 else torch.float32
    tensors = [*model.parameters(), *model.buffers()]
    data = [tensor.data for tensor in tensors]
    constants = [
        (holder, name, value)
        for holder in model.modules()
        for name, value in vars(holder).items()
        if isinstance(value, torch.Tensor) and value.dtype is torch.float64
    ]
    try:
        torch.set_default_dtype(constant)
        model.train(training)
        for tensor in tensors:
            tensor.data = (
                tensor.data.to(dtype, copy=True)
                if tensor.is_floating_point()
                else tensor.data.clone()
            )
        for holder, name, value in constants:
            vars(holder)[name] = value.detach().to(constant)
        yield
    finally:
        torch.set_default_dtype(before)
        model.train(mode)
        model.zero_grad()
        for tensor, values in zip(tensors, data, strict=True):
            tensor.data = values
        for holder, name, value in constants:
            vars(holder)[name] = value


@contextmanager
def _compiled(model: nn.Module) -> Generator[None]:
    """Compile a module, in this process; afterwards it is eager again."""
    from torch._inductor import config  # loads what no other check needs

    with config.patch(compile_threads=1, deterministic=True):
        model.compile()
        try:
            yield
        finally:
            model._compiled_call_impl = None
            with suppress(AssertionError):  # callbacks of a compilation that has failed are pending
                torch._dynamo.reset()


def _wide(tensor: torch.Tensor) -> np.ndarray:
    array = to_numpy(tensor)
    return array.astype(np.float64) if tensor.is_floating_point() else array.copy()
