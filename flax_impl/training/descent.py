"""The optimizer of a run, made for the layout of its model."""

import optax

from flax_impl.device import PyTree
from flax_impl.layers import Layout, layer_kinds
from flax_impl.layout import check_groups
from flax_impl.optimizers import build_descent
from flax_impl.state import by_path
from pipeline.config.experiment import Config
from pipeline.training.param_groups import param_groups


def make_descent(
    layout: Layout, config: Config
) -> tuple[PyTree, optax.GradientTransformationExtraArgs]:
    """Return the `ParamGroup` of each parameter, in a tree shaped like the parameters, and the optimizer."""
    parameters = [place for place in layout.values() if place.collection == "params"]
    shapes = {piece.name: piece.shape for place in parameters for piece in place.pieces}
    transforms = {place.name: place.transforms for place in parameters}
    groups = param_groups(shapes, layer_kinds(layout), config)
    check_groups(layout, groups, config)
    chosen = by_path(groups, layout)
    return chosen, build_descent(config.optimizer, chosen, layouts=by_path(transforms, layout))
