"""Optimizers, by the names of the `optimizer` config group: torch's semantics, built from optax's parts.

The learning rate is an argument of the compiled step, so that a sweep over it compiles once.
"""

from collections.abc import Callable

import jax
import optax

from flax_impl.device import PyTree
from flax_impl.optimizers.adam import (
    AdamaxState,
    AdamState,
    AMSGradState,
    adam,
    adamax,
    adamw,
    amsgrad,
    lamb,
    nadam,
    radam,
)
from flax_impl.optimizers.custom import OwnState, own
from flax_impl.optimizers.descent import AdagradState, adadelta, adagrad, lion, rmsprop, sgd
from flax_impl.optimizers.muon import MuonState, muon
from pipeline.config.optimizers import OptimizerConfig, OwnOptimizerConfig

MAKERS: tuple[Callable[..., optax.GradientTransformation], ...] = (
    sgd, adam, adamw, amsgrad, rmsprop, adagrad, adadelta, adamax, nadam, radam, lion, lamb, muon, own,
)  # fmt: skip
OPTIMIZERS = {maker.__name__: maker for maker in MAKERS}

# Map from a state's type to its slots: torch's name to the state's field. States are found by type, not
# by position in the chain. A field `count` is the number of updates. Our own states have only that field
# and slots, by their names.
OWN_STATES = (AdamState, AMSGradState, AdamaxState, AdagradState, MuonState)
SLOTS: dict[type, dict[str, str]] = {
    optax.TraceState: {"momentum_buffer": "trace"},
    optax.ScaleByRmsState: {"square_avg": "nu"},
    optax.ScaleByRStdDevState: {"square_avg": "nu", "grad_avg": "mu"},
    optax.ScaleByAdaDeltaState: {"square_avg": "e_g", "acc_delta": "e_x"},
    optax.ScaleByLionState: {"exp_avg": "mu"},
    OwnState: {},
    **{state: {slot: slot for slot in state._fields[1:]} for state in OWN_STATES},
}


def build_optimizer(
    config: OptimizerConfig, groups: PyTree = None, layouts: PyTree = None
) -> optax.GradientTransformation:
    """Build an optimizer; the caller scales its updates by the learning rate and subtracts them.

    A user's own takes the learning rate itself, and the caller adds its updates: see `build_descent`.

    Args:
        config: of the `optimizer` group.
        groups: a `ParamGroup` for each leaf of the parameters; None: all alike.
        layouts: for Muon, a pair for each leaf: the transforms to the canonical layout, and back;
            None: the leaves have that layout.
    """
    every = jax.tree.leaves(groups)
    decays = None
    if not all(group.decay for group in every):
        decays = jax.tree.map(lambda group: group.decay and not group.frozen, groups)
    decay = optax.add_decayed_weights(config.weight_decay, decays)
    more = {"muon": {"groups": groups, "layouts": layouts}, "own": {"groups": groups}}
    options = more.get(config.name, {})
    parts: list[optax.GradientTransformation] = [OPTIMIZERS[config.name](config, decay, **options)]
    if any(group.frozen for group in every):
        learns = jax.tree.map(lambda group: not group.frozen, groups)
        stays = jax.tree.map(lambda group: group.frozen, groups)
        parts = [optax.masked(parts[0], learns), optax.masked(optax.set_to_zero(), stays)]
    if any(group.lr_factor != 1 for group in every):  # on the decay too, as in torch
        factors = jax.tree.map(lambda group: group.lr_factor, groups)
        parts.append(optax.stateless(lambda updates, params: optax.tree.mul(updates, factors)))
    return optax.chain(*parts)


def build_descent(
    config: OptimizerConfig, groups: PyTree = None, layouts: PyTree = None
) -> optax.GradientTransformationExtraArgs:
    """Build an optimizer whose `update` takes a `learning_rate`, and returns what to add to the weights.

    The arguments are those of `build_optimizer`. Only here: torch's optimizers have a learning rate.
    """
    optimizer = optax.with_extra_args_support(build_optimizer(config, groups, layouts))
    if isinstance(config, OwnOptimizerConfig):
        return optimizer

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: PyTree,
    ) -> tuple[optax.Updates, optax.OptState]:
        rate = extra["learning_rate"]
        updates, state = optimizer.update(updates, state, params)
        return jax.tree.map(lambda update: -rate * update, updates), state

    return optax.GradientTransformationExtraArgs(optimizer.init, update)
