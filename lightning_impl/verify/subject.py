"""A torch module under check."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import nn

from lightning_impl.layers import layer_kinds
from lightning_impl.optimizers import build_optimizer
from lightning_impl.verify.adapters.module import call, mode
from lightning_impl.verify.lanes import MODES, run_lane
from lightning_impl.verify.native import numpy_of, sources, to_native, weighted
from lightning_impl.verify.primitives.neutral import Neutral, narrow_buffers
from lightning_impl.verify.trace.recorder import Enough, Recorder
from lightning_impl.verify.trace.replay import NAMESPACE, to_numpy
from pipeline.config.optimizers import OptimizerConfig
from pipeline.config.train import Precision
from pipeline.storage.portable_state import Arrays
from pipeline.verify.replay.recorded import Recorded
from pipeline.verify.sides.channels import Channels
from pipeline.verify.sides.loss import Loss
from pipeline.verify.sides.outputs import LOSS, leaves
from pipeline.verify.sides.subject import MIDDLE, Edit, Inputs, Pass
from pipeline.verify.trace.graph import Array, Description, Trace


class ModuleSubject:
    """A `torch.nn.Module` in float64, on the CPU."""

    def __init__(
        self,
        model: nn.Module,
        keywords: Mapping[str, object],
        channels: Channels | None = None,
        narrow: Collection[str] = (),
        loss: Loss | None = None,
    ) -> None:
        """Take a model; `narrow` are the buffers that it has held in float32."""
        narrow = {*narrow, *narrow_buffers(model)}
        self.model, self.keywords = model.double(), keywords
        self.channels, self.loss = channels or Channels(), loss
        self._varied = 0.0, MIDDLE  # see `vary`
        self._seen: set[tuple[object, ...]] = set()  # modes and shapes of inputs that were run
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.recorded: Recorded[torch.Tensor] = Recorded()
        self.description = Description(
            "torch.nn.Module",
            tuple(
                Array(
                    name,
                    tuple(tensor.shape),
                    "float32" if name in narrow else "float64",
                    name in trained,
                )
                for name, tensor in self.arrays.items()
            ),
            self.channels.notes,
            layer_kinds(model),
            MODES,
        )

    @property
    def arrays(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers; read anew, since a model may replace a buffer by another tensor."""
        buffers = {name: b for name, b in self.model.named_buffers() if b.is_floating_point()}
        return {**dict(self.model.named_parameters()), **buffers}

    def values(self) -> Arrays:
        """Return all parameters and buffers."""
        return {name: to_numpy(tensor).copy() for name, tensor in self.arrays.items()}

    @torch.no_grad()
    def load(self, arrays: Arrays) -> None:
        """Set the named parameters and buffers; others stay."""
        self.recorded.forget()
        self._restore(arrays)

    @torch.no_grad()
    def _restore(self, arrays: Arrays) -> None:
        tensors = self.arrays
        for name, array in arrays.items():
            tensors[name].copy_(torch.from_numpy(np.array(array, order="C")))

    def vary(self, nudge: float = 0.0, uniform: float = MIDDLE) -> None:
        """Change what takes the place of rounding and of random numbers."""
        self.recorded.forget()
        self._varied = nudge, uniform

    def trace(
        self,
        inputs: Inputs,
        training: bool,
        keep: Collection[int] = (),
        until: int | None = None,
        edits: Sequence[Edit] = (),
    ) -> Trace:
        """Run the model once and record its operations; buffers stay as they are."""
        given = self._tensors(inputs)
        if edits:
            before, program = self.recorded.find(inputs, training, self.trace)
            values = sources(self.arrays, given)
            with torch.no_grad():
                return program.trace(before, values, edits, NAMESPACE, keep, until)
        self._fill_caches(given, training)
        recorder = Recorder(self.arrays, given, keep, until, *self._varied)
        with mode(self.model, training), torch.no_grad():
            before = self.values()
            hooks = list(recorder.watch(self.model))
            found: dict[str, torch.Tensor] = {}
            try:
                with suppress(Enough), recorder:
                    found = self._found(given)
                buffers = self._changed(before)
            finally:
                for hook in hooks:
                    hook.remove()
                self._restore(before)
        record = recorder.record
        trace = Trace(
            record.ops,
            record.uses,
            {path: to_numpy(tensor) for path, tensor in found.items()},
            {path: record.place(tensor) for path, tensor in found.items()},
            buffers,
            recorder.draws,
            record.kept,
            {name: record.place(self.arrays[name]) for name in buffers},
        )
        if until is None:
            self.recorded.keep(inputs, training, trace, record.program)
        return trace

    def run(
        self,
        inputs: Inputs,
        training: bool,
        weights: Mapping[str, np.ndarray],
        edits: Sequence[Edit] = (),
    ) -> Pass:
        """Run the model forward and backward; buffers stay as they are."""
        if edits:
            return self._rerun(inputs, training, weights, edits)
        before = self.values()
        with mode(self.model, training), Neutral(*self._varied):
            loss, outputs = self._loss(self._tensors(inputs), weights)
            if loss.requires_grad:  # not that of a function without parameters
                loss.backward()
        gradients = {
            name: to_numpy(tensor.grad).copy()
            for name, tensor in self.arrays.items()
            if tensor.grad is not None
        }
        self.model.zero_grad()
        buffers = self._changed(before)
        self._restore(before)
        return Pass(loss.item(), gradients, outputs, buffers)

    def _rerun(
        self,
        inputs: Inputs,
        training: bool,
        weights: Mapping[str, np.ndarray],
        edits: Sequence[Edit],
    ) -> Pass:
        """Run the recorded operations forward and backward, with edits."""
        trace, program = self.recorded.find(inputs, training, self.trace)
        trained = {array.name for array in self.description.arrays if array.is_trained}
        values = sources(self.arrays, self._tensors(inputs))
        for (_, name), tensor in values.items():
            tensor.requires_grad_(name in trained)
        found = program.run(values, edits, NAMESPACE)
        outputs = {p: found[at] for p, at in program.results(trace.results, edits).items()}
        buffers = {n: found[at] for n, at in program.results(trace.updates, edits).items()}
        loss = weighted(outputs, weights)
        loss.backward()
        gradients = {
            name: to_numpy(tensor.grad)
            for (_, name), tensor in values.items()
            if tensor.is_leaf and tensor.grad is not None
        }
        return Pass(loss.item(), gradients, numpy_of(outputs), numpy_of(buffers))

    def train(
        self,
        batches: Sequence[Inputs],
        weights: Mapping[str, np.ndarray],
        optimizer: OptimizerConfig,
        trained: Mapping[str, np.ndarray],
    ) -> list[tuple[float, Arrays]]:
        """Take an optimizer step on each batch; return each step's loss, and all values after it."""
        before, steps = self.values(), []
        masks = {name: torch.from_numpy(np.asarray(mask)) for name, mask in trained.items()}
        learning = [(name, p) for name, p in self.model.named_parameters() if name in masks]
        updates = build_optimizer(optimizer, learning) if learning else None
        with mode(self.model, True), Neutral(*self._varied):
            for batch in batches:
                loss, _ = self._loss(self._tensors(batch), weights)
                if updates:
                    loss.backward()
                    for name, parameter in learning:
                        if parameter.grad is not None:
                            parameter.grad *= masks[name]
                    updates.step()
                self.model.zero_grad()
                steps.append((loss.item(), self.values()))
        self._restore(before)
        return steps

    def lane(
        self,
        inputs: Inputs,
        training: bool,
        weights: Mapping[str, np.ndarray],
        precision: Precision,
        compiled: bool,
    ) -> Pass:
        """Run the model forward and backward as its users would run it; it stays as it is."""
        given = self._tensors(inputs)
        return run_lane(self.model, self._found, given, training, weights, precision, compiled)

    def _fill_caches(self, given: Mapping[str, torch.Tensor], training: bool) -> None:
        """Run the model before it is first recorded: it may keep tables that it makes when it is called."""
        key = (training, *((name, tensor.shape) for name, tensor in given.items()))
        if key in self._seen:
            return
        self._seen.add(key)
        before = self.values()
        try:
            with mode(self.model, training), torch.no_grad(), Neutral(*self._varied):
                call(self.model, given, self.keywords, self.loss)
        finally:
            self._restore(before)

    def _found(self, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the outputs by path, and the loss made of them."""
        output = call(self.model, given, self.keywords, self.loss)
        found = dict(leaves(output, torch.is_tensor))
        return found | ({LOSS: self.loss(output, given)} if self.loss else {})

    def _loss(
        self, given: Mapping[str, torch.Tensor], weights: Mapping[str, np.ndarray]
    ) -> tuple[torch.Tensor, Arrays]:
        found = self._found(given)
        return weighted(found, weights), numpy_of(found)

    def _changed(self, before: Arrays) -> Arrays:
        after = self.values()
        return {
            array.name: after[array.name]
            for array in self.description.arrays
            if not np.array_equal(after[array.name], before[array.name])
        }

    def _tensors(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        return to_native(self.channels.turn(inputs))
