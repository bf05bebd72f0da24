"""Keys of a step for the layers of a model that draw."""

from collections.abc import Sequence
from itertools import chain
from typing import cast
from zlib import crc32

import numpy as np
import torch
from torch import nn

from lightning_impl.randomness import Dropout, draw_mask
from lightning_impl.threefry import Key, StepKey, fold_in, fold_in_numpy, threefry
from pipeline.errors import UserError
from pipeline.run.recording.step_observer import MASK, LayerDraw


def key_of_step(key: Key, step: int, part: int) -> Key:
    """Key of a micro-batch after `step` updates, of the key of a run; those of many runs may be stacked."""
    return fold_in(fold_in(key, step), part)


def number_of(name: str) -> int:
    """Return a layer's name as a number of 32 bits."""
    return crc32(name.encode())


class NamedDropout(nn.Dropout):
    """torch's own dropout in a user's model, with masks that depend on the layer's name and its call.

    Only here: Flax has several kinds of layers, whose calls are replaced.
    """

    path, rank, calls = "", 0, 0
    task = -1  # the backward pass in which the key was set, if any
    key: Key | None = None  # of the step and the layer's first call
    step_key: Key | None = None
    drawn: dict[str, LayerDraw] | None = None  # notes the masks

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return `input` with some numbers at zero, in the same shape."""
        if not self.training or self.key is None or self.step_key is None or self.p in (0, 1):
            return super().forward(input)
        # A call that a checkpoint repeats in the backward pass has the mask of the first.
        is_repeated = torch._C._current_graph_task_id() != self.task
        if is_repeated and self.calls > 1:
            problem = (
                f"{self.path} is called {self.calls} times in what a checkpoint computes again"
            )
            hint = "Give each call a layer of its own, or set train.randomness=native."
            raise UserError("train.randomness", "shared", problem=problem, hint=hint)
        self.calls += not is_repeated
        called = self.path if self.calls == 1 else f"{self.path}#{self.calls}"
        if self.drawn is not None:
            self.drawn[called] = LayerDraw(MASK, 1 - self.p, input.numel(), called)
        is_first = called == self.path
        key = self.key if is_first else fold_in(self.step_key, number_of(called))
        kept = draw_mask(key, self.p, input, input.shape, self.rank)
        return torch.where(kept, input / (1 - self.p), torch.zeros_like(input))


class LayerKeys:
    """Sets the key of each step on the layers of a model that draw."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._layers: list[Dropout | NamedDropout] = []
        self._numbers = np.zeros(0, np.int32)  # of their names
        self._names_masks: bool | None = None  # of torch's own
        self._tables: list[dict[str, nn.Module | None]] = []  # children of each module, by name
        self._children: list[tuple[str, nn.Module | None]] = []  # all of them, when last looked for

    def use(
        self,
        key: Key | StepKey | None,
        rank: int = 0,
        names_masks: bool = True,
        drawn: dict[str, LayerDraw] | None = None,
    ) -> None:
        """Set a step's key on all layers that draw; with `names_masks` on torch's own, too.

        `drawn` notes the masks of torch's own layers.
        """
        if names_masks != self._names_masks or self._listed() != self._children:
            self._find(names_masks)
        if not self._layers:
            return
        keys: Sequence[Key | None] = [None] * len(self._layers)
        words = None
        if key is not None:
            words = torch.as_tensor(key[0]).reshape(()), torch.as_tensor(key[1]).reshape(())
            keys = keys_of(key, self._numbers)
        task = torch._C._current_graph_task_id()
        for layer, own in zip(self._layers, keys, strict=True):
            # Not by `setattr`, in which torch looks for parameters and modules.
            vars(layer).update(key=own, rank=rank)
            if isinstance(layer, NamedDropout):
                vars(layer).update(step_key=words, calls=0, drawn=drawn, task=task)

    def _listed(self) -> list[tuple[str, nn.Module | None]]:
        """Return the children of all modules: the same as before, unless a module was replaced."""
        return [*chain.from_iterable(map(dict.items, self._tables))]

    def _find(self, names_masks: bool) -> None:
        """Walk through all modules, which takes far longer than to compare their children."""
        found: dict[str, Dropout | NamedDropout] = {}
        for name, module in self.model.named_modules():
            if type(module) is nn.Dropout and names_masks:
                module.__class__ = NamedDropout
            if isinstance(module, NamedDropout):
                module.path = name
            if isinstance(module, Dropout | NamedDropout):
                found[name] = module
        self._layers, self._names_masks = [*found.values()], names_masks
        self._numbers = np.array([*map(number_of, found)], np.uint32).view(np.int32)
        self._tables = [module._modules for module in self.model.modules()]
        self._children = self._listed()


def keys_of(key: Key | StepKey, numbers: np.ndarray) -> list[Key]:
    """Fold each number into a key."""
    if isinstance(key[0], np.ndarray):
        high, low = map(torch.from_numpy, fold_in_numpy(cast("StepKey", key), numbers))
    else:
        high, low = threefry(key, 0, torch.from_numpy(numbers))
    return list(zip(high.unbind(), low.unbind(), strict=True))
