"""Adapter of Equinox modules, imported only for such a module: Equinox is no dependency."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import source_info_util

from flax_impl.adapters.scopes import named
from flax_impl.adapters.tree import Tree, path_name
from flax_impl.device import PyTree
from flax_impl.verify.adapters.function import KEYS, Function, bind, training_keywords
from pipeline.errors import UserError
from pipeline.verify.sides.channels import FIRST

# Pairs of statistics that a batch norm keeps, by the ends of their paths.
STATISTICS = {
    "ema_state_index.0": "running_mean", "ema_state_index.1": "running_var",
    "batch_state_index.0": "running_mean", "batch_state_index.1": "running_var",
}  # fmt: skip
AXIS = "batch"  # name of the axis over which modules are vmapped, unless they have another


def matches(made: object) -> bool:
    """Return True for an Equinox module, and for a pair of one and its state."""
    return _is(made, "Module") or _is_pair(made)


def layout(made: object) -> str:
    """Return the layout in which it takes images, most likely."""
    del made
    return FIRST


def adapt(made: Any, inputs: Mapping[str, PyTree], keywords: Mapping[str, object]) -> Function:
    """Return an Equinox module as a pure function; all its arrays of floats are parameters.

    It is called on one sample at a time, vmapped over the batch, if it accepts one; else on the batch.
    """
    import equinox as eqx

    source_info_util.register_exclusion(eqx.__path__[0])  # its frames are not the user's code
    module, own = made if _is_pair(made) else _with_state(made)
    params = Tree.of(module, "params", eqx.is_array)
    state = _named_state(module, own)
    names = inspect.signature(module.__call__).parameters
    has_state = bool(state.places) or _is_pair(made)

    def call(model: Any, key: jax.Array, before: Any, inputs: PyTree, training: bool) -> PyTree:
        args, kwargs = bind(model.__call__, inputs)
        kwargs |= training_keywords(model.__call__, training, keywords)
        kwargs |= {name: key for name in KEYS if name in names and name not in keywords}
        if has_state and "state" in names:
            kwargs["state"] = before
        elif has_state:
            args = (*args, before)
        output = model(*args, **kwargs, **keywords)
        return output if has_state else (output, before)

    def run(vmapped: bool, arrays: PyTree, inputs: PyTree, training: bool) -> PyTree:
        model = eqx.nn.inference_mode(params.filled(arrays), value=not training)
        before, key = state.filled(arrays), jax.random.key(0)
        with named(dict(_modules(model))):
            if not vmapped:
                return call(model, key, before, inputs, training)
            every = list(inputs.values())
            batch = len(every[0])
            return jax.vmap(
                lambda key, *each: call(
                    model, key, before, dict(zip(inputs, each, strict=True)), training
                ),
                in_axes=(0, *(0 if x.ndim and len(x) == batch else None for x in every)),
                out_axes=(0, None),
                axis_name=_axis(model),
            )(jax.random.split(key, batch), *every)

    arrays = {name: jnp.asarray(array) for name, array in (params.arrays | state.arrays).items()}
    vmapped = _is_vmapped(run, arrays, inputs)

    def apply(arrays: PyTree, inputs: PyTree, training: bool) -> tuple[PyTree, PyTree]:
        output, after = run(vmapped, arrays, inputs, training)
        return output, state.read(after)

    trained = [n for n in params.places if jnp.issubdtype(arrays[n].dtype, jnp.floating)]
    note = "one sample at a time, vmapped" if vmapped else "the whole batch"
    return Function("equinox.Module", arrays, frozenset(trained), apply, (f"is called on {note}",))


def _is(made: object, name: str) -> bool:
    """Tell an object's class by name: Equinox is not imported to find out."""
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == "equinox"
        for base in type(made).__mro__
    )


def _is_pair(made: object) -> bool:
    if not isinstance(made, tuple) or len(made) != 2:
        return False
    return _is(made[0], "Module") and _is(made[1], "State")


def _with_state(made: Any) -> tuple[Any, Any]:
    """Return a module without its initial state, and that state."""
    import equinox as eqx

    try:
        return eqx.nn.delete_init_state(made), eqx.nn.State(made)
    except ValueError:
        hint = "Give the pair (model, state) that equinox.nn.make_with_state returns."
        name = type(made).__name__
        raise UserError("model", name, problem="its state is missing", hint=hint) from None


def _named_state(model: Any, state: Any) -> Tree:
    """Take a state apart; its arrays are named by the layers that keep them."""
    names: dict[int, str] = {}  # by the identity of an array
    layers = jax.tree_util.tree_flatten_with_path(model, is_leaf=lambda x: _is(x, "StateIndex"))[0]
    for path, index in layers:
        if _is(index, "StateIndex"):
            for rest, array in jax.tree_util.tree_flatten_with_path(state.get(index))[0]:
                name = path_name((*path, *rest))
                for end, meaning in STATISTICS.items():
                    name = name.replace(end, meaning)
                names[id(array)] = name
    leaves, structure = jax.tree.flatten(state)
    places: dict[str, int] = {}
    for place, leaf in enumerate(leaves):
        name = names.get(id(leaf), "state")
        places[name if name not in places else f"state.{place}"] = place
        # Variances that no batch has filled yet are zero in the mode "ema".
        if name.endswith("running_var") and not leaf.any():
            leaves[place] = jnp.ones_like(leaf)
    return Tree(structure, leaves, places)


def _modules(model: Any, path: tuple = ()) -> Iterator[tuple[str, Any]]:
    """Yield a module and those within it that can be called, by their dotted paths."""
    if callable(model):
        yield path_name(path) if path else "", model
    children = jax.tree_util.tree_flatten_with_path(
        model, is_leaf=lambda leaf: leaf is not model and _is(leaf, "Module")
    )[0]
    for rest, child in children:
        if child is not model and _is(child, "Module"):
            yield from _modules(child, (*path, *rest))


def _axis(model: Any) -> str:
    found = (getattr(module, "axis_name", None) for _, module in _modules(model))
    return next((name for name in found if isinstance(name, str)), AXIS)


def _is_vmapped(run: Callable, arrays: PyTree, inputs: PyTree) -> bool:
    """True if a module accepts a single sample, or refuses the batch as well."""
    for vmapped in (True, False):
        try:
            jax.eval_shape(lambda arrays: run(vmapped, arrays, inputs, False), arrays)  # noqa: B023
        except Exception:  # of the user's model: of any kind
            continue
        return vmapped
    return True
