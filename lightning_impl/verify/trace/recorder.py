"""Execution of a torch model that records its operations, below its modules."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from lightning_impl.verify.primitives.neutral import Neutral, short_name
from lightning_impl.verify.primitives.substitutes import SUBSTITUTES, substitute
from lightning_impl.verify.trace.elements import VIEWS
from lightning_impl.verify.trace.record import Record
from lightning_impl.verify.trace.replay import find_window, tensors
from lightning_impl.verify.trace.uses import find_uses
from pipeline.verify.replay.program import Operand
from pipeline.verify.sides.subject import MIDDLE


class Enough(Exception):
    """The operation that was asked for has been recorded."""


class Recorder(Neutral):
    """Records what a model dispatches while the mode is active, up to the place `until`.

    `arrays` are its parameters and buffers by name.
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
        self.until = until
        self.record = Record(keep)
        self.ops = self.record.ops  # by which draws are placed
        self.neutral = Neutral(nudge, uniform)  # executes the program
        for name, tensor in arrays.items():
            self.record.source(tensor, "parameter", name)
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor):
                self.record.source(value, "input", name)

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: Any = None
    ) -> object:
        """Execute an operation and record it."""
        kwargs, name, record = kwargs or {}, short_name(func), self.record
        if name in SUBSTITUTES:
            with self:
                return substitute(name, args, kwargs)
        operands = list(tensors((args, tuple(kwargs.values()))))
        before = {id(tensor): record.place(tensor) for tensor in operands}
        taken = tuple(Operand(record.registers[t], before[id(t)]) for t in operands)
        out = self.execute(func, args, kwargs)
        is_view = self._record(name, func, args, kwargs, out, before)
        record.add_step(self.neutral.execute, func, args, kwargs, out, taken, is_view)
        if self.until is not None and len(record.ops) > self.until:
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
        record, elements = self.record, self.record.elements
        operands = list(tensors((args, tuple(kwargs.values()))))
        if name in VIEWS and all(tensor in elements.views for tensor in operands) and operands:
            elements.add_view(name, func, args, kwargs, out)
            for tensor in tensors(out):
                record.places[tensor] = record.place(operands[0])
            return True
        if operands and all(map(record.is_fixed, before.values())):
            shown = elements.follow(name, func, args, kwargs, out)
            if shown is not None:
                record.places[next(tensors(out))] = record.place(shown)
                return True
        inputs = tuple(dict.fromkeys(before.values()))
        numbers = tuple(float(a) for a in _numbers((args, tuple(kwargs.values()))))
        first = len(record.ops)
        for tensor in tensors(out):
            window = find_window(name, args, tensor) if len(record.ops) == first else None
            settings = _settings(func, args, kwargs)
            record.add(tensor, name, inputs, numbers, settings, window=window)
            if name.endswith("_") or tensor is (args[0] if args else None):
                record.note_writer(tensor)
        if any(tensor in elements for tensor in operands):
            op = min(first, len(record.ops) - 1)
            record.uses += find_uses(elements, name, args, kwargs, before, op)
        return False

    def watch(self, model: nn.Module) -> Iterator[Any]:
        """Follow which module is being executed; yields the hooks, to be removed at the end."""
        for name, module in model.named_modules():
            yield module.register_forward_pre_hook(self._enter(name))
            yield module.register_forward_hook(self._leave, always_call=True)

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(*_: object) -> None:
            self.record.layers.append(name)

        return enter

    def _leave(self, *_: object) -> None:
        self.record.layers.pop()


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
