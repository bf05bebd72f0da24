"""A user's own task."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from pipeline.config.checks.suggestions import nearest
from pipeline.config.tasks import OwnTaskConfig
from pipeline.errors import UserError
from pipeline.tasks.own_noise import OwnNoise
from pipeline.tasks.task import Shapes, Task
from pipeline.user_code import import_attribute, shortened

Loss = Callable[..., Any]  # of (outputs, batch, **options)
AnyArray = TypeVar("AnyArray")  # of a framework


class OwnTask(Task):
    """A loss for each sample, and metrics that are means over the samples, or functions of such means.

    With `task.whole_batch` the loss of a sample may depend on the others of the batch; in an evaluation on
    those of a group of `task.group` consecutive samples of the set.
    """

    name = "own"
    needs = ()
    has_predictions = True
    monitor = "loss"

    def __init__(self, config: OwnTaskConfig | None = None) -> None:
        super().__init__(config)
        self.config = config = config or OwnTaskConfig()
        self.targets = tuple(config.targets)
        self.sums = ("loss", *config.metrics)
        self.maximized = frozenset(config.maximized)
        self.whole_batch = config.whole_batch
        self.group = config.group if config.whole_batch else 1
        self.views = dict(config.views)
        self.noise = tuple(config.noise)
        self.draws = {name: OwnNoise(name, path) for name, path in config.noise.items()}
        self.summary: Callable[[dict[str, float]], Mapping[str, float]] | None = None
        if config.summary is not None:
            self.summary = import_attribute(config.summary, "task.summary")

    def check(self, shapes: Shapes) -> None:
        """Refuse a target that the data set has not, noise that it has, and noise as the first input."""
        super().check(shapes)
        for key, names in (("task.noise", self.noise), ("task.views", self.views)):
            for name in names:
                if name in shapes:
                    problem = "the data set has a field of this name"
                    raise UserError(key, name, problem=problem)
        for name, image in self.views.items():
            if len(shapes.get(image, ())) != 4:
                given = ", ".join(f"{n} {list(shape[1:])}" for n, shape in shapes.items())
                problem = f"the data set has no such images, only {given}"
                raise UserError("task.views", f"{{{name}:{image}}}", problem=problem)
        if self.takes and self.takes[0] in self.noise:
            allowed = "a field of the data set in the first place, and noise behind it"
            raise UserError("task.inputs", self.takes[0], allowed)
        for name in self.targets:
            if name not in shapes:
                close = nearest(name, shapes)
                hint = f"Did you mean {close}?" if close else ""
                problem = f"the data set has no such field, only {', '.join(shapes)}"
                raise UserError("task.targets", name, problem=problem, hint=hint)

    def draw(self, name: str, random: np.random.Generator, shapes: Shapes) -> np.ndarray:
        """Draw random numbers; see `OwnNoise`."""
        fields = (field for field in shapes if field not in self.targets)
        like = self.takes[0] if self.takes else next(fields)
        return self.draws[name].draw(random, shapes, like)

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return `task.outputs`, or the classes or the width of the first target."""
        if self.config.outputs is not None:
            return self.config.outputs
        if not self.targets:
            problem = "without task.targets nothing says how many outputs the model has"
            raise UserError("task.outputs", "null", problem=problem, hint="Set task.outputs=N.")
        shape = shapes[self.targets[0]]
        return sizes.get(self.targets[0], shape[-1] if len(shape) > 1 else 1)

    def terms(self, shapes: Shapes) -> int:
        """Return the number of samples."""
        return next(iter(shapes.values()))[0]

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the means over the samples, or what `task.summary` makes of them, and the loss."""
        means = {name: value / self.terms(shapes) for name, value in sums.items()}
        if self.summary is None:
            return means
        try:
            found = {name: float(value) for name, value in self.summary(dict(means)).items()}
        except Exception as error:  # a user's code may raise anything
            problem = f"it fails for {means}: {shortened(error)}"
            raise UserError("task.summary", self.config.summary, problem=problem) from error
        return {"loss": means["loss"], **found}

    def outputs_shape(self, shapes: Shapes) -> None:
        """Return None: a user's loss takes outputs of any structure."""

    def loss_of(self, backend: str) -> tuple[str, Loss]:
        """Return the user's loss for a backend, and the key that names it, with its value."""
        key, path = f"task.{backend}", getattr(self.config, backend, None)
        if path is None:
            problem = f"this task has no loss for backend={backend}"
            hint = f"Set {key}=package.module:function, or another backend."
            raise UserError(key, "null", problem=problem, hint=hint)
        function = import_attribute(path, key)
        if not callable(function):
            raise UserError(key, path, problem="it is no function")
        return f"{key}={path}", function

    def fields_of(self, outputs: object, batch: Mapping[str, AnyArray]) -> Mapping[str, AnyArray]:
        """Return the fields that the loss gets: all, or of a whole batch the targets and the noise.

        Those of a whole batch come from all devices; so must the outputs, one array `[batch, …]`.
        """
        if not self.whole_batch:
            return batch
        if not getattr(outputs, "shape", ()):
            problem = f"it returns {type(outputs).__name__}, and task.whole_batch needs one array"
            hint = "Return one array [batch, …], or set model.output to the entry that is."
            raise UserError("model", "own", problem=problem, hint=hint)
        return {name: batch[name] for name in self.loss_fields}

    def call(self, loss: tuple[str, Loss], outputs: object, batch: Mapping[str, object]) -> Any:
        """Call the user's loss."""
        named, function = loss
        try:
            return function(outputs, batch, **self.config.options)
        except Exception as error:  # a user's code may raise anything
            fields = ", ".join(f"{n} {list(getattr(f, 'shape', ()))}" for n, f in batch.items())
            problem = f"it fails: {shortened(error)}"
            hint = f"It is called with the model's outputs and a batch of {fields}."
            raise UserError(*named.split("=", 1), problem=problem, hint=hint) from error

    def in_order(self, named: str, found: Any, samples: int) -> list[Any]:
        """Return the arrays that a user's loss has returned, in the order of `sums`.

        Each is `[batch]`, or a mean over the samples of the batch. `named` is the key with its value.
        """
        key, path = named.split("=", 1)
        values = found if isinstance(found, Mapping) else {"loss": found}
        if set(values) != set(self.sums):
            problem = f"it returns {', '.join(map(str, values))}, not {', '.join(self.sums)}"
            extra = ",".join(str(name) for name in values if name != "loss")
            hint = f"Set task.metrics=[{extra}]." if "loss" in values else ""
            raise UserError(key, path, problem=problem, hint=hint)
        for name, value in values.items():
            shape = getattr(value, "shape", None)
            if shape is None or tuple(shape) not in ((), (samples,)):
                got = type(value).__name__ if shape is None else f"an array {list(shape)}"
                problem = f"its {name} is {got}"
                hint = (
                    f"Return a number for each sample, [{samples}] for this batch, or their mean."
                )
                if shape is not None and tuple(shape) == (samples, samples):
                    hint += f" A field with one number a sample is [{samples}, 1]."
                raise UserError(key, path, problem=problem, hint=hint)
        return [values[name] for name in self.sums]
