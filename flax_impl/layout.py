"""Layout of a model: the canonical name and layout of each of its arrays."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from flax_impl.adapters.adapted import Adapted
from flax_impl.adapters.keywords import training_keywords
from flax_impl.device import PyTree
from flax_impl.layers import KINDS, Kind, Layout, Leaf, Place
from pipeline.config.experiment import Config
from pipeline.config.optimizers import LambConfig
from pipeline.errors import UserError
from pipeline.rng import key_words
from pipeline.storage.portable_state import COUNTER, STATISTICS
from pipeline.training.param_groups import ParamGroup
from pipeline.verify.names.names_file import NamesFile
from pipeline.verify.names.notation import Reshape, Transform, Transpose
from pipeline.verify.names.pieces import Piece, pieces_of


def layout_of(
    model: nn.Module,
    *inputs: jax.ShapeDtypeStruct,
    names: NamesFile | None = None,
    within: AbstractContextManager | None = None,
) -> Layout:
    """Map every parameter and running statistic of a model to its canonical name and layout.

    An array of a module that is not in `KINDS` keeps its name and layout, unless `names` gives it others.
    Only here: canonical names and layouts are torch's own. `inputs` have the shapes and dtypes of a batch;
    the model is called with them `within` a context.

    Raises:
        UserError: the names do not fit the model.
    """
    kinds: dict[tuple[str, ...], Kind] = {}

    def note(
        call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
    ) -> object:
        if type(context.module) in KINDS:
            kinds.setdefault(context.module.path, KINDS[type(context.module)])
        return call(*args, **kwargs)

    def piece(path: tuple[str, ...], shape: tuple[int, ...]) -> Piece:
        # By the innermost layer of a known kind around the array.
        for depth in range(len(path) - 1, -1, -1):
            kind, leaves = kinds.get(path[:depth], ("", {}))
            if leaf := leaves.get(".".join(path[depth:])):
                return leaf.piece(path[:depth], kind, path, shape)
        return Leaf(path[-1]).piece(path[:-1], "own", path, shape)

    with within or nullcontext(), nn.intercept_methods(note):
        init = lambda *inputs: _initialiser(model)(jax.random.key(0), *inputs)  # noqa: E731
        # With the key in it, since a key outside compiles two programs.
        variables = _in_its_types(partial(jax.eval_shape, init), inputs)
    if isinstance(model, Adapted):
        kinds |= model.kinds()
    _refuse_complex(variables)
    layout = {
        path: Place(collection, array.shape, (piece(path, array.shape),))  # pyrefly: ignore[missing-attribute] no empty nodes
        for collection in ("params", "batch_stats")
        for path, array in flatten_dict(variables.get(collection, {})).items()
    }
    return _renamed(layout, names) if names else layout


def _refuse_complex(variables: PyTree) -> None:
    for path, array in flatten_dict(variables).items():
        if jnp.iscomplexobj(array):
            problem = f"{'.'.join(path[1:])} holds complex numbers, which no optimizer here takes"
            hint = "Hold the real and the imaginary part as two arrays."
            raise UserError("model", "own", problem=problem, hint=hint)


def initial_variables(
    model: nn.Module, inputs: Sequence[jax.ShapeDtypeStruct], seed: int
) -> PyTree:
    """Return the variables that a model makes itself, from the seed.

    Only here: a torch model is made with them.
    """
    key = jax.random.key(key_words(seed, "weights")[0])

    def make(*inputs: jax.ShapeDtypeStruct) -> PyTree:
        # The code of an adapted module may need concrete values.
        init = _initialiser(model)
        init = init if isinstance(model, Adapted) else jax.jit(init)
        return init(key, *(jnp.zeros(x.shape, x.dtype) for x in inputs))

    return nn.meta.unbox(_in_its_types(make, inputs))


def _initialiser(model: nn.Module) -> Callable[..., PyTree]:
    """Return `model.init`, as of a model that does not train, if that is to be told."""
    return partial(model.init, **training_keywords(type(model).__call__, False))


def _in_its_types(make: Callable[..., PyTree], inputs: Sequence[jax.ShapeDtypeStruct]) -> PyTree:
    """Return `make(*inputs)`; in float32 if a model's own float32, as the carry of a scan, needs that."""
    try:
        return make(*inputs)
    except TypeError:
        if all(x.dtype != jnp.float64 for x in inputs):
            raise
        return make(*map(_in_float32, inputs))


