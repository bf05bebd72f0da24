"""Blocks of a module of another library, whose activations are computed again for the gradient."""

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

from flax_impl.adapters.calls import IS_TRACED_FIRST
from flax_impl.adapters.scopes import Around
from flax_impl.device import PyTree

BLOCK = re.compile(r".+\.\d+")  # path of a member of a list of modules

_IS_ACTIVE: ContextVar[bool] = ContextVar("recomputes", default=False)


@contextmanager
def recomputing() -> Generator[None]:
    """While active, blocks of adapted models keep only their inputs for the gradient."""
    token = _IS_ACTIVE.set(True)
    try:
        yield
    finally:
        _IS_ACTIVE.reset(token)


class Recomputed:
    """Calls of a model's blocks: each as a function of its arrays and its inputs, for `jax.checkpoint`.

    `take_apart` returns a module's arrays and what makes it of others. `modules_of` yields those inside, with
    their paths. `read` and `write` get and set the arrays that a call may change, if the library allows it.
    """

    def __init__(
        self,
        take_apart: Callable[[Any], tuple[PyTree, Callable[[PyTree], Any]]],
        modules_of: Callable[[Any], Iterable[tuple[str, Any]]],
        read: Callable[[Any], PyTree] = lambda module: (),
        write: Callable[[Any, PyTree], None] = lambda module, arrays: None,
    ) -> None:
        self.take_apart, self.modules_of, self.read, self.write = (
            take_apart,
            modules_of,
            read,
            write,
        )
        self.paths: dict[int, str] = {}  # those of `scopes.named`
        self._made: list[Any] = []  # keeps modules that `paths` knows by their identity

    def around(self, around: Around) -> Around:
        """Return what makes the calls of a model's layers: `around`, for a block within a checkpoint."""

        def make_call(path: str, layer: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
            if not _IS_ACTIVE.get() or IS_TRACED_FIRST.get() or not BLOCK.fullmatch(path):
                return around(path, layer, call, args, kwargs)
            own, make = self.take_apart(layer)
            leaves, structure = jax.tree.flatten((args, kwargs))
            inputs = {place: x for place, x in enumerate(leaves) if isinstance(x, jax.Array)}

            def body(own: PyTree, inputs: dict[int, jax.Array]) -> tuple[PyTree, PyTree]:
                block = make(own)
                self._made.append(block)
                for name, module in self.modules_of(block):
                    self.paths[id(module)] = f"{path}.{name}" if name else path
                given = [inputs.get(place, leaf) for place, leaf in enumerate(leaves)]
                args, kwargs = jax.tree.unflatten(structure, given)
                outputs = around(path, block, call, args, kwargs)
                return outputs, self.read(block)

            token = IS_TRACED_FIRST.set(True)
            try:
                outputs, changed = jax.checkpoint(body)(own, inputs)
            finally:
                IS_TRACED_FIRST.reset(token)
            self.write(layer, changed)
            return outputs

        return make_call
