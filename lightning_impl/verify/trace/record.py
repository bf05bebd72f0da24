"""Record of the operations that a torch model has dispatched."""

import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.weak import WeakIdKeyDictionary

from lightning_impl.verify.primitives.neutral import short_name
from lightning_impl.verify.trace.elements import VIEWS, Elements
from lightning_impl.verify.trace.replay import Operation, slotted, tensors, to_numpy
from pipeline.verify.replay.program import Operand, Program
from pipeline.verify.trace.fingerprints import fingerprint
from pipeline.verify.trace.graph import Op, Use, Window

# Operations that move values, of parameters or not.
MOVES = (VIEWS | {"copy", "copy_", "repeat", "unfold", "roll", "constant_pad_nd"}) - {
    "cat",
    "stack",
}

HERE = Path(__file__).parents[1].as_posix()
LIBRARY = Path(torch.__file__).parent.as_posix()


class Record:
    """Operations in the order of execution, and the program that runs them again.

    The place of a result is its index in `ops`.
    """

    def __init__(self, keep: Collection[int]) -> None:
        """Take the places whose arrays are kept."""
        self.keep = keep
        self.kept: dict[int, np.ndarray] = {}
        self.ops: list[Op] = []
        self.uses: list[Use] = []
        self.program: Program[torch.Tensor] = Program()
        self.layers: list[str] = []  # modules being executed, innermost last
        self.places = WeakIdKeyDictionary()  # of a tensor: its place in `ops`
        self.registers = WeakIdKeyDictionary()  # of a tensor, in the program
        self.elements = Elements()
        self._elements = 0  # numbered so far
        self._fixed: list[bool] = []  # of a result: no input of the model leads to it
        self._writers: dict[int, int] = {}  # by storage: the last operation in place

    def source(self, tensor: torch.Tensor, name: str, layer: str = "") -> None:
        """Introduce an input, parameter or buffer."""
        if name != "input":
            numbers = torch.arange(self._elements, self._elements + tensor.numel())
            self.elements.views[tensor] = numbers.view(tensor.shape)
            self._elements += tensor.numel()
        self.add(tensor, name, layer=layer)
        self.program.sources[name, layer] = self.registers[tensor]

    def place(self, tensor: torch.Tensor) -> int:
        """Return the place of a tensor's result; an unknown tensor is a constant."""
        if tensor not in self.places:
            self.add(tensor, "constant")
            self.program.constants[self.registers[tensor]] = tensor.detach().clone()
        return max(self.places[tensor], self._writers.get(_storage(tensor), -1))

    def is_fixed(self, place: int) -> bool:
        """True for a result that no input of the model leads to."""
        return self._fixed[place]

    def add(
        self,
        tensor: torch.Tensor,
        name: str,
        inputs: tuple[int, ...] = (),
        numbers: tuple[float, ...] = (),
        settings: dict[str, str] | None = None,
        layer: str | None = None,
        window: Window | None = None,
    ) -> None:
        """Add a result; `inputs` are the places of its operands."""
        self.places[tensor] = len(self.ops)
        self._fixed.append(name != "input" and all(self._fixed[place] for place in inputs))
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
                _source_line() if inputs else "",
                name in MOVES,
                fingerprint(to_numpy(tensor)) if is_float else None,
                window=window,
            )
        )
        if self.places[tensor] in self.keep:
            self.kept[self.places[tensor]] = to_numpy(tensor).copy()

    def note_writer(self, tensor: torch.Tensor) -> None:
        """Note an operation in place: it has written into all tensors that share this one's memory."""
        self._writers[_storage(tensor)] = self.places[tensor]

    def add_step(
        self,
        call: Callable[..., object],
        func: Any,
        args: tuple,
        kwargs: Mapping[str, Any],
        out: object,
        taken: tuple[Operand, ...],
        is_view: bool,
    ) -> None:
        """Add an operation to the program, to be run again by `call`; `taken` are its operands."""
        results = list(tensors(out))
        for tensor in results:
            if tensor not in self.registers:
                self.registers[tensor] = self.program.add_register()
        operands = tensors((args, tuple(kwargs.values())))
        slots = {id(tensor): at for at, tensor in enumerate(operands)}
        places = [-1 if is_view else self.places[tensor] for tensor in results]
        self.program.steps.append(
            Operation(
                taken,
                tuple(self.registers[tensor] for tensor in results),
                tuple(places),
                partial(call, func),
                short_name(func),
                slotted(args, slots),
                {name: slotted(value, slots) for name, value in kwargs.items()},
            )
        )


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _source_line() -> str:
    """Return file and line of the innermost frame outside torch."""
    frame = sys._getframe(3)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((LIBRARY, HERE, "<")) and "_python_dispatch" not in file:
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
