"""Record of the operations that a torch model dispatches, below its modules."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from lightning_impl.verify.primitives.neutral import Neutral, short_name
from lightning_impl.verify.primitives.substitutes import SUBSTITUTES, substitute
from lightning_impl.verify.trace.elements import VIEWS, Elements
from lightning_impl.verify.trace.replay import Operation, find_window, slotted, tensors, to_numpy
from lightning_impl.verify.trace.uses import find_uses
from pipeline.verify.replay.program import Operand, Program
from pipeline.verify.sides.subject import MIDDLE
from pipeline.verify.trace.fingerprints import fingerprint
from pipeline.verify.trace.graph import Op, Use, Window

# Operations that move values, of parameters or not.
MOVES = (VIEWS | {"copy", "copy_", "repeat", "unfold", "roll", "constant_pad_nd"}) - {
    "cat",
    "stack",
}

HERE = Path(__file__).parents[1].as_posix()
LIBRARY = Path(torch.__file__).parent.as_posix()


class Enough(Exception):
    """The operation that was asked for has been recorded."""


class Recorder(Neutral):
    """Records what a model dispatches while the mode is active.

    `arrays` are its parameters and buffers by name; `values` are the tensors that stand for them.
    """

    def __init__(
        self,
        arrays: Mapping[str, torch.Tensor],
        inputs: Mapping[str, object],
        keep: Collection[int] = (),
        until: int | None = None,
        nudge: float = 0.0,
        uniform: float = MIDDLE,
    ) -> None:
        super().__init__(nudge, uniform)
        self.keep, self.until = keep, until
        self.kept: dict[int, np.ndarray] = {}
        self.ops: list[Op] = []
        self.uses: list[Use] = []
        self.layers: list[str] = []  # modules being executed, innermost last
        self.places = WeakIdKeyDictionary()  # of a tensor: its place in `ops`
        self.elements = Elements()
        self.writers: dict[int, int] = {}  # by storage: the last operation in place
        self.is_fixed: list[bool] = []  # of a result: no input of the model leads to it
        self.program: Program[torch.Tensor] = Program()
        self.registers = WeakIdKeyDictionary()  # of a tensor, in the program
        self.neutral = Neutral(nudge, uniform)  # executes the program
        first = 0
        for name, tensor in arrays.items():
            numbers = torch.arange(first, first + tensor.numel())
            self.elements.views[tensor] = numbers.view(tensor.shape)
            first += tensor.numel()
            self._add(tensor, "parameter", layer=name)
            self.program.sources["parameter", name] = self.registers[tensor]
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor):
                self._add(value, "input", layer=name)
                self.program.sources["input", name] = self.registers[value]

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: Any = None
    ) -> object:
        """Execute an operation and record it."""
        kwargs, name = kwargs or {}, short_name(func)
        if name in SUBSTITUTES:
            with self:
                return substitute(name, args, kwargs)
        operands = list(tensors((args, tuple(kwargs.values()))))
        before = {id(tensor): self.place(tensor) for tensor in operands}
        taken = tuple(Operand(self.registers[t], before[id(t)]) for t in operands)
        out = self.execute(func, args, kwargs)
        is_view = self._record(name, func, args, kwargs, out, before)
        self._record_step(func, args, kwargs, out, operands, taken, is_view)
        if self.until is not None and len(self.ops) > self.until:
            raise Enough
        return out

    def _record(
        self,
        name: str,
        func: Any,
        args: tuple,
        kwargs: Mapping[str, Any],
        out: object,
        before: Mapping[int, int],
    ) -> bool:
        """Record an operation's results; return True for a view of parameters, which is none."""
        operands = list(tensors((args, tuple(kwargs.values()))))
        views = self.elements.views
        if name in VIEWS and all(tensor in views for tensor in operands) and operands:
            self.elements.add_view(name, func, args, kwargs, out)
            for tensor in tensors(out):
                self.places[tensor] = self.place(operands[0])
            return True
        is_fixed = operands and all(self.is_fixed[place] for place in before.values())
        if is_fixed:
            shown = self.elements.follow(name, func, args, kwargs, out)
            if shown is not None:
                self.places[next(tensors(out))] = self.place(shown)
                return True
        inputs = tuple(dict.fromkeys(before.values()))
        numbers = tuple(float(a) for a in _numbers((args, tuple(kwargs.values()))))
        first = len(self.ops)
        for tensor in tensors(out):
            window = find_window(name, args, tensor) if len(self.ops) == first else None
            settings = _settings(func, args, kwargs)
            self._add(tensor, name, inputs, numbers, settings, window=window)
            if name.endswith("_") or tensor is (args[0] if args else None):
                self.writers[_storage(tensor)] = self.places[tensor]
        if any(tensor in self.elements for tensor in operands):
            op = min(first, len(self.ops) - 1)
            self.uses += find_uses(self.elements, name, args, kwargs, before, op)
        return False

    def _record_step(
        self,
        func: Any,
        args: tuple,
        kwargs: Mapping[str, Any],
        out: object,
        operands: list[torch.Tensor],
        taken: tuple[Operand, ...],
        is_view: bool,
    ) -> None:
        """Add an operation to the program, to be run again."""
        results = list(tensors(out))
        for tensor in results:
            if tensor not in self.registers:
                self.registers[tensor] = self.program.add_register()
        slots = {id(tensor): at for at, tensor in enumerate(operands)}
        places = [-1 if is_view else self.places[tensor] for tensor in results]
        self.program.steps.append(
            Operation(
                taken,
                tuple(self.registers[tensor] for tensor in results),
                tuple(places),
                partial(self.neutral.execute, func),
                short_name(func),
                slotted(args, slots),
                {name: slotted(value, slots) for name, value in kwargs.items()},
            )
        )

    def place(self, tensor: torch.Tensor) -> int:
        """Return the place of a tensor's result in `ops`; an unknown tensor is a constant."""
        if tensor not in self.places:
            self._add(tensor, "constant")
            self.program.constants[self.registers[tensor]] = tensor.detach().clone()
        return max(self.places[tensor], self.writers.get(_storage(tensor), -1))

    def _add(
        self,
        tensor: torch.Tensor,
        name: str,
        inputs: tuple[int, ...] = (),
        numbers: tuple[float, ...] = (),
        settings: dict[str, str] | None = None,
        layer: str | None = None,
        window: Window | None = None,
    ) -> None:
        self.places[tensor] = len(self.ops)
        self.is_fixed.append(name != "input" and all(self.is_fixed[place] for place in inputs))
        if tensor not in self.registers:
            self.registers[tensor] = self.program.add_register()
        self.program.registers[len(self.ops)] = self.registers[tensor]
        if layer is None:
            layer = self.layers[-1] if self.layers else ""
        is_float = tensor.is_floating_point() and name not in ("parameter", "buffer")
        self.ops.append(
            Op(
                name,
                inputs,
                numbers,
                settings or {},
                tuple(tensor.shape),
                str(tensor.dtype).removeprefix("torch."),
                layer,
                _source() if inputs else "",
                name in MOVES,
                fingerprint(to_numpy(tensor)) if is_float else None,
                window=window,
            )
        )
        if self.places[tensor] in self.keep:
            self.kept[self.places[tensor]] = to_numpy(tensor).copy()

    def watch(self, model: nn.Module) -> Iterator[Any]:
        """Follow which module is being executed; yields the hooks, to be removed at the end."""
        for name, module in model.named_modules():
            yield module.register_forward_pre_hook(self._enter(name))
            yield module.register_forward_hook(self._leave, always_call=True)

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(*_: object) -> None:
            self.layers.append(name)

        return enter

    def _leave(self, *_: object) -> None:
        self.layers.pop()


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)


def _settings(func: Any, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Arguments that are no tensors, by name."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return {name: str(value) for name, value in given.items() if next(tensors(value), None) is None}


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _source() -> str:
    """Return file and line of the innermost frame outside torch."""
    frame = sys._getframe(3)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((LIBRARY, HERE, "<")) and "_python_dispatch" not in file:
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
