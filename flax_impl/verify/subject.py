"""A JAX model of any kind under check."""

from collections.abc import Callable, Collection, Container, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flax_impl.device import PyTree
from flax_impl.optimizers import build_optimizer
from flax_impl.verify.adapters.function import Function
from flax_impl.verify.lanes import MODES, run_lane
from flax_impl.verify.native import numpy_of, sources, to_native, weighted
from flax_impl.verify.primitives.evaluation import by_primitives, lifted, traced
from flax_impl.verify.primitives.precision import NARROW
from flax_impl.verify.trace.recorder import Recorder, record_call
from flax_impl.verify.trace.replay import NAMESPACE
from pipeline.config.optimizers import OptimizerConfig
from pipeline.config.train import Precision
from pipeline.storage.portable_state import Arrays
from pipeline.verify.replay.recorded import Recorded
from pipeline.verify.sides.channels import Channels
from pipeline.verify.sides.loss import Loss
from pipeline.verify.sides.outputs import LOSS, leaves
from pipeline.verify.sides.subject import MIDDLE, Edit, Inputs, Pass
from pipeline.verify.trace.graph import Array, Description, Trace


class FunctionSubject:
    """A model as a pure function of its arrays, in float64, on the CPU."""

    def __init__(
        self,
        function: Function,
        channels: Channels | None = None,
        loss: Loss | None = None,
        taken: Collection[str] | None = None,
    ) -> None:
        """Take a function; `taken` are the names of its inputs, if not all: others are the loss's."""
        self.function, self.channels = function, channels or Channels()
        self.loss, self.taken = loss, taken
        self.arrays = {
            name: jnp.asarray(array, jnp.float64)
            for name, array in function.arrays.items()
            if jnp.issubdtype(array.dtype, jnp.floating)
        }
        # Counters and the like: they are passed on as they are.
        self.others = {n: a for n, a in function.arrays.items() if n not in self.arrays}
        self.recorded: Recorded[PyTree] = Recorded()
        self._varied = 0.0, MIDDLE  # see `vary`
        self._traced: dict[tuple, Callable] = {}
        self.description = Description(
            function.kind,
            tuple(
                Array(name, tuple(array.shape), _dtype(function, name), name in function.trained)
                for name, array in self.arrays.items()
            ),
            function.notes + self.channels.notes,
            modes=MODES,
        )

    def values(self) -> Arrays:
        """Return all parameters and buffers."""
        return {name: np.array(array) for name, array in self.arrays.items()}

    def load(self, arrays: Arrays) -> None:
        """Set the named parameters and buffers; others stay."""
        self.recorded.forget()
        self.arrays |= {name: jnp.asarray(array, jnp.float64) for name, array in arrays.items()}

    def vary(self, nudge: float = 0.0, uniform: float = MIDDLE) -> None:
        """Change what takes the place of rounding and of random numbers."""
        self.recorded.forget()
        self._traced.clear()
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
        given = self._arrays(inputs)
        if edits:
            before, program = self.recorded.find(inputs, training, self.trace)
            values = sources(self.arrays, given)
            return program.trace(before, values, edits, NAMESPACE, keep, until)
        call = self._call(training, inputs)
        recorder = Recorder(keep, until, *self._varied, self.function.root)
        results, places = record_call(call, self.arrays, given, recorder)
        (outputs, buffers), places = (results, places) if results else (({}, {}), ({}, {}))
        changed = self._changed(buffers)
        record = recorder.record
        trace = Trace(
            record.ops,
            record.uses,
            {path: np.asarray(array) for path, array in outputs.items()},
            places[0],
            changed,
            record.draws,
            record.kept,
            {name: places[1][name] for name in changed},
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
        trained, fixed = self._split(self.function.trained)
        (loss, (outputs, buffers)), gradients = self._gradients(training, inputs)(
            trained, fixed | self.others, self._arrays(inputs), dict(weights)
        )
        return Pass(float(loss), numpy_of(gradients), numpy_of(outputs), self._changed(buffers))

    def _rerun(
        self,
        inputs: Inputs,
        training: bool,
        weights: Mapping[str, np.ndarray],
        edits: Sequence[Edit],
    ) -> Pass:
        """Run the recorded operations forward and backward, with edits."""
        trace, program = self.recorded.find(inputs, training, self.trace)

        def loss(trained: PyTree, fixed: PyTree, given: PyTree) -> tuple[jax.Array, PyTree]:
            values = sources({**trained, **fixed}, given)
            found = program.run(values, edits, NAMESPACE)
            outputs, buffers = (
                {path: found[at] for path, at in program.results(places, edits).items()}
                for places in (trace.results, trace.updates)
            )
            return weighted(outputs, weights), (outputs, buffers)

        both = by_primitives(jax.value_and_grad(loss, has_aux=True))
        trained, fixed = self._split(self.function.trained)
        (value, (outputs, buffers)), gradients = both(trained, fixed, self._arrays(inputs))
        return Pass(float(value), numpy_of(gradients), numpy_of(outputs), numpy_of(buffers))

    def train(
        self,
        batches: Sequence[Inputs],
        weights: Mapping[str, np.ndarray],
        optimizer: OptimizerConfig,
        trained: Mapping[str, np.ndarray],
    ) -> list[tuple[float, Arrays]]:
        """Take an optimizer step on each batch; return each step's loss, and all values after it."""
        learning, fixed = self._split(trained)
        others, updates = self.others, build_optimizer(optimizer)
        state, steps = updates.init(learning), []

        @by_primitives
        def update(learning: PyTree, state: PyTree, gradients: PyTree) -> tuple[PyTree, PyTree]:
            gradients = {name: gradient * trained[name] for name, gradient in gradients.items()}
            changes, state = updates.update(gradients, state, learning)
            changes = optax.tree.scale(-optimizer.lr, changes)
            return optax.apply_updates(learning, changes), state

        for batch in batches:
            (loss, (_, buffers)), gradients = self._gradients(True, batch)(
                learning, fixed | others, self._arrays(batch), dict(weights)
            )
            learning, state = update(learning, state, gradients)
            fixed = {name: buffers.get(name, array) for name, array in fixed.items()}
            others = {name: buffers.get(name, array) for name, array in others.items()}
            steps.append((float(loss), numpy_of(learning | fixed)))
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

        call = self._call(training, inputs)

        def apply(arrays: PyTree, inputs: PyTree) -> PyTree:
            return call(arrays, inputs)[0]

        trained, fixed = self._split(self.function.trained)
        held = numpy_of(trained), numpy_of(fixed)
        given = numpy_of(self._arrays(inputs))
        return run_lane(apply, held, given, dict(weights), precision, compiled)

    def try_out(self, inputs: Inputs) -> None:
        """Run the model in evaluation mode, without numbers; raises the error with which it refuses."""
        traced(self._call(False, inputs), self.arrays, self._arrays(inputs))

    def _arrays(self, inputs: Inputs) -> dict[str, jax.Array]:
        return to_native(self.channels.turn(inputs))

    def _call(self, training: bool, inputs: Inputs) -> Callable[[PyTree, PyTree], PyTree]:
        """Return the model as a function of its float arrays and inputs, with its outputs as leaves."""
        order = list(inputs)  # JAX sorts the keys of a dictionary

        def call(arrays: PyTree, inputs: PyTree) -> PyTree:
            given = {name: inputs[name] for name in order}
            taken = {n: a for n, a in given.items() if self.taken is None or n in self.taken}
            output, buffers = self.function.apply({**self.others, **arrays}, taken, training)
            found = dict(leaves(output, lambda leaf: isinstance(leaf, jax.Array)))
            return found | ({LOSS: self.loss(output, given)} if self.loss else {}), buffers

        return call

    def _gradients(self, training: bool, inputs: Inputs) -> Callable:
        """Return the loss, with outputs and buffers, and its gradients."""
        key = (training, *inputs)
        if key not in self._traced:
            call = lifted(self._call(training, inputs), *self._varied)

            def loss(
                trained: PyTree, fixed: PyTree, inputs: PyTree, weights: PyTree
            ) -> tuple[jax.Array, PyTree]:
                outputs, buffers = call({**trained, **fixed}, inputs)
                return weighted(outputs, weights), (outputs, buffers)

            self._traced[key] = by_primitives(jax.value_and_grad(loss, has_aux=True))
        return self._traced[key]

    def _split(self, trained: Container[str]) -> tuple[PyTree, PyTree]:
        """Return the arrays with gradients, and the others."""
        learning = {name: array for name, array in self.arrays.items() if name in trained}
        return learning, {name: a for name, a in self.arrays.items() if name not in learning}

    def _changed(self, buffers: Mapping[str, PyTree]) -> Arrays:
        known = {name: np.asarray(a) for name, a in buffers.items() if name in self.arrays}
        return {name: a for name, a in known.items() if not np.array_equal(a, self.arrays[name])}


def _dtype(function: Function, name: str) -> str:
    """Return float32 for a table that a model holds in it; parameters are float64."""
    is_narrow = function.arrays[name].dtype in NARROW and name not in function.trained
    return "float32" if is_narrow else "float64"
