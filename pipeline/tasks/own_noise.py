"""Random numbers of a user's own task: `task.noise`."""

from collections.abc import Callable, Mapping

import numpy as np

from pipeline.errors import UserError
from pipeline.tasks.task import Shapes
from pipeline.user_code import import_attribute, shortened

KEY = "task.noise"
RESERVED = ("augment", "counted")  # names of other entries of a batch

Draw = Callable[[np.random.Generator, Shapes], np.ndarray]


class OwnNoise:
    """A field of random numbers, drawn for each batch: normal or uniform ones, or what a function returns.

    Normal and uniform ones have the shape of the field `like`, the model's first input.
    """

    def __init__(self, name: str, path: str) -> None:
        self.name, self.path = name, path
        if name in RESERVED:
            allowed = f"a name other than {', '.join(RESERVED)}"
            raise UserError(KEY, name, allowed)
        if path not in SHAPED and ":" not in path:
            allowed = f"{', '.join(SHAPED)}, or your function as package.module:function"
            raise UserError(f"{KEY}.{name}", path, allowed)
        self.function: Draw | None = None
        if path not in SHAPED:
            self.function = import_attribute(path, f"{KEY}.{name}")

    def draw(self, random: np.random.Generator, shapes: Shapes, like: str) -> np.ndarray:
        """Draw the field for a batch whose other fields have these shapes."""
        if self.function is None:
            return SHAPED[self.path](random, shapes[like])
        called = "It is called with a NumPy generator and the shapes of the batch's fields."
        try:
            found = np.asarray(self.function(random, dict(shapes)))
        except Exception as error:  # a user's code may raise anything
            problem = f"it fails: {shortened(error)}"
            raise UserError(
                f"{KEY}.{self.name}", self.path, problem=problem, hint=called
            ) from error
        samples = shapes[like][0]
        if found.dtype.kind not in "fiub" or found.shape[:1] != (samples,):
            problem = f"it returns an array {list(found.shape)} of {found.dtype}"
            hint = f"Return numbers with a row for each sample, [{samples}, …] for this batch."
            raise UserError(f"{KEY}.{self.name}", self.path, problem=problem, hint=hint)
        return found


def _normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def _uniform(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.random(shape, np.float32)


SHAPED: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": _normal,
    "uniform": _uniform,
}
