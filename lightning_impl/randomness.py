"""Dropout and drop-path with masks that depend only on the seed, step, micro-batch and layer."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import cast
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.config.experiment import Config
from pipeline.config.train import Randomness
from pipeline.errors import UserError
from pipeline.rng import key_words
from pipeline.run.recording.step_observer import MASK, LayerDraw

Key = tuple[torch.Tensor, torch.Tensor]  # two int32 scalars, read as unsigned
# That of a step is computed by NumPy, which takes a fifth of torch's time: int32 [1] each.
StepKey = tuple[np.ndarray, np.ndarray]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_SIGN = -(2**31)
STEPS = 64  # whose keys are derived at once


def step_key(config: Config, step: int, part: int = 0, rank: int = 0) -> StepKey | None:
    """Key of one micro-batch after `step` updates; layers fold their names into it.

    None with `train.randomness=native`: torch's own generator is seeded instead. Its masks depend on the
    step alone, and with several devices also on the rank.
    """
    if config.train.randomness is Randomness.native:
        seed = key_words(config.seed, "dropout", step, part, *([rank] if rank else []))
        seed = seed[0] << 32 | seed[1]
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        return None
    high, low = _keys_of_steps(config.seed, step // STEPS, part)
    at = slice(step % STEPS, step % STEPS + 1)
    return high[at], low[at]


def key_of_step(key: Key, step: int, part: int) -> Key:
    """Key of a micro-batch after `step` updates, of the key of a run; those of many runs may be stacked."""
    return _fold_in(_fold_in(key, step), part)


@lru_cache(maxsize=128)
def _keys_of_steps(seed: int, block: int, part: int) -> StepKey:
    """Return the keys of a micro-batch in `STEPS` consecutive steps: int32 `[STEPS]` each."""
    key = np.array([key_words(seed, "dropout")], np.uint32).view(np.int32)
    steps = np.arange(block * STEPS, (block + 1) * STEPS).astype(np.uint32).view(np.int32)
    of_steps = _fold_in_numpy((key[:, 0], key[:, 1]), steps)
    return _fold_in_numpy(of_steps, np.array([part], np.int32))


def draw_mask(key: Key, rate: float, x: torch.Tensor, shape: torch.Size, rank: int) -> torch.Tensor:
    """Draw what a layer keeps: each number with probability 1 - `rate`, on the device of its input.

    `key` is that of the layer.
    """
    first, least = rank * shape.numel(), _least(rate)
    if torch.compiler.is_compiling():
        return _draw_in_program(*key, shape, x.device, first, least)
    return _bits(key, shape, x.device, first) ^ _SIGN >= least


def _least(rate: float) -> int:
    """Return the smallest bits that are kept, as a signed number.

    Unsigned numbers stored as signed ones: flipping the sign bit gives them the same order.
    """
    return round(rate * (2**32 - 1)) - 2**31


@torch.library.custom_op(
    "tandem::draw_mask", mutates_args=(), tags=torch.Tag.cudagraph_unsafe
)  # the key is on the CPU
def _draw_in_program(
    high: torch.Tensor,
    low: torch.Tensor,
    shape: Sequence[int],
    device: torch.device,
    first: int,
    least: int,
) -> torch.Tensor:
    """Draw a mask in a compiled program, which calls this instead of compiling a generator for each layer.

    The generator is compiled once, for all shapes. `high` and `low` are the layer's key.
    """
    shape = torch.Size(shape)
    if first + (count := shape.numel()) > 2**31:  # counters of 64 bits
        return _bits((high, low), shape, device, first) ^ _SIGN >= least
    words = torch.tensor([int(high), int(low), first, least], dtype=torch.int32)
    with torch.no_grad():
        return _compiled_generator()(words.to(device), count).view(shape)


@_draw_in_program.register_fake
def _(
    high: torch.Tensor,
    low: torch.Tensor,
    shape: Sequence[int],
    device: torch.device,
    first: int,
    least: int,
) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bool, device=device)


@cache
def _compiled_generator() -> Callable[[torch.Tensor, int], torch.Tensor]:
    return torch.compile(_draw_flat, dynamic=True)


def _draw_flat(words: torch.Tensor, count: int) -> torch.Tensor:
    """Draw a mask of one axis; `words` are the key, the first counter, and the smallest bits kept."""
    high, low, first, least = words.unbind()
    counters = first + torch.arange(count, dtype=torch.int32, device=words.device)
    left, right = _threefry((high, low), torch.zeros_like(first), counters)
    return left ^ right ^ _SIGN >= least


def number_of(name: str) -> int:
    """Return a layer's name as a number of 32 bits."""
    return crc32(name.encode())


