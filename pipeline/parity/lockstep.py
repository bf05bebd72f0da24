"""Two runs in lockstep, each with a perturbed copy that measures its noise."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from pipeline.config.experiment import Config
from pipeline.config.train import Precision
from pipeline.parity.differences import (
    EVALUATION,
    FORWARD,
    LOSS,
    NORM,
    Difference,
    differences,
    evaluation_differences,
    parameters_alone,
)
from pipeline.parity.draws import incomparable, other_counts
from pipeline.parity.workers import BackendWorker, Evaluation, Finished
from pipeline.run.recording.step_observer import LayerDraw, Trace
from pipeline.storage.portable_state import PortableState, Shapes

# Differences that are always accepted: the bar in fp64, a lower limit in the others, since the elementary
# functions of the two frameworks differ by a few units in the last place.
BARS = {Precision.fp64: 1e-10, Precision.fp32: 1e-5, Precision.bf16: 2e-2}
# Accepted multiples of a run's own noise. In fp64 it is the noise of the same quantity, which matters only
# for values that are zero up to rounding, such as the gradient of a bias before a norm, which Adam's
# division enlarges. In fp32 and bf16 it is that of the part's noisiest quantity: one is too small a sample.
MARGINS = {Precision.fp64: 100, Precision.fp32: 3, Precision.bf16: 3}
# In fp64 these are never zero up to rounding: a larger difference is not judged by their noise.
RESULTS, MOST_NOISE = (LOSS, NORM, EVALUATION), 1e-6


@dataclass
class Quantity:
    """One quantity over all steps.

    `values` are the differences between the two runs, by step; `noise` the largest ones between a run and
    its perturbed copy.
    """

    part: str
    name: str
    values: dict[int, float] = field(default_factory=dict)
    noise: dict[int, float] = field(default_factory=dict)

    @property
    def worst(self) -> tuple[float, int]:
        """The largest difference, and its step."""
        step = max(self.values, key=self.values.__getitem__)
        return self.values[step], step

    @property
    def most_noise(self) -> float:
        """The largest noise of all steps; 0 if it was not measured."""
        return max(self.noise.values(), default=0.0)


@dataclass
class Comparison:
    """Result of running an experiment on two backends, which are options of `backend`.

    `quantities` are by part and name, in the order of cause and effect; `noise` is that of each part, by
    step, empty if it was not measured; `losses` are by backend, from step 1. `alone` are the parameters that
    one backend alone has, and `draws` the random numbers that its model draws by itself,
    `narrow` the layer in which it makes float32 in an fp64 run.
    """

    backends: tuple[str, str]
    precision: Precision
    quantities: dict[tuple[str, str], Quantity] = field(default_factory=dict)
    noise: dict[str, dict[int, float]] = field(default_factory=dict)
    finished: dict[str, Finished] = field(default_factory=dict)
    steps: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)
    alone: dict[str, Shapes] = field(default_factory=dict)
    draws: dict[str, tuple[LayerDraw, ...]] = field(default_factory=dict)
    narrow: dict[str, str] = field(default_factory=dict)

    def bar(self, quantity: Quantity, step: int) -> float:
        """Return the accepted difference of a quantity at a step, from the noise up to it."""
        proof = self.precision is Precision.fp64
        noise = quantity.noise if proof else self.noise.get(quantity.part, {})
        so_far = (value for at, value in noise.items() if at <= step)
        return max(BARS[self.precision], MARGINS[self.precision] * max(so_far, default=0.0))

    def parts_at(self, quantity: Quantity) -> int | None:
        """Return the first step at which a quantity is above its bar; None if there is none."""
        for step, value in quantity.values.items():
            # Cheap check first; the bar is slow to compute.
            if value > BARS[self.precision] and value > self.bar(quantity, step):
                return step
        return None

    @property
    def parting(self) -> tuple[int, Quantity] | None:
        """The first step at which a quantity is above its bar, and the first such quantity there.

        Intermediate results only tell the place: they may be in another order on either side.
        """
        steps = [
            (at, quantity)
            for quantity in self.quantities.values()
            if (at := self.parts_at(quantity)) is not None
        ]
        step = min((at for at, quantity in steps if quantity.part != FORWARD), default=None)
        if step is None or self.obstacle:
            return None
        return next(
            (step, quantity)
            for at, quantity in steps
            if at <= step and quantity.values.get(step, 0.0) > self.bar(quantity, step)
        )

    @property
    def obstacle(self) -> str:
        """Why the two cannot be compared; empty if they can."""
        return incomparable(self.draws, self.precision)

    @property
    def abstention(self) -> str:
        """Why there is no verdict; empty if there is one."""
        if self.obstacle or self.parting:
            return self.obstacle
        if self.precision is Precision.fp64:
            for quantity in self.quantities.values():
                if quantity.part in RESULTS and quantity.worst[0] > MOST_NOISE:
                    value, step = quantity.worst
                    return (
                        f"at step {step} the {quantity.part} differs by {value:.1e}, but the same run "
                        f"perturbed by {quantity.most_noise:.1e}: too much noise to tell them apart. Take "
                        "fewer steps, a lower learning rate, or train.randomness=shared"
                    )
        return other_counts(self.draws)

    @property
    def parts(self) -> dict[str, list[Quantity]]:
        """The quantities of each part of a step, in the order of cause and effect."""
        parts: dict[str, list[Quantity]] = {}
        for quantity in self.quantities.values():
            parts.setdefault(quantity.part, []).append(quantity)
        return parts

    def add(
        self, step: int, differ: Callable[..., Iterable[Difference]], sides: Sequence[object]
    ) -> None:
        """Add the differences of a step between the two runs, and between each and its perturbed copy.

        `sides` are the two runs, then their copies, if there are any.
        """
        for one in differ(sides[0], sides[1]):
            key = (one.part, one.name)
            self.quantities.setdefault(key, Quantity(*key)).values[step] = one.value
        for run, perturbed in zip(sides[:2], sides[2:], strict=False):
            for one in differ(run, perturbed):
                if quantity := self.quantities.get((one.part, one.name)):
                    for noise in (quantity.noise, self.noise.setdefault(one.part, {})):
                        noise[step] = max(one.value, noise.get(step, 0.0))

    def note(self, traces: Sequence[Trace]) -> None:
        """Note what either side does alone."""
        for backend, trace, names in zip(
            self.backends, traces, parameters_alone(traces[0], traces[1]), strict=False
        ):
            self.alone[backend] = {name: trace.state.parameters[name].shape for name in names}
            self.draws[backend] = trace.draws
            if trace.narrow:
                self.narrow[backend] = trace.narrow


def compare(
    configs: Mapping[str, Config],
    separate: bool,
    report: Callable[[int, Comparison], None],
    noise: bool = False,
    initial: PortableState | None = None,
) -> Comparison:
    """Run an experiment on two backends in lockstep, and call `report` after each step.

    `configs` are by option of `backend`, and differ in it alone. It raises the error of a run.

    With `separate` each has its own process; with `noise` a perturbed copy of each runs, too. `initial` are
    the values at step 0 that the first of a user's two models makes.
    """
    first, second = backends = tuple(configs)
    comparison = Comparison((first, second), configs[first].train.precision)
    with ExitStack() as stack:
        workers = [
            # Two Orbax checkpoint managers in one process deadlock.
            BackendWorker(config, perturbed, separate or perturbed, initial)
            for perturbed in ((False, True) if noise else (False,))
            for config in configs.values()
        ]
        for worker in workers:  # all are made, and their frameworks set up, before one starts
            stack.enter_context(worker)
        while True:
            events = [worker.next() for worker in workers]
            # Runs that differ may stop or evaluate at different steps.
            if None in events or len({type(event) for event in events}) > 1:
                return comparison
            if traces := [event for event in events if isinstance(event, Trace)]:
                step = comparison.steps = traces[0].step
                comparison.add(step, differences, traces)
                comparison.note(traces)
                if step:
                    for backend, trace in zip(backends, traces, strict=False):
                        comparison.losses.setdefault(backend, []).append(mean_loss(trace))
                report(step, comparison)
                if comparison.obstacle:
                    return comparison
            elif evaluations := [event for event in events if isinstance(event, Evaluation)]:
                sums = [event.sums for event in evaluations]
                comparison.add(evaluations[0].step, evaluation_differences, sums)
            else:
                ends = [event for event in events if isinstance(event, Finished)]
                comparison.finished = dict(zip(backends, ends[:2], strict=True))


def mean_loss(trace: Trace) -> float:
    """Return the mean loss of a step over its samples, or over all their tokens."""
    return float(trace.values[0]) / trace.terms
