"""Blocks of a model: what is computed, or gathered, again for the gradient instead of kept."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax.extend.core import Primitive

from flax_impl.adapters.adapted import Adapted, flat_arrays
from flax_impl.adapters.recompute import BLOCK, recomputing
from flax_impl.device import Device, PyTree
from flax_impl.sharding import shardings
from pipeline.errors import UserError


class _Blocks:
    """Calls of a model's blocks, the modules that run one after the other.

    With `remat` each keeps only its inputs for the gradient. With `gather` it gathers its sharded parameters
    by itself, again for the gradient, and keeps the results of its products.
    """

    def __init__(self, model: nn.Module, device: Device, gather: bool, remat: bool) -> None:
        self.is_linen = not isinstance(
            model, Adapted
        )  # modules of other libraries have none inside
        self.device, self.gather = device, gather and device.sharded and self.is_linen
        self.remat, self._is_inside = remat, False
        self._before: list[jax.Array] = []  # the input of the last block

    def gather_others(self, params: PyTree) -> PyTree:
        """Gather parameters, on every device, except those that blocks gather."""
        self._before = []
        late = {name for name in params if self.gather and BLOCK.fullmatch(name)}
        everywhere = self.device.everywhere
        return {
            name: tree if name in late else jax.lax.with_sharding_constraint(tree, everywhere)
            for name, tree in params.items()
        }

    def active(self) -> AbstractContextManager:
        """While active, calls of blocks are wrapped."""
        if self.is_linen:
            return nn.intercept_methods(self.intercept)
        return recomputing() if self.remat else nullcontext()

    def intercept(
        self, call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
    ) -> object:
        """Call a method of a module, for `nn.intercept_methods`."""
        module = context.module
        is_block = len(module.path) == 1 and BLOCK.fullmatch(module.path[0])
        is_called = context.method_name == "__call__" and not self._is_inside
        if not ((self.gather or self.remat) and is_block and is_called):
            return call(*args, **kwargs)
        leaves, structure = jax.tree.flatten((args, kwargs))
        arrays = {place: x for place, x in enumerate(leaves) if isinstance(x, jax.Array)}

        def body(module: nn.Module, arrays: dict[int, jax.Array]) -> PyTree:
            own = [arrays.get(place, leaf) for place, leaf in enumerate(leaves)]
            args, kwargs = jax.tree.unflatten(structure, own)
            return module(*args, **kwargs)

        def gathering(module: nn.Module, arrays: dict[int, jax.Array], before: PyTree) -> PyTree:
            if not self.gather:
                return body(module, arrays)
            gather = partial(self._gathered, before=before)
            target: Any = nn.map_variables(body, "params", trans_in_fn=gather)
            return target(module, arrays)

        policy = None if self.remat else _is_product
        before, self._before = self._before, [*arrays.values()][:1]
        self._is_inside = True
        try:
            return nn.remat(gathering, policy=policy)(module, arrays, before)
        finally:
            self._is_inside = False

    def _gathered(self, variables: PyTree, before: PyTree) -> PyTree:
        """Gather a block's parameters when `before` is known: the input of the block before it."""
        own, _ = jax.lax.optimization_barrier((variables, before))
        # Without this the compiler would gather before the barrier, and keep it for the gradient.
        own = jax.lax.with_sharding_constraint(own, shardings(variables, self.device))
        return jax.lax.with_sharding_constraint(own, self.device.everywhere)


def wrap_blocks(
    model: nn.Module, names: Mapping[str, PyTree], device: Device, gather: bool, remat: bool
) -> _Blocks:
    """Wrap the calls of a model's blocks while the result is active; `names` are those of its parameters.

    Raises:
        UserError: the model has no blocks to rematerialise.
    """
    blocks = _Blocks(model, device, gather, remat)
    if remat and not any(map(BLOCK.fullmatch, _paths(names, blocks.is_linen))):
        allowed = "false for this model: it has no modules with names like blocks.0"
        hint = "Leave it out, or rematerialise inside your own model (nnx.remat, jax.checkpoint)."
        raise UserError("train.remat", "true", allowed, hint)
    return blocks


def _paths(names: Mapping[str, PyTree], is_linen: bool) -> Iterable[str]:
    """Yield the paths of the modules whose calls may be those of blocks."""
    if is_linen:
        yield from names
        return
    for path in flat_arrays(names):
        yield from (".".join(path[:depth]) for depth in range(2, len(path)))


def _is_product(primitive: Primitive, *shapes: object, **options: Any) -> bool:
    """Return whether the results of a primitive are kept: products with weights, and convolutions."""
    if primitive.name == "dot_general":
        _, (batched, _) = options["dimension_numbers"]
        return not batched
    return primitive.name == "conv_general_dilated"