class Dropout(nn.Module):
    """Zeros each number with probability `rate`, and scales the others by 1 / (1 - rate).

    Srivastava et al. 2014, in the "inverted" form of both libraries. The first axis is the batch's; each
    device draws its own rows of the mask.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.key: Key | None = None  # of the step and the layer; with the device's rank: `use_key`
        self.rank = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` with some numbers at zero, in the same shape."""
        if not self.training or self.rate == 0:
            return x
        shape = self.mask_shape(x)
        if self.key is None:
            whole = shape == x.shape
            return F.dropout(x, self.rate) if whole else x * F.dropout(x.new_ones(shape), self.rate)
        kept = draw_mask(self.key, self.rate, x, shape, self.rank)
        return torch.where(kept, x / (1 - self.rate), torch.zeros_like(x))

    def mask_shape(self, x: torch.Tensor) -> torch.Size:
        """One draw for each number."""
        return x.shape


class DropPath(Dropout):
    """Zeros whole samples of a residual branch (stochastic depth, Huang et al. 2016)."""

    def mask_shape(self, x: torch.Tensor) -> torch.Size:
        """One draw for each sample."""
        return torch.Size((len(x),) + (1,) * (x.ndim - 1))


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
        key = self.key if is_first else _fold_in(self.step_key, number_of(called))
        kept = draw_mask(key, self.p, input, input.shape, self.rank)
        return torch.where(kept, input / (1 - self.p), torch.zeros_like(input))


def use_key(
    model: nn.Module,
    key: Key | StepKey | None,
    rank: int = 0,
    names_masks: bool = True,
    drawn: dict[str, LayerDraw] | None = None,
) -> None:
    """Set a step's key on all layers that draw; with `names_masks` on torch's own, too.

    Only here: Flax passes keys to layers itself. `drawn` notes the masks of torch's own layers.
    """
    layers: dict[str, Dropout | NamedDropout] = {}
    words = None
    if key is not None:
        words = torch.as_tensor(key[0]).reshape(()), torch.as_tensor(key[1]).reshape(())
    for name, module in model.named_modules():
        if type(module) is nn.Dropout and names_masks:
            module.__class__ = NamedDropout
        if isinstance(module, NamedDropout):
            module.path, module.step_key, module.calls = name, words, 0
            module.drawn, module.task = drawn, torch._C._current_graph_task_id()
        if isinstance(module, Dropout | NamedDropout):
            layers[name], module.key, module.rank = module, None, rank
    if key is not None and layers:
        for layer, own in zip(layers.values(), _keys_of(key, [*layers]), strict=True):
            layer.key = own


def _threefry(key: Key, high: torch.Tensor | int, low: torch.Tensor | int) -> Key:
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011), as jax.random computes it.

    Only here, with `_fold_in` and `_bits`: torch has no counter-based generator. `high` and `low` are the
    upper and lower words of the counters, int32.
    """
    schedule = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    left, right = high + schedule[0], low + schedule[1]
    for index in range(5):
        for rotation in ROTATIONS[index % 2]:
            left = left + right
            # `>>` shifts in the sign bit, which the mask removes.
            right = (right << rotation) | ((right >> (32 - rotation)) & ((1 << rotation) - 1))
            right = left ^ right
        left = left + schedule[(index + 1) % 3]
        right = right + schedule[(index + 2) % 3] + (index + 1)
    return left, right


def _fold_in(key: Key, number: int) -> Key:
    """Derive a new key from a key and a 32-bit number, as `jax.random.fold_in`."""
    return _threefry(key, 0, _signed(number))


def _fold_in_numpy(key: StepKey, numbers: np.ndarray) -> StepKey:
    """Derive new keys from a key and 32-bit numbers, int32; `_threefry` has but operators of both."""
    found = _threefry(cast("Key", key), 0, cast("torch.Tensor", numbers))
    return cast("StepKey", found)


def _keys_of(key: Key | StepKey, names: Sequence[str]) -> list[Key]:
    """Fold the number of each name into a key."""
    numbers = np.array([number_of(name) for name in names], np.uint32).view(np.int32)
    if isinstance(key[0], np.ndarray):
        high, low = map(torch.from_numpy, _fold_in_numpy(cast("StepKey", key), numbers))
    else:
        high, low = _threefry(key, 0, torch.from_numpy(numbers))
    return list(zip(high.unbind(), low.unbind(), strict=True))


def _bits(key: Key, shape: torch.Size, device: torch.device, first: int = 0) -> torch.Tensor:
    """Random bits, int32 of the given shape, as `jax.random.bits` in uint32, from counter `first` on."""
    counters = torch.arange(first, first + shape.numel(), device=device)
    high, low = (counters >> 32).int(), counters.int()
    # A copy of so few bytes need not wait for the GPU, though their memory is not pinned.
    first_word, second_word = (word.to(device, non_blocking=True) for word in key)
    left, right = _threefry((first_word, second_word), high, low)
    return (left ^ right).reshape(shape)


def _word(number: int) -> torch.Tensor:
    """Store 32 unsigned bits as an int32 scalar."""
    return torch.tensor(_signed(number), dtype=torch.int32)


def _signed(number: int) -> int:
    """Read 32 unsigned bits as a signed number."""
    return number - (1 << 32) * (number >> 31)
