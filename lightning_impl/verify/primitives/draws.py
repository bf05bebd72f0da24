"""Random numbers that a model draws by itself, replaced by constants while it is compared."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_impl.verify.primitives.neutral import NARROW, Neutral, short_name
from pipeline.run.recording.step_observer import LayerDraw

T = TypeVar("T")


def call_without_draws(
    call: Callable[[], T], lifts: bool, layer: Callable[[], str]
) -> tuple[T, list[LayerDraw], str]:
    """Call a model with constants in place of random numbers; return its result and what it draws.

    A mask of dropout keeps all, so that it scales by 1 / (1 - rate). With `lifts`, float32 inside the model
    becomes float64. `layer` returns the name of the module that is being called. The masks of
    `lightning_impl.randomness` are no random numbers: they are computed, and stay. The third result is the
    first layer that asks for float32 in spite of `lifts`.
    """
    with sdpa_kernel(SDPBackend.MATH), _Constants(lifts, layer) as mode:
        return call(), mode.noted, mode.narrow


class _Constants(Neutral):
    """Replaces random numbers by constants, and notes the layers that draw them."""

    def __init__(self, lifts: bool, layer: Callable[[], str]) -> None:
        super().__init__()
        self.lifts, self.layer = lifts, layer
        self.noted: list[LayerDraw] = []
        self.narrow = ""

    def execute(self, func: Any, args: tuple, kwargs: Mapping[str, Any]) -> object:
        """Execute an operation."""
        if self.lifts:
            if kwargs.get("dtype") in NARROW:
                self.narrow = self.narrow or self.layer()
            return super().execute(func, args, kwargs)
        out = self._draw(short_name(func), args, kwargs)
        return func(*args, **kwargs) if out is None else out

    def _draw(self, name: str, args: tuple, kwargs: Mapping[str, Any]) -> object:
        out = super()._draw(name, args, kwargs)
        if self.draws:
            draw = self.draws.pop()
            self.noted.append(LayerDraw(draw.kind, draw.number, draw.size, self.layer()))
        return out
