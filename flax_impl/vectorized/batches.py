"""Batches of several runs that train at once: the samples are shared, and each run has its own order."""

from collections.abc import Sequence
from copy import copy

import numpy as np

from flax_impl.data.batches import TrainBatches
from flax_impl.data.samples import Batch, BatchRows, Samples
from flax_impl.device import Device
from pipeline.data.batch_plan import BatchPlan

AHEAD = 2**22  # rows of batches that are computed at a time, for all runs


class ManyBatches:
    """Training samples of each compiled call, for all runs."""

    def __init__(self, plans: Sequence[BatchPlan], device: Device, accumulate: int) -> None:
        self.plans, self.device, self.accumulate = list(plans), device, accumulate
        self.batches = TrainBatches(plans[0], device, accumulate)
        self._first, self._ahead = 0, np.zeros((len(plans), 0, 0), np.int64)

    @property
    def steps_per_call(self) -> int:
        """Number of training steps in one compiled call, if as many occur between two lines."""
        return self.batches.steps_per_call

    def __call__(self, first: int, count: int) -> tuple[Samples, BatchRows, Batch, np.ndarray]:
        """Return the arguments of `TrainBatches`, all but the samples with an axis of runs in front."""
        steps, home = range(first, first + count), self.batches.home
        chosen = home.find(self._parts(self._indices(first, count)))
        lead, shape = self.plans[0], (len(self.plans), count)
        draws = {}
        if lead.augmented or lead.data.task.noise:
            drawn = [[plan.draws(step) for step in steps] for plan in self.plans]
            draws = {
                name: self._parts(np.stack([[one[name] for one in own] for own in drawn]))
                for name in drawn[0][0]
            }
        if lead.data.task.counts_by_content:
            found = [[plan.terms(step) for step in steps] for plan in self.plans]
            terms = np.array(found, self.device.dtype)
        else:
            terms = np.full(shape, lead.terms(first), self.device.dtype)
        return home.samples, chosen, home.place_draws(draws), terms

    def _parts(self, batches: np.ndarray) -> np.ndarray:
        """Divide batches `[runs, steps, samples, …]` into micro-batches."""
        runs, steps, *_ = batches.shape
        return batches.reshape(runs, steps, self.accumulate, -1, *batches.shape[3:])

    def _indices(self, first: int, count: int) -> np.ndarray:
        """Return the samples of batches `[runs, steps, samples]`.

        Those of many steps are computed together, one run after the other: an order is stored for a few runs
        only.
        """
        begin = first - self._first
        if begin < 0 or begin + count > self._ahead.shape[1]:
            plan = self.plans[0]
            epoch = plan.steps_per_epoch - first % plan.steps_per_epoch
            fitting = AHEAD // (plan.batch_size * len(self.plans))
            steps = max(count, min(epoch, fitting))
            own = [plan.indices(first, steps).reshape(steps, -1) for plan in self.plans]
            self._first, self._ahead, begin = first, np.array(own), 0
        return self._ahead[:, begin : begin + count]

    def keep(self, rows: Sequence[int]) -> None:
        """Leave the runs of all other rows out from now on."""
        self.plans = [self.plans[row] for row in rows]
        self._ahead = self._ahead[list(rows)]

    def digest(self, row: int) -> str:
        """SHA-256 of the first batches of a run, as the device receives them."""
        own = copy(self.batches)
        own.plan = self.plans[row]
        return own.digest()

    def close(self) -> None:
        """End the preparation of stored fields."""
        self.batches.close()
