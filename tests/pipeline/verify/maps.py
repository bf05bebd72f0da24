"""Maps of elements between arrays of given shapes."""

import numpy as np

from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.trace.graph import Array


def described(shapes):
    return tuple(Array(name, tuple(shape), "float64") for name, shape in shapes.items())


def mapping_of(left, made):
    """The map from arrays of these shapes to those that `made` makes of their numbered elements."""
    ours = described(left)
    numbered = Mapping(ours, ())
    elements = {a.name: numbered.left.elements(index) for index, a in enumerate(ours)}
    theirs = {name: np.asarray(array) for name, array in made(elements).items()}
    mapping = Mapping(ours, described({name: array.shape for name, array in theirs.items()}))
    mapping.source = np.concatenate([array.ravel() for array in theirs.values()]).astype(np.int64)
    return mapping
