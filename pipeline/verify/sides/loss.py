"""The user's own loss of a side, an output like the others: it is recorded, compared and differentiated."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError
from pipeline.user_code import import_attribute, is_out_of_memory, shortened
from pipeline.verify.sides.refusals import describe_call


@dataclass(frozen=True)
class Loss:
    """A function of a model's output, and of the inputs that its other parameters name.

    With a second parameter that names no input, it gets all inputs as a dictionary.
    """

    key: str  # the argument, for messages
    path: str
    function: Callable[..., Any]

    @classmethod
    def load(cls, key: str, path: str) -> "Loss":
        """Import a loss.

        Raises:
            UserError: there is none.
        """
        function = import_attribute(path, key)
        if not callable(function):
            hint = "Name a function of the output and the inputs, such as my_loss(output, label)."
            raise UserError(key, path, "a function", hint)
        return cls(key, path, function)

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters after the output."""
        return list(inspect.signature(self.function).parameters)[1:]

    def __call__(self, output: object, inputs: Mapping[str, Any]) -> Any:
        """Return the loss of an output.

        Raises:
            UserError: it fails, or is no scalar.
        """
        named = [name for name in self.parameters if name in inputs]
        args: tuple[object, ...] = (output,)
        if not named and self.parameters:
            args = output, dict(inputs)
        try:
            loss = self.function(*args, **{name: inputs[name] for name in named})
        except Exception as error:  # of the user's code: of any kind
            if is_out_of_memory(error):
                raise
            given = {name: _shape(inputs[name]) for name in named or inputs}
            problem = f"called with the output and {describe_call((), given)}: {shortened(error)}"
            hint = "It takes the output, and inputs by their names or all of them as a dictionary."
            raise UserError(self.key, self.path, problem=problem, hint=hint) from error
        if getattr(loss, "shape", None) != ():
            problem = f"it returns {_shape(loss)}"
            raise UserError(
                self.key, self.path, problem=problem, hint="Return a scalar, as a mean does."
            )
        return loss


def inputs_of_model(
    inputs: Mapping[str, Any], parameters: list[str], loss: Loss | None
) -> dict[str, Any]:
    """Return the inputs that go into a model with these parameters: all, but what the loss has alone."""
    if loss is None:
        return dict(inputs)
    known = {name: value for name, value in inputs.items() if name in parameters}
    return known or {name: v for name, v in inputs.items() if name not in loss.parameters}


def _shape(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"an array {[*shape]}"
