"""The optimizers, by the names of the `optimizer` config group: torch's semantics, in optax's parts.

Each is a chain that ends before the learning rate, which the training step gives: it is an argument of
the compiled step, so that a sweep over it compiles once.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from flax_impl.optimizers.adam import (
    AdamaxState,
    AdamState,
    AMSGradState,
    adam,
    adamax,
    adamw,
    amsgrad,
    nadam,
    radam,
)
from flax_impl.optimizers.descent import AdagradState, adadelta, adagrad, rmsprop, sgd
from flax_impl.optimizers.lamb import lamb
from flax_impl.optimizers.lion import lion
from flax_impl.optimizers.muon import MuonState, muon
from pipeline.config import OptimizerConfig

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "amsgrad": amsgrad,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "lion": lion,
    "lamb": lamb,
    "muon": muon,
}

# Type of a state to its slots: torch's name to the state's field. Found by type, never by place in
# the chain. A field `count`, where there is one, is the number of updates. Our own states have no
# other fields than that and slots by their names.
OWN_STATES = (AdamState, AMSGradState, AdamaxState, AdagradState, MuonState)
SLOTS: dict[type, dict[str, str]] = {
    optax.TraceState: {"momentum_buffer": "trace"},
    optax.ScaleByRmsState: {"square_avg": "nu"},
    optax.ScaleByRStdDevState: {"square_avg": "nu", "grad_avg": "mu"},
    optax.ScaleByAdaDeltaState: {"square_avg": "e_g", "acc_delta": "e_x"},
    optax.ScaleByLionState: {"exp_avg": "mu"},
    **{state: {slot: slot for slot in state._fields[1:]} for state in OWN_STATES},
}


def build_optimizer(
    config: OptimizerConfig, groups: Any = None, layouts: Any = None
) -> optax.GradientTransformation:
    """An optimizer; its updates are still to be scaled by the learning rate and subtracted.

    Args:
        config: of the `optimizer` group.
        groups: a `pipeline.groups.Group` for each leaf of the parameters; None: all are treated alike.
        layouts: of Muon, for each leaf of the parameters, a pair: the shape to fold it to, and the axes
            that then transpose it to its canonical layout; None: the leaves have that layout.
    """
    every = jax.tree.leaves(groups)
    decays = None
    if not all(group.decay for group in every):
        decays = jax.tree.map(lambda group: group.decay and not group.frozen, groups)
    decay = optax.add_decayed_weights(config.weight_decay, decays)
    parts = [OPTIMIZERS[config.name](config, decay, groups=groups, layouts=layouts)]
    if any(group.frozen for group in every):
        learns = jax.tree.map(lambda group: not group.frozen, groups)
        stays = jax.tree.map(lambda group: group.frozen, groups)
        parts = [optax.masked(*parts, learns), optax.masked(optax.set_to_zero(), stays)]
    if any(group.lr_factor != 1 for group in every):
        parts.append(scale_by_factors(groups))
    return optax.chain(*parts)


def scale_by_factors(groups: Any) -> optax.GradientTransformation:
    """Multiply updates by their groups' factors on the learning rate, decay included as in torch."""

    def scale(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        return jax.tree.map(lambda group, update: update * group.lr_factor, groups, updates)

    return optax.stateless(scale)
