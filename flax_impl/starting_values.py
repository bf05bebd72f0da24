"""Values at step 0: a model's own, those of its twin, or those of a file."""

from functools import partial

import flax.linen as nn
import numpy as np
from flax.traverse_util import unflatten_dict

from flax_impl.layers import Layout
from flax_impl.layout import initial_variables
from flax_impl.state import initial_state, shapes_of, to_canonical
from flax_impl.tasks import Inputs
from pipeline.config.models import Initializer
from pipeline.run.experiment import Experiment
from pipeline.run.start.initial_values import fill
from pipeline.storage.portable_state import Arrays, PortableState, Shapes
from pipeline.storage.weights_file import prefixes


def starting_values(
    experiment: Experiment,
    model: nn.Module,
    inputs: Inputs,
    layout: Layout,
    is_fresh: bool,
) -> PortableState:
    """Return the values at step 0; zeros if a checkpoint takes the place of a model's own."""
    config, watches = experiment.config, experiment.recorder.observer.watching
    make = partial(initial_variables, model, inputs, config.seed)
    own = partial(initial_state, layout, config, make)
    if config.model.init is not Initializer.own or (is_fresh and experiment.initial is None):
        return own()
    known = shapes_of(layout)
    parameters, buffers = (
        {
            piece.name: piece.shape
            for place in layout.values()
            if place.collection == collection
            for piece in place.pieces
            if piece.name in known
        }
        for collection in ("params", "batch_stats")
    )
    if is_fresh and experiment.initial is not None:
        return fill(experiment.initial, parameters, buffers, own, config, watches)
    return PortableState(0, _zeros(parameters), _zeros(buffers))


def _zeros(shapes: Shapes) -> Arrays:
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def canonical_weights(weights: Arrays, layout: Layout) -> Arrays:
    """Return the arrays of a file that has the names and layouts of a Flax model by canonical names."""
    paths = {".".join(path): path for path in layout}
    ours, theirs = prefixes([*paths], weights)
    named = {ours + name.removeprefix(theirs): array for name, array in weights.items()}
    known = {paths[name]: array for name, array in named.items() if name in paths}
    fitting = {path: a for path, a in known.items() if a.shape == layout[path].shape}
    absent = {p.name for path in layout if path not in fitting for p in layout[path].pieces}
    rest = {name: a for name, a in named.items() if paths.get(name) not in fitting}
    found = to_canonical(unflatten_dict(fitting), layout)
    return rest | {name: array for name, array in found.items() if name not in absent}
