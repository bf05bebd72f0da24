"""A user's own optimizer, by its import path."""

from typing import NamedTuple

import jax
import optax

from flax_impl.device import PyTree
from pipeline.config.optimizers import OwnOptimizerConfig
from pipeline.errors import UserError
from pipeline.training.own_optimizer import arguments_of, import_factory, refused


class OwnState(NamedTuple):
    """State of a user's own optimizer: what is in it has no canonical names."""

    inner: PyTree


def own(
    config: OwnOptimizerConfig, decay: optax.GradientTransformation, groups: PyTree = None
) -> optax.GradientTransformationExtraArgs:
    """Make the user's `optax.GradientTransformation` at the learning rate of each step.

    Its updates are added to the weights, as in optax: `update` takes `learning_rate`, and the caller does not
    scale by it.

    Raises:
        UserError: there is none at `optimizer.jax`, it does not take these arguments, or it cannot take a
            step on the parameters.
    """
    del decay  # the user's own decays the weights itself
    factory = import_factory(config, "jax")
    decays = [group.decay or group.frozen for group in jax.tree.leaves(groups)]
    mask = None if all(decays) else jax.tree.map(lambda group: group.decay, groups)
    arguments = arguments_of(factory, config, "jax", mask)

    def make(learning_rate: jax.typing.ArrayLike) -> optax.GradientTransformation:
        return factory(learning_rate=learning_rate, **arguments)

    def init(params: optax.Params) -> OwnState:
        state = OwnState(first.init(params))
        rate = jax.ShapeDtypeStruct((), jax.tree.leaves(params)[0].dtype)
        try:
            after = jax.eval_shape(update, params, state, params, learning_rate=rate)
        except Exception as error:  # a user's code may raise anything
            raise refused(config, "jax", "take a step", error) from error
        _check_kept(config, "updates differ from the weights", params, after[0])
        _check_kept(config, "state changes in a step", state, after[1])
        return state

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: PyTree,
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, OwnState)
        updates, inner = make(extra["learning_rate"]).update(updates, state.inner, params)
        return updates, OwnState(inner)

    try:
        first = make(config.lr)
    except Exception as error:  # a user's code may raise anything
        call = {"learning_rate": config.lr, **arguments}
        raise refused(config, "jax", "be made", error, call) from error
    if not isinstance(first, optax.GradientTransformation):
        problem = f"it makes a {type(first).__name__}, which is no optax.GradientTransformation"
        raise UserError("optimizer.jax", config.jax, problem=problem)
    return optax.GradientTransformationExtraArgs(init, update)


def _check_kept(config: OwnOptimizerConfig, problem: str, before: PyTree, after: PyTree) -> None:
    """Refuse a tree whose structure, shapes or dtypes are not those of another: a step is compiled once."""
    old, new = _shapes(jax.eval_shape(lambda: before)), _shapes(after)
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            problem = f"its {problem}: {name} from {old.get(name)} to {new.get(name)}"
            raise UserError("optimizer.jax", config.jax, problem=problem)


def _shapes(tree: PyTree) -> dict[str, str]:
    """Dtypes and shapes of a tree's arrays, by their paths."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
