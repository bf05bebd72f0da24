"""Layout of images: where the user's inputs have their channels, and where a model takes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from pipeline.errors import UserError
from pipeline.user_code import is_out_of_memory
from pipeline.verify.sides.refusals import InputsRefused
from pipeline.verify.sides.subject import Inputs, Subject

FIRST, LAST = "NCHW", "NHWC"

Opened = TypeVar("Opened", bound=Subject)


@dataclass(frozen=True)
class Channels:
    """Layouts of the inputs that are images, by name, and the one in which a model takes them."""

    given: Mapping[str, str] = field(default_factory=dict)
    taken: str = FIRST

    @property
    def turned(self) -> list[str]:
        """Names of the inputs that are turned for this model."""
        first = self.taken == FIRST
        return [
            name
            for name, layout in self.given.items()
            if "C" in layout and (layout[1] == "C") != first
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """Name each turned input for the user."""
        return tuple(f"{name} is turned to {self.taken}" for name in self.turned)

    def turn(self, inputs: Inputs) -> Inputs:
        """Return the inputs in the layout in which the model takes them."""
        source, target = (-1, 1) if self.taken == FIRST else (1, -1)
        turned = set(self.turned)
        return {
            name: np.moveaxis(array, source, target) if name in turned else array
            for name, array in inputs.items()
        }


def open_in_layout(
    attempt: Callable[[Channels], Opened],
    name: str,
    inputs: Inputs,
    given: Mapping[str, str],
    preferred: str,
) -> Opened:
    """Return a model that runs on its inputs, images in the layout that its kind prefers or the other.

    `attempt` opens the model in a layout and runs it once; `name` is the model's.

    Raises:
        InputsRefused: the model refuses the inputs in every layout.
        MemoryError: the memory does not suffice.
    """
    layouts: Sequence[str] = (FIRST, LAST) if preferred == FIRST else (LAST, FIRST)
    errors: list[Exception] = []
    for taken in layouts if given else layouts[:1]:
        try:
            return attempt(Channels(given, taken))
        except UserError:
            raise
        except Exception as error:  # of the user's model: of any kind
            if is_out_of_memory(error):
                raise MemoryError from error
            errors.append(error)
    shapes = Channels(given, layouts[0]).turn(inputs)
    hint = "Images were tried with channels first and last." if given else ""
    raise InputsRefused(name, shapes, hint, errors[0]) from errors[0]
