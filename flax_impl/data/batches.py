"""Batches of a training and of an evaluation, as compiled steps take them."""

from collections.abc import Iterator, Mapping
from functools import partial

import jax
import numpy as np

from flax_impl.data.gather import gather_batch
from flax_impl.data.samples import Batch, BatchRows, ResidentSplit, Samples
from flax_impl.device import Device
from flax_impl.sharding import shard
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Split
from pipeline.data.prefetch import Prefetcher, RowRequest

CALL_BYTES = 256 * 2**20  # of the batches of one compiled call that are sent to the device


class TrainBatches:
    """Training samples of each compiled call; a batch has `accumulate` micro-batches."""

    def __init__(self, plan: BatchPlan, device: Device, accumulate: int) -> None:
        self.plan, self.device, self.accumulate = plan, device, accumulate
        self.home = ResidentSplit(plan.data.train, plan, device)
        self.own = _OwnRows(device, plan.batch_size, accumulate)
        own = partial(plan.row_request, part=self.own.rows)
        self.stored = Prefetcher(plan.data.train.stored, own)
        self._raw = jax.jit(gather_batch, static_argnums=(3, 4), out_shardings=device.everywhere)

    @property
    def steps_per_call(self) -> int:
        """Number of training steps in one compiled call, if as many occur between two lines.

        It is 1 with stored fields, which fill the memory; other batches that are sent fit into `CALL_BYTES`.
        """
        train = self.plan.data.train
        if train.stored:
            return 1
        if self.home.resident:
            return self.device.steps_per_call
        batch = max(1, train.nbytes * self.plan.batch_size // len(train))
        return min(self.device.steps_per_call, max(1, CALL_BYTES // batch))

    def __call__(self, first: int, count: int) -> tuple[Samples, BatchRows, Batch, jax.Array]:
        """Return the arguments of `count` steps after `first` updates.

        They are the samples, their rows `[count, micro-batches, samples]`, their draws `[count,
        micro-batches, samples, …]`, and the terms of the batches' mean losses `[count]`.
        """
        steps = range(first, first + count)
        chosen = self.home.find(self._parts([self.plan.indices(step) for step in steps]), axis=2)
        drawn = [self.plan.draws(step) | self.own.placed(self.stored(step)) for step in steps]
        draws = {name: self._parts([draw[name] for draw in drawn]) for name in drawn[0]}
        terms = np.array([self.plan.terms(step) for step in steps], self.device.dtype)
        placed = self.home.place_draws(draws, axis=2)
        return self.home.samples, chosen, placed, shard(terms, self.device)

    def _parts(self, batches: list[np.ndarray]) -> np.ndarray:
        together = np.stack(batches) if len(batches) > 1 else batches[0][None]
        return together.reshape(len(batches), self.accumulate, -1, *together.shape[2:])

    def augmented(self, step: int) -> Batch:
        """Return the whole batch after `step` updates, augmented, before normalisation."""
        draws = self.home.place_draws(self.plan.draws(step) | self.plan.take_stored(step))
        chosen = self.home.find(self.plan.indices(step))
        plan = self.plan
        return self._raw(self.home.samples, chosen, draws, plan.augmented, plan.padding)

    def close(self) -> None:
        """End the preparation of stored fields."""
        self.stored.close()

    def digest(self) -> str:
        """SHA-256 of the first batches, as the device receives them."""
        return self.plan.digest(lambda step: jax.device_get(self.augmented(step)))


class EvalBatches:
    """Every sample of a split once, in order; the last batch is padded, and the padding is not counted.

    `batch_size` is rounded up to a multiple of the number of devices times the task's group.
    """

    def __init__(self, split: Split, plan: BatchPlan, device: Device, batch_size: int) -> None:
        self.home, self.device = ResidentSplit(split, plan, device), device
        self.draws = partial(plan.evaluation_draws, split)
        self.requested = partial(plan.evaluation_request, split)
        batch = min(batch_size, len(split))
        batch += -batch % (device.devices * plan.data.task.group)
        self.size, self.batch_size = len(split), batch
        self.stored, self.own = split.stored, _OwnRows(device, batch)

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def rows(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a batch, and 1 for each that is counted, 0 for padding."""
        first = number * self.batch_size
        positions = np.arange(first, first + self.batch_size)
        counted = (positions < self.size).astype(self.device.dtype)
        return np.minimum(positions, self.size - 1), counted

    def __iter__(self) -> Iterator[tuple[Samples, BatchRows, Batch, jax.Array]]:
        def request(number: int) -> RowRequest:
            return self.requested(self.rows(number)[0][self.own.rows])

        with Prefetcher(self.stored, request, len(self)) as stored:
            for number in range(len(self)):
                indices, counted = self.rows(number)
                chosen = self.home.find(indices, axis=0)
                drawn = self.draws(indices) | self.own.placed(stored(number))
                draws = self.home.place_draws(drawn, axis=0)
                yield self.home.samples, chosen, draws, shard(counted, self.device, axis=0)

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Put all devices' rows of all batches in the order of the split, without the padding."""
        return rows[: self.size]


class _OwnRows:
    """Stored fields of this process's rows of a batch, at their places in the whole batch.

    Only here: a torch process takes its own rows only, an array of JAX has those of all processes.
    """

    def __init__(self, device: Device, size: int, accumulate: int = 1) -> None:
        parts = np.arange(size).reshape(accumulate, -1)
        share, self.size = parts.shape[1] // device.world.size, size
        first = device.world.rank * share
        self.rows = parts[:, first : first + share].flatten()

    def placed(self, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the fields in arrays of the whole batch; the rows of other processes hold anything."""
        if len(self.rows) == self.size:
            return dict(stored)
        whole = {n: np.empty((self.size, *own.shape[1:]), own.dtype) for n, own in stored.items()}
        for name, own in stored.items():
            whole[name][self.rows] = own
        return whole
