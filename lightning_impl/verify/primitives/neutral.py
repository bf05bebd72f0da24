"""Execution of a torch model in float64 throughout, without random numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.verify.sides.subject import MIDDLE
from pipeline.verify.trace.constants import is_rounded_number, nudged
from pipeline.verify.trace.graph import Draw, Op

EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted"}
NARROW = (torch.float32, torch.float16, torch.bfloat16)

# Random operations: kind, and the value that takes the place of every number. A mask of ones keeps all,
# so that dropout scales by 1 / (1 - rate): its rate and place show in the results.
RANDOM = {
    "bernoulli": ("bernoulli", 1.0), "bernoulli_": ("bernoulli", 1.0),
    "rand": ("uniform", 0.5), "rand_like": ("uniform", 0.5), "uniform_": ("uniform", 0.5),
    "randn": ("normal", 1.0), "randn_like": ("normal", 1.0), "normal_": ("normal", 1.0),
    "normal": ("normal", 1.0), "exponential_": ("exponential", 1.0),
}  # fmt: skip
OTHER_RANDOM = {"randint", "randint_like", "randperm", "multinomial", "cauchy_",
    "geometric_", "log_normal_", "poisson", "rrelu_with_noise", "random_"}  # fmt: skip


class Neutral(TorchDispatchMode):
    """Replaces random numbers by constants, notes the draws, and lifts float32 to float64."""

    def __init__(self, nudge: float = 0.0, uniform: float = MIDDLE) -> None:
        """Take what takes the place of rounding and of random numbers, see `Subject.vary`."""
        super().__init__()
        self.nudge, self.uniform = nudge, uniform
        self.draws: list[Draw] = []
        self.ops: list[Op] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from wrapping each operation, for which it loads its compiler in a second."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: Any = None
    ) -> object:
        """Execute an operation."""
        return self.execute(func, args, kwargs or {})

    def execute(self, func: Any, args: tuple, kwargs: Mapping[str, Any]) -> object:
        """Execute an operation in float64, without random numbers."""
        name = short_name(func)
        if kwargs.get("dtype") in NARROW:
            kwargs = {**kwargs, "dtype": torch.float64}
        if not name.endswith("_"):
            args = self._lift(args)
        out = self._draw(name, args, kwargs)
        if name in EMPTY:  # whatever the memory holds
            return func(*args, **kwargs).zero_()
        return func(*args, **kwargs) if out is None else out

    def _lift(self, value: Any) -> Any:
        """Return arguments with float64 in place of float32, in which a model may hold constants."""
        if isinstance(value, torch.Tensor):
            return lift(value, self.nudge) if value.dtype in NARROW else value
        if isinstance(value, list | tuple):
            return type(value)(map(self._lift, value))
        return value

    def _draw(self, name: str, args: tuple, kwargs: Mapping[str, Any]) -> object:
        """Return constants in place of random numbers, and note the draw; None if it draws none."""
        if name == "native_dropout":
            x, rate, training = args
            if not training or not rate:
                return None
            self.draws.append(Draw("bernoulli", 1 - float(rate), x.numel(), len(self.ops)))
            return x / (1 - float(rate)), torch.ones_like(x, dtype=torch.bool)
        if name in RANDOM:
            kind, value = RANDOM[name]
            value = self.uniform if kind == "uniform" else value
            if name.endswith("_"):
                out = args[0].fill_(value)
            elif args and isinstance(args[0], torch.Tensor):
                out = torch.full_like(args[0], value, dtype=kwargs.get("dtype"))
            else:
                out = torch.full(args[0], value, dtype=kwargs.get("dtype"))
            number = MIDDLE
            if kind == "bernoulli":
                number = next((float(a) for a in args[1:] if isinstance(a, int | float)), MIDDLE)
            if name == "bernoulli" and len(args) == 1:  # the probabilities are a tensor
                number = float(args[0].max())
            self.draws.append(Draw(kind, number, out.numel(), len(self.ops)))
            return out
        if name in OTHER_RANDOM:
            size = args[0].numel() if args and isinstance(args[0], torch.Tensor) else 0
            self.draws.append(Draw(name, 0.0, size, len(self.ops)))
        return None


def lift(tensor: torch.Tensor, nudge: float) -> torch.Tensor:
    """Return a constant in float64; a number as it was written: 0.1, not 0.100000001."""
    if not tensor.ndim and tensor.dtype is torch.float32:
        number = np.format_float_scientific(np.float32(tensor.item()))
        moved = 1 + nudge * is_rounded_number(tensor.item())
        return torch.tensor(float(number) * moved, dtype=torch.float64)
    return torch.from_numpy(nudged(tensor.double().numpy(), nudge))


def narrow_buffers(model: nn.Module) -> set[str]:
    """Return the names of the buffers that a model holds in float32."""
    return {name for name, buffer in model.named_buffers() if buffer.dtype in NARROW}


def short_name(func: Any) -> str:
    """Return the name of an operation without its namespace and overload."""
    return func.name().rpartition("::")[2].partition(".")[0]
