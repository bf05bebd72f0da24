"""Batches of several runs that train at once: the samples are shared, and each run has its own order."""

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch

from lightning_impl.data.batches import BLOCK_BYTES, MOST_STEPS, TrainBatches
from lightning_impl.data.gather import gather_batch, normalised
from lightning_impl.data.samples import Batch
from lightning_impl.device import Device
from pipeline.data.batch_plan import BatchPlan

AHEAD = 2**22  # rows of batches that are computed at a time, for all runs


class ManyBatches:
    """Training samples of each step, for all runs."""

    def __init__(self, plans: Sequence[BatchPlan], device: Device, accumulate: int) -> None:
        self.plans, self.device, self.accumulate = list(plans), device, accumulate
        self.batches = TrainBatches(plans[0], device, accumulate, lambda: 0)
        lead = plans[0]
        self._bytes = lead.data.train.nbytes * lead.batch_size // len(lead.data.train)
        self._first, self._ahead = 0, np.zeros((len(plans), 0, 0), np.int64)
        self._begin, self._block = 0, []

    def __call__(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step, each `[runs, samples, …]`."""
        if not 0 <= step - self._begin < len(self._block):
            self._begin, self._block = step, self._prepared(step)
        return self._block[step - self._begin]

    def terms(self, step: int) -> torch.Tensor:
        """Return the terms of the mean losses of the batches `[runs]`."""
        lead = self.plans[0]
        counts = lead.data.task.counts_by_content
        found = [plan.terms(step) for plan in self.plans] if counts else [lead.terms(step)]
        terms = self.device.send(torch.tensor(found, dtype=self.device.dtype))
        return terms.expand(len(self.plans))

    def _prepared(self, step: int) -> list[list[Batch]]:
        """Return the micro-batches of a few steps; small batches are prepared together."""
        runs, lead = len(self.plans), self.plans[0]
        most = max(1, min(MOST_STEPS, BLOCK_BYTES // max(1, self._bytes * runs)))
        count = min(most, lead.steps_per_epoch - step % lead.steps_per_epoch)
        draws = {}
        if lead.augmented or lead.data.task.noise:
            drawn = [plan.draws(step, count) for plan in self.plans]
            draws = {name: np.concatenate([one[name] for one in drawn]) for name in drawn[0]}
        samples = self.batches.samples
        fields = normalised(samples, gather_batch(samples, self._indices(step, count), draws))
        parted = {
            name: field.unflatten(0, (runs, count, self.accumulate, -1))
            for name, field in fields.items()
        }
        return [
            [
                {name: field[:, one, part] for name, field in parted.items()}
                for part in range(self.accumulate)
            ]
            for one in range(count)
        ]

    def _indices(self, first: int, count: int) -> np.ndarray:
        """Return the samples of batches, of one run after the other.

        Those of many steps are computed together: an order is stored for a few runs only.
        """
        begin = first - self._first
        if begin < 0 or begin + count > self._ahead.shape[1]:
            plan = self.plans[0]
            epoch = plan.steps_per_epoch - first % plan.steps_per_epoch
            fitting = AHEAD // (plan.batch_size * len(self.plans))
            steps = max(count, min(epoch, fitting))
            own = [plan.indices(first, steps).reshape(steps, -1) for plan in self.plans]
            self._first, self._ahead, begin = first, np.array(own), 0
        return self._ahead[:, begin : begin + count].reshape(-1)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave the runs of all other rows out from now on."""
        self.plans = [self.plans[row] for row in rows]
        self._ahead, self._block = self._ahead[list(rows)], []

    def digest(self, row: int) -> str:
        """SHA-256 of the first batches of a run, as the device receives them."""
        own = copy(self.batches)
        own.plan = self.plans[row]
        return own.digest()

    def close(self) -> None:
        """End the preparation of stored fields."""
        self.batches.close()
