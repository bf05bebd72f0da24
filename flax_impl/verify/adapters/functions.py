"""Adapter of plain JAX functions: a pair `(init, apply)`, such as those of Haiku and stax."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flax_impl.adapters.keywords import KEYS, TRAINING
from flax_impl.adapters.tree import Tree, is_jax_or_numpy
from flax_impl.device import PyTree
from flax_impl.verify.adapters.function import Function
from pipeline.verify.sides.channels import LAST

# Names under which `apply` takes what `init` returns besides the parameters, and returns it anew.
STATES = ("state", "states", "model_state", "net_state", "batch_stats", "buffers")
EMPTY, REST, NAMED_REST = (
    inspect.Parameter.empty,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
)


def matches(made: object) -> bool:
    """Return True for two functions: a pair, or the attributes `init` and `apply` of an object."""
    pair = _pair(made)
    return len(pair) == 2 and all(callable(function) for function in pair)


def layout(made: object) -> str:
    """Return the layout in which it takes images, most likely."""
    del made
    return LAST


def adapt(made: Any, inputs: Mapping[str, PyTree], keywords: Mapping[str, object]) -> Function:
    """Return a pair of functions as one; all floats of the parameters that `init` returns are trained.

    `init` takes a key, and the inputs or their shapes if it asks for more; `apply` the parameters, the
    state if it asks for one, and the inputs. Both get a key and a flag for training by the arguments'
    names. With a state, `init` returns parameters and state, `apply` output and state.
    """
    init, apply_ = _pair(made)
    is_stateful = any(name in STATES for name in inspect.signature(apply_).parameters)
    made = _initialised(init, inputs, keywords)
    params = Tree.of(made[0] if is_stateful else made, "params", _is_parameter)
    state = Tree.of(made[1] if is_stateful else (), "state", others=params.places)
    arrays = {name: jnp.asarray(leaf) for name, leaf in (params.arrays | state.arrays).items()}
    by_keyword: dict[str, object] = {}

    def apply(arrays: PyTree, inputs: PyTree, training: bool) -> tuple[PyTree, PyTree]:
        first = (params.filled(arrays), state.filled(arrays))
        args, named = _arguments(apply_, first, inputs, keywords, training)
        output = apply_(*args, **named, **by_keyword)
        return (output[0], state.read(output[1])) if is_stateful else (output, {})

    kinds = {parameter.kind for parameter in inspect.signature(apply_).parameters.values()}
    if NAMED_REST in kinds:  # as in stax, where dropout asks for a key
        by_keyword["rng"] = jax.random.key(0)
        try:
            jax.eval_shape(lambda arrays: apply(arrays, inputs, False), arrays)
        except Exception:  # of the user's function: of any kind
            by_keyword.clear()
    trained = [n for n in params.places if jnp.issubdtype(arrays[n].dtype, jnp.floating)]
    return Function("(init, apply)", arrays, frozenset(trained), apply)


def _pair(made: Any) -> tuple[Any, ...]:
    if isinstance(made, tuple | list) and not hasattr(made, "apply"):
        return tuple(made)
    return tuple(getattr(made, name) for name in ("init", "apply") if hasattr(made, name))


def _is_parameter(leaf: object) -> bool:
    return is_jax_or_numpy(leaf) or isinstance(leaf, float)


def _initialised(
    init: Callable, inputs: Mapping[str, PyTree], keywords: Mapping[str, object]
) -> PyTree:
    """Return what `init` returns; of a pair of a shape and parameters, as in stax, the parameters."""
    parameters = inspect.signature(init).parameters
    known = {name: value for name, value in keywords.items() if name in parameters}
    first = (jax.random.key(0),) if parameters else ()
    args, named = _arguments(init, first, inputs, known, training=True)
    made = init(*args, **named)
    has_shape = any("shape" in name for name in parameters)
    if not has_shape or not isinstance(made, tuple) or len(made) != 2:
        return made
    return made[1] if all(isinstance(n, int) for n in jax.tree.leaves(made[0])) else made


def _arguments(
    function: Callable,
    first: tuple[PyTree, ...],
    inputs: Mapping[str, PyTree],
    keywords: Mapping[str, object],
    training: bool,
) -> tuple[list[PyTree], dict[str, PyTree]]:
    """Return the arguments of a function, by what its signature calls them.

    `first` has its first argument, and perhaps the state. Inputs go by their names, or in order.
    """
    parameters = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    in_order = not all(name in names for name in inputs)
    left, keywords = dict(inputs), dict(keywords)
    args, named = list(first[:1]), {}
    for parameter in parameters[1:]:
        name = parameter.name
        if parameter.kind is REST:
            args += left.values()
            left = {}
            continue
        if name in keywords:
            value = keywords.pop(name)
        elif name in STATES and len(first) > 1:
            value = first[1]
        elif name in KEYS:
            value = jax.random.key(0)
        elif name in TRAINING:
            value = TRAINING[name] == training
        elif "shape" in name:
            shapes = [tuple(array.shape) for array in inputs.values()]
            value = shapes[0] if len(shapes) == 1 else tuple(shapes)
        elif name in left:
            value = left.pop(name)
        elif left and in_order and parameter.default is EMPTY and parameter.kind is not NAMED_REST:
            value = left.pop(next(iter(left)))
        else:
            continue
        # By name, too, after one that keeps its default.
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or len(args) < names.index(name):
            named[name] = value
        else:
            args.append(value)
    return args, named | keywords
