"""The training step of several runs at once: that of one run, mapped over a stack of states."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_impl.data.batches import COUNTED, EvalBatches
from lightning_impl.data.samples import Batch
from lightning_impl.device import Device
from lightning_impl.layer_keys import key_of_step
from lightning_impl.randomness import Dropout
from lightning_impl.threefry import Key
from lightning_impl.training.step import TrainingModule
from lightning_impl.vectorized.images import MappedConvolutions
from lightning_impl.vectorized.memory import bytes_kept
from lightning_impl.vectorized.stack import Row, Stack, Tensors, beside, rates_of
from pipeline.config.schedules import PlateauConfig
from pipeline.config.train import Randomness
from pipeline.devices.hardware import free_memory
from pipeline.rng import key_words
from pipeline.run.experiment import Experiment
from pipeline.run.together.memory import count_that_fits
from pipeline.run.together.own_draws import must_not_draw, refusing_global_draws, shared_draws

SMOOTHING = "train.label_smoothing"
DRAWS = "called random operation"  # in the error of torch.func.vmap, which maps none
SLOTS = 2  # tensors of an optimizer for each parameter, before it has made them


class ManySteps:
    """A step for several runs, and what else is computed for a stack of states.

    The first of the runs' modules gives the model's functions; a checkpoint of any run is made with it.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        modules: Sequence[TrainingModule],
        device: Device,
    ) -> None:
        self.module, self.device = modules[0].to(device.torch_device), device
        self.rates = [rates_of(module.model) for module in modules]
        self._take(experiments, [Row.of(module) for module in modules])

    @staticmethod
    def settings(experiment: Experiment) -> str:
        """Return a text that is the same for runs whose updates have the same numbers at every step."""
        config = experiment.config
        # The rate of a plateau follows from the run's own evaluations.
        own = experiment.folder if isinstance(config.schedule, PlateauConfig) else ""
        return f"{config.optimizer} {config.schedule} {own}"

    def _take(self, experiments: Sequence[Experiment], rows: Sequence[Row]) -> None:
        self.experiments = list(experiments)
        configs = [experiment.config for experiment in experiments]
        self.config, device = configs[0], self.device.torch_device
        self.stack = Stack(self.module, rows, configs, [self.settings(one) for one in experiments])
        self.words: Key | None = None
        if self.config.train.randomness is Randomness.shared:
            words = [key_words(config.seed, "dropout") for config in configs]
            stored = torch.from_numpy(np.array(words, np.uint32).view(np.int32)).to(device)
            self.words = stored[:, 0], stored[:, 1]
        numbers = {name: [rates[name] for rates in self.rates] for name in self.rates[0]}
        numbers[SMOOTHING] = [config.train.label_smoothing for config in configs]
        # Those in which the runs differ `[runs]`: rates by the layers' names, and the smoothing.
        self.numbers: Tensors = {
            name: torch.tensor(found, dtype=torch.float64, device=device)
            for name, found in numbers.items()
            if len(set(found)) > 1
        }
        self.clip_norm = self._numbers([config.train.clip_norm for config in configs])
        self.clip_value = self._numbers([config.train.clip_value for config in configs])
        self.norm = torch.zeros(len(configs), dtype=self.device.dtype, device=device)

    def _numbers(self, numbers: Sequence[float | None]) -> Tensor | None:
        if numbers[0] is None:
            return None
        dtype, device = self.device.dtype, self.device.torch_device
        return torch.tensor(numbers, dtype=dtype, device=device)

    def take(self, rows: Sequence[int]) -> None:
        """Leave the runs of all other rows out from now on."""
        states = [self.stack.row(row) for row in rows]
        self.rates = [self.rates[row] for row in rows]
        self._take([self.experiments[row] for row in rows], states)

    def __call__(
        self, step: int, batches: Sequence[Batch], terms: Tensor, rates: Sequence[float]
    ) -> Tensor:
        """Take a step; return the values of each run `[runs, values]`, on the device.

        `batches` are micro-batches `[runs, samples, …]`.
        """
        self.module.model.train()
        values = list(self.stack.values.values())
        parts, gradients = [], []
        for chunks, keys in self._passes(step, batches):
            losses, sums = self._forward(self.stack.tensors(), chunks, keys, self.numbers)
            parts.append(sums)
            # The runs share no number, so the gradient of a sum of their losses is that of each.
            own = torch.autograd.grad((losses / terms).sum(), values)
            if gradients:
                torch._foreach_add_(gradients, own)
            else:
                gradients = list(own)
        self._clip(step, gradients)
        named = dict(zip(self.stack.values, gradients, strict=True))
        self.stack.update(named, rates, is_first=step == 0)
        return torch.cat([torch.stack(parts).sum(dim=0), self.norm[:, None]], dim=1)

    @contextmanager
    def _kernels(self) -> Generator[None]:
        """Choose what torch.func maps well on a CPU: it takes the runs of its fused attention in turn."""
        if self.device.kind != "cpu":
            yield
            return
        with sdpa_kernel(SDPBackend.MATH), MappedConvolutions():
            yield

    def _passes(
        self, step: int, batches: Sequence[Batch]
    ) -> list[tuple[Sequence[Batch], Sequence[Key]]]:
        """Return the micro-batches of each loss of a step, with the keys of their draws, if shared."""
        words, parts = self.words, range(len(batches))
        keys = [key_of_step(words, step, part) for part in parts] if words else []
        if self.module.plan.data.task.whole_batch:
            return [(batches, keys)]
        return [([batches[part]], keys[part : part + 1]) for part in parts]

    def _forward(
        self, tensors: Tensors, batches: Sequence[Batch], keys: Sequence[Key], numbers: Tensors
    ) -> tuple[Tensor, Tensor]:
        """Return the summed losses `[runs]` and all sums `[runs, values]` of micro-batches with one loss."""
        module = self.module

        def one(
            own: Tensors, batches: Sequence[Batch], keys: Sequence[Key], numbers: Tensors
        ) -> tuple[Tensor, Tensor]:
            model, found = _with(own, module.model), []
            self._use(numbers)
            for batch, key in zip_longest(batches, keys):
                if key is not None:
                    module.layer_keys.use(key)
                found.append(module.loss.outputs(model, batch))
            outputs, fields = found[0], batches[0]
            if len(found) > 1:
                outputs = torch.cat(found)
                fields = {name: torch.cat([batch[name] for batch in batches]) for name in fields}
            sums = module.loss.sums(outputs, fields, training=True)
            return sums[0], module.stacked(sums)

        try:
            with self._kernels():
                return vmap(one)(tensors, list(batches), list(keys), numbers)
        except Exception as error:  # torch's, or one with the call of the user's model
            if must_not_draw(self.config) and DRAWS in str(error):
                raise shared_draws() from error
            raise
        finally:
            if keys:
                module.layer_keys.use(None)  # it is of the mapping that has ended
            self._use({})

    def _use(self, numbers: Tensors) -> None:
        """Let the model and the loss take the numbers of one run; without any, those that all have."""
        for name in self.rates[0]:
            layer = cast("Dropout", self.module.model.get_submodule(name))
            layer.rate_of_run = numbers.get(name)
        smoothing = numbers.get(SMOOTHING)
        self.module.loss.smoothing = (
            self.config.train.label_smoothing
            if smoothing is None
            else smoothing.to(self.device.dtype)
        )

    def _clip(self, step: int, gradients: list[Tensor]) -> None:
        """Clip the gradients of each run as `TrainingModule` does; compute norms if they are needed."""
        intervals = self.experiments[0].recorder.intervals
        if self.clip_norm is not None or intervals.logs(step + 1):
            norms = torch.stack(
                [torch.linalg.vector_norm(one.flatten(1), dim=1) for one in gradients]
            )
            self.norm = torch.linalg.vector_norm(norms, dim=0)
        if self.clip_norm is not None:
            factors = (self.clip_norm / (self.norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, [beside(factors, one) for one in gradients])
        if self.clip_value is not None:
            for gradient in gradients:
                largest = beside(self.clip_value, gradient)
                gradient.clamp_(-largest, largest)

    @torch.no_grad()
    def evaluate(self, batches: EvalBatches) -> list[dict[str, float]]:
        """Return the sums of each run over the batches of a split."""
        module, tensors = self.module, self.stack.tensors(averaged=True)
        module.model.eval()

        def one(own: Tensors, batch: Batch) -> Tensor:
            outputs = module.loss.outputs(_with(own, module.model), batch)
            return module.stacked(module.loss.sums(outputs, batch))

        done = []
        for batch in batches:
            fields = {name: field for name, field in batch.items() if name != COUNTED}
            with self._kernels():
                done.append(vmap(one, in_dims=(0, None))(tensors, fields))
        totals = torch.stack(done).double().sum(dim=0).tolist()
        names = module.plan.data.sums
        return [dict(zip(names, row, strict=True)) for row in totals]

    def count_that_fits(self, batches: Sequence[Batch]) -> int:
        """Return how many of the runs the memory is enough for, at least 1.

        `batches` are the micro-batches of a step.
        """
        runs, row = len(self.experiments), self.stack.row(0)
        weights = sum(tensor.nbytes for tensor in row.parameters.values())
        slots = 0 if any(row.slots.values()) else SLOTS * weights
        # The state is there twice, in the stack and of the best evaluation; gradients, and their sum.
        each = 2 * (row.nbytes + slots) + 2 * weights + 2 * self._activations(batches)
        free = self.device.free_bytes() or free_memory()
        return count_that_fits(runs, each * runs, free)

    def _activations(self, batches: Sequence[Batch]) -> int:
        """Return the bytes that the pass of one run keeps for its gradient."""
        own = {name: tensor[:1].clone() for name, tensor in self.stack.tensors().items()}
        chunks, keys = self._passes(0, batches)[0]
        first = [{name: field[:1] for name, field in chunk.items()} for chunk in chunks]
        first_keys = [(high[:1], low[:1]) for high, low in keys]
        numbers = {name: found[:1] for name, found in self.numbers.items()}
        self.module.model.train()
        with refusing_global_draws(self.config):
            return bytes_kept(lambda: self._forward(own, first, first_keys, numbers))


def _with(tensors: Tensors, model: nn.Module) -> nn.Module:
    """Return a model, as far as it is called, with other parameters and buffers."""
    return cast("nn.Module", lambda *inputs: functional_call(model, tensors, inputs))
