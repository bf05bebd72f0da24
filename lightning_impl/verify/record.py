"""Record of the operations that a torch model dispatches, below its modules."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from lightning_impl.verify.replay import Operation, find_window, slotted, tensors, to_numpy
from lightning_impl.verify.substitutes import SUBSTITUTES, substitute
from pipeline.verify.replay.program import Operand, Program
from pipeline.verify.sides.subject import MIDDLE
from pipeline.verify.tags import tags, untag
from pipeline.verify.trace.constants import nudged
from pipeline.verify.trace.fingerprints import fingerprint
from pipeline.verify.trace.graph import Draw, Op, Role, Use, Window

# Operations that only show the elements of a tensor in another order or shape.
VIEWS = {
    "t", "transpose", "permute", "view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "unsqueeze",
    "squeeze", "select", "slice", "split", "split_with_sizes", "chunk", "unbind", "narrow", "detach", "clone",
    "alias", "contiguous", "cat", "stack", "flip", "movedim", "swapaxes", "lift_fresh", "_to_copy", "flatten",
}  # fmt: skip
PRODUCTS = {
    "mm": 0,
    "bmm": 0,
    "mv": 0,
    "dot": 0,
    "addmm": 1,
    "baddbmm": 1,
    "addmv": 1,
}  # first factor
LOOKUPS = {"embedding", "index", "index_select", "gather"}
MATRICES = {*PRODUCTS, *LOOKUPS, "convolution", "_convolution"}
# Operations whose result may have the shape of an operand, but not its elements one by one.
UNORDERED = {*PRODUCTS, "convolution", "_convolution", "sort", "cumsum", "cumprod"} | {
    "linalg_qr", "linalg_householder_product", "_linalg_svd", "_linalg_eigh", "linalg_inv_ex",
    "linalg_matrix_exp", "linalg_solve_triangular", "linalg_lu", "cholesky", "linalg_cholesky_ex",
    "_linalg_solve_ex",
}  # fmt: skip
SCALES, SHIFTS = {"mul", "mul_", "div", "div_"}, {"add", "add_", "sub", "sub_", "rsub"}
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

# Operations that move values, of parameters or not.
MOVES = (VIEWS | {"copy", "copy_", "repeat", "unfold", "roll", "constant_pad_nd"}) - {
    "cat",
    "stack",
}

EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted"}
NARROW = (torch.float32, torch.float16, torch.bfloat16)

HERE = Path(__file__).parent.as_posix()
LIBRARY = Path(torch.__file__).parent.as_posix()


class Neutral(TorchDispatchMode):
    """Replaces random numbers by constants, notes the draws, and lifts float32 to float64."""

    def __init__(self, nudge: float = 0.0, uniform: float = MIDDLE) -> None:
        """Take what takes the place of rounding and of random numbers, see `Subject.vary`."""
        super().__init__()
        self.nudge, self.uniform = nudge, uniform
        self.draws: list[Draw] = []
        self.ops: list[Op] = []

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
        self.elements = WeakIdKeyDictionary()  # of a view of parameters: the elements' numbers
        self.computed = WeakIdKeyDictionary()  # of a matrix made of parameters: the same
        self.writers: dict[int, int] = {}  # by storage: the last operation in place
        self.is_fixed: list[bool] = []  # of a result: no input of the model leads to it
        self.program: Program[torch.Tensor] = Program()
        self.registers = WeakIdKeyDictionary()  # of a tensor, in the program
        self.neutral = Neutral(nudge, uniform)  # executes the program
        first = 0
        for name, tensor in arrays.items():
            numbers = torch.arange(first, first + tensor.numel())
            self.elements[tensor] = numbers.view(tensor.shape)
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
        if name in VIEWS and all(tensor in self.elements for tensor in operands) and operands:
            self._record_view(name, func, args, kwargs, out)
            return True
        is_fixed = operands and all(self.is_fixed[place] for place in before.values())
        if is_fixed and self._follow(name, func, args, kwargs, out):
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
        if any(tensor in self.elements or tensor in self.computed for tensor in operands):
            self._record_uses(name, args, kwargs, before, min(first, len(self.ops) - 1))
        return False

    def _follow(
        self, name: str, func: Any, args: tuple, kwargs: Mapping[str, Any], out: object
    ) -> bool:
        """Follow elements through an operation on parameters alone; return True if it only moves them.

        Otherwise it may compute one value from each, as weight norm does: a matrix that is made so is
        taken for the parameter where it is used.
        """
        operands, results = list(tensors(args)), list(tensors(out))
        known = [tensor for tensor in operands if tensor in self.elements]
        computed = [tensor for tensor in operands if tensor in self.computed]
        if name.endswith("_") or name in LOOKUPS | RANDOM.keys() or not (known or computed):
            return False
        if known and not computed and name not in UNORDERED and len(results) == 1:
            tagged = func(*_replaced(args, self.elements, _tags), **kwargs)
            numbers = np.concatenate([self.elements[tensor].numpy().ravel() for tensor in known])
            moved = untag(next(tensors(tagged)).numpy(), numbers)
            if moved is not None:
                self.elements[results[0]] = torch.from_numpy(moved)
                self.places[results[0]] = self.place(known[0])
                return True
        if name in VIEWS and len(computed) == len(operands):
            moved = func(*_replaced(args, self.computed), **kwargs)
            for tensor, numbers in zip(results, tensors(moved), strict=True):
                self.computed[tensor] = numbers
        elif name not in UNORDERED and results:
            for tensor in (*computed, *known):
                numbers = self.computed.get(tensor, self.elements.get(tensor))
                if tensor.shape == results[0].shape and _is_unique(numbers):
                    self.computed[results[0]] = numbers
                    break
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

    def _record_view(
        self, name: str, func: Any, args: tuple, kwargs: Mapping[str, Any], out: object
    ) -> None:
        """Record a view of parameters, and follow their elements."""
        place = self.place(next(tensors(args)))
        if name in ("_to_copy", "clone", "contiguous", "lift_fresh"):
            numbers: object = self.elements[args[0]]
        else:
            numbers = func(*_replaced(args, self.elements), **kwargs)
        for tensor, elements in zip(tensors(out), tensors(numbers), strict=True):
            self.elements[tensor] = elements
            self.places[tensor] = place

    def _record_uses(
        self,
        name: str,
        args: tuple,
        kwargs: Mapping[str, Any],
        before: Mapping[int, int],
        op: int,
    ) -> None:
        def add(role: Role, elements: torch.Tensor, data: object, *axes: int) -> None:
            at = before.get(id(data)) if isinstance(data, torch.Tensor) else None
            self.uses.append(Use(role, elements.numpy(), op, at, axes))

        known = {
            at: self.elements[a]
            for at, a in enumerate(args)
            if isinstance(a, torch.Tensor) and a in self.elements
        }
        if name in MATRICES:  # a matrix may be computed from parameters
            known |= {
                at: self.computed[a]
                for at, a in enumerate(args)
                if isinstance(a, torch.Tensor) and a in self.computed
            }
        if name in PRODUCTS:
            left = PRODUCTS[name]
            if left in known:  # [out, in] × [in, columns]
                add(Role.dot, _matrix(known.pop(left)), args[left + 1], -2)
            if left + 1 in known:  # [rows, in] × [in, out]
                factor = known.pop(left + 1)
                matrix = factor[:, None] if factor.ndim == 1 else factor.transpose(-1, -2)
                add(Role.dot, _matrix(matrix), args[left], -1)
        elif name in ("convolution", "_convolution") and 1 in known:
            kernel = known.pop(1)
            if args[6]:  # transposed: a convolution with the kernel mirrored
                kernel = kernel.transpose(0, 1).flip(tuple(range(2, kernel.ndim)))
            add(Role.conv, kernel, args[0], 1)
        elif name in LOOKUPS and 0 in known:
            table = known.pop(0)
            add(Role.lookup, table.reshape(table.shape[0], -1), None)
        data = next((a for at, a in enumerate(args[:2]) if at not in known), None)
        role = (
            Role.scale
            if name in SCALES
            else Role.shift
            if name in SHIFTS or name in PRODUCTS or "convolution" in name
            else Role.other
        )
        if role is Role.shift and not isinstance(data, torch.Tensor):
            role = Role.other  # a number is added, such as a norm's epsilon
        for elements in known.values():
            add(role, _once(elements), data)
        for value in (args, tuple(kwargs.values())):  # inside lists, such as those of cat
            for tensor in tensors([a for a in value if isinstance(a, list | tuple)]):
                if tensor in self.elements:
                    add(Role.other, _once(self.elements[tensor]), None)

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


def lift(tensor: torch.Tensor, nudge: float) -> torch.Tensor:
    """Return a constant in float64; a number as it was written: 0.1, not 0.100000001."""
    if not tensor.ndim and tensor.dtype is torch.float32:
        number = np.format_float_scientific(np.float32(tensor.item()))
        return torch.tensor(float(number), dtype=torch.float64)
    return torch.from_numpy(nudged(tensor.double().numpy(), nudge))


def short_name(func: Any) -> str:
    """Return the name of an operation without its namespace and overload."""
    return func.name().rpartition("::")[2].partition(".")[0]


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


def _replaced(args: Any, elements: Any, change: Callable[..., Any] | None = None) -> Any:
    """Return the arguments with the elements' numbers, or what is made of them, in place of parameters."""
    if isinstance(args, torch.Tensor):
        if args not in elements:
            return args
        return elements[args] if change is None else change(elements[args])
    if isinstance(args, list | tuple):
        return type(args)(_replaced(a, elements, change) for a in args)
    return args


def _tags(elements: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(tags(elements.numpy()))


def _is_unique(elements: torch.Tensor) -> bool:
    return bool((elements >= 0).all()) and len(elements.unique()) == elements.numel()


def _matrix(elements: torch.Tensor) -> torch.Tensor:
    """`[…, out, in]` as `[out, in]`: once if a batch repeats it."""
    while elements.ndim > 2 and elements.stride(0) == 0:
        elements = elements[0]
    return elements.reshape(-1, elements.shape[-1]) if elements.ndim != 2 else elements


def _once(elements: torch.Tensor) -> torch.Tensor:
    """Return each element once, in order of appearance, flattened."""
    flat = elements.reshape(-1).numpy()
    _, first = np.unique(flat, return_index=True)
    return torch.from_numpy(flat[np.sort(first)])


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