def _in_float32(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, jnp.float32 if x.dtype == jnp.float64 else x.dtype)


def _renamed(layout: Layout, names: NamesFile) -> Layout:
    """Return the layout with the pieces that a names file gives; other arrays keep their own."""
    pieces = pieces_of(names, {".".join(path): place.shape for path, place in layout.items()})
    renamed = {}
    for path, place in layout.items():
        # A layer whose kind the file does not tell has that of Flax.
        found = pieces.get(".".join(path), place.pieces)
        known = tuple(replace(piece, kind=piece.kind or place.pieces[0].kind) for piece in found)
        renamed[path] = replace(place, pieces=known)
    for path, place in renamed.items():
        statistic = renamed.get((*path[:-1], STATISTICS[0]))
        if statistic and place.name.endswith(COUNTER):  # no row names it: it follows from the step
            name = statistic.name.removesuffix(STATISTICS[0]) + COUNTER
            renamed[path] = replace(place, pieces=(replace(place.pieces[0], name=name),))
    taken = {piece.name for found in pieces.values() for piece in found}
    for path, place in layout.items():
        if ".".join(path) not in pieces and place.name in taken:
            problem = f"{place.name} is the name of {'.'.join(path)} already, which has no row"
            raise UserError(names.key, names.path, problem=problem, hint="Add a row for it.")
    return renamed


def check_groups(layout: Layout, groups: Mapping[str, ParamGroup], config: Config) -> None:
    """Refuse settings of the optimizer that a Flax array cannot have, if a names file divides or joins it.

    Only here: torch's parameters are the canonical ones.
    """
    by_norm = isinstance(config.optimizer, LambConfig)
    for path, place in layout.items():
        if place.collection != "params":
            continue
        names = list(dict.fromkeys(piece.name for piece in place.pieces))
        group, here = groups[names[0]], f"{'.'.join(path)} of the JAX model"
        for name in names[1:]:
            if groups[name] != group:
                problem = f"{names[0]} and {name} have different settings, but both are in {here}"
                hint = "Give them the same in train.frozen, optimizer.no_decay and optimizer.lr_factors."
                raise UserError("optimizer", config.optimizer.name, problem=problem, hint=hint)
        if (by_norm or group.matrix) and not group.frozen and not place.is_part(group.parts):
            problem = f"it updates {names[0]} as a whole, which {here} is not"
            hint = "Choose an optimizer that updates element by element, such as adamw."
            raise UserError("optimizer", config.optimizer.name, problem=problem, hint=hint)


def module_names(layout: Layout) -> dict[str, str]:
    """Map the Flax modules that are a canonical layer by themselves to its name.

    Their inputs and outputs have the order of features that torch's have. Only here: torch's modules have
    the canonical names.
    """
    layers: dict[str, set[str]] = {}
    modules: dict[str, set[str]] = {}
    for path, place in layout.items():
        module = ".".join(path[:-1])
        for piece in place.pieces:
            layer = piece.name.rpartition(".")[0]
            is_plain = piece.block.is_whole and piece.own.is_whole
            is_plain = is_plain and _keeps_features(piece.to_canonical, place.shape)
            layers.setdefault(module, set()).add(layer if is_plain else "")
            modules.setdefault(layer, set()).add(module)
    return {
        module: layer
        for module, found in layers.items()
        for layer in found - {""}
        if len(found) == len(modules[layer]) == 1
    }


def _keeps_features(transform: Transform, shape: tuple[int, ...]) -> bool:
    """Tell whether a transform of an array leaves the entries along each of its axes in their order."""
    for step in transform.steps:
        after = Transform((step,)).shape_after(shape)
        sizes = [[size for size in each if size > 1] for each in (shape, after)]
        if not isinstance(step, Transpose) and not (
            isinstance(step, Reshape) and sizes[0] == sizes[1]
        ):
            return False
        shape = after
    return True
