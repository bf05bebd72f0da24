"""Runs that wait after every step for its comparison, in threads or in their own processes."""

import multiprocessing
import queue
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue as ProcessQueue
from pathlib import Path
from typing import Self

from pipeline.config.experiment import BackendConfig, Config
from pipeline.config.models import OwnConfig
from pipeline.config.train import Precision
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.dataset import Data
from pipeline.devices.stop_signals import StopSignal
from pipeline.devices.world import ALONE
from pipeline.errors import Diverged, RunFailed, UserError
from pipeline.loggers.metrics_file import MetricsFile
from pipeline.loggers.tracker import Tracker
from pipeline.rng import generator
from pipeline.run import backends
from pipeline.run.banner import warn_of_fallback
from pipeline.run.experiment import Experiment
from pipeline.run.recording.recorder import Recorder
from pipeline.run.recording.step_observer import Observer, Trace
from pipeline.run.start.initial_values import backend_of_values
from pipeline.run.start.pretrained import weights_of
from pipeline.run.transfer import make_initial
from pipeline.storage.portable_state import PortableState


@dataclass(frozen=True)
class Evaluation:
    """Sums over the validation set after a step."""

    step: int
    sums: Mapping[str, float]


@dataclass(frozen=True)
class Finished:
    """Digests and number of parameters of a run, and its device."""

    facts: Mapping[str, object]
    device: str


Event = Trace | Evaluation | Finished | Exception | None  # None: the run has ended
Put = Callable[[Event], None]  # blocks until there is room for the event

AHEAD = 1  # steps that a run may be ahead of the comparison

# Binary digits of a significand.
DIGITS = {Precision.fp64: 53, Precision.fp32: 24, Precision.bf16: 8}


class Watcher(Observer):
    """Observer that sends every step to the comparison."""

    watching = True

    def __init__(self, config: Config, perturbed: bool, put: Put) -> None:
        self.config, self.perturbed, self.put = config, perturbed, put
        self.compares = isinstance(config.model, OwnConfig)  # ours draw by `train.randomness`

    def begins(self, state: PortableState) -> PortableState:
        """Return the state; if `perturbed`, each weight moves up or down by 1 ulp, at random."""
        if not self.perturbed:
            return state
        unit = 2.0 ** (1 - DIGITS[self.config.train.precision])
        moved = {}
        for name, array in state.parameters.items():
            draw = generator(self.config.seed, "ulp", name)
            moved[name] = array * (1 + unit * draw.choice([-1, 1], array.shape))
        return replace(state, parameters=moved)

    def stepped(self, trace: Trace) -> None:
        """Send a step."""
        self.put(trace)

    def evaluated(self, step: int, sums: Mapping[str, float]) -> None:
        """Send the sums of an evaluation."""
        self.put(Evaluation(step, {key: float(total) for key, total in sums.items()}))


class NoSignals(StopSignal):
    """Stop signal that is never raised: only the main thread handles signals."""

    def install(self) -> None:
        """Install no handler."""


def train(config: Config, perturbed: bool, put: Put, initial: PortableState | None = None) -> None:
    """Train and send every step to `put`; at the end None, or the error.

    If `perturbed`, the weights at step 0 move by 1 ulp (unit in the last place). `initial` are those of a
    pair's first model.
    """
    end: Exception | None = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            loaded = backends.load(config.backend.name)
            device = loaded.prepare(config, ALONE)
            warn_of_fallback("" if perturbed else device.fallback)
            plan = make_batch_plan(config, sources.load(config.dataset, config.task))
            recorder = Recorder(
                config,
                plan.data,
                open_tracker=lambda step: Tracker(MetricsFile(Path(folder) / "metrics.jsonl")),
                stop_signal=NoSignals(),
                observer=Watcher(config, perturbed, put),
            )
            values = initial if backend_of_values(config) else None
            experiment = Experiment(
                config, plan, recorder, Path(folder), initial=values, weights=weights_of(config)
            )
            loaded.train(experiment, device)
            put(Finished(recorder.facts, device.description))
    except Stopped:
        return
    except (UserError, RunFailed, Diverged) as error:
        end = error
    except BaseException as error:  # SystemExit too: it would end a thread silently
        end = explained(config, error)
    with suppress(Stopped):
        put(end)


def initial_values(configs: Iterable[Config], data: Data, separate: bool) -> PortableState | None:
    """Return the values at step 0 that the first model of a user's pair makes, if a run starts from them.

    With `separate` they are made in a process of their own.
    """
    made = ((config, backend_of_values(config)) for config in configs)
    config, first = next(((config, name) for config, name in made if name), (None, None))
    if config is None or first is None:
        return None
    config = replace(config, backend=BackendConfig(name=first))
    if separate:
        return make_initial(config, data, first, Path())[0].state
    backend = backends.load(first)
    try:
        plan = make_batch_plan(config, data)
        experiment = Experiment(config, plan, Recorder(config, plan.data), Path())
        return backend.initial(experiment, backend.prepare(config, ALONE))
    except (UserError, RunFailed):
        raise
    except Exception as error:
        raise explained(config, error) from error


def explained(config: Config, error: BaseException) -> Exception:
    """Return the error of a run; that of a user's own model as one message with its place in the code."""
    model, backend = config.model, config.backend.name
    if not isinstance(model, OwnConfig):
        return error if isinstance(error, Exception) else RunFailed(f"{backend}: {error!r}")
    path = str(getattr(model, backend))
    source = f"/{path.partition(':')[0].replace('.', '/')}.py"
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):  # the last one in the user's file
        if Path(frame.filename).as_posix().endswith(source):
            place = f" in {frame.filename}, line {frame.lineno}"
    reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    hint = "See docs/porting.md for what a model takes and returns."
    found = UserError(f"model.{backend}", path, hint=hint, problem=f"{reason}{place}")
    found.__cause__ = error
    return found


class BackendWorker:
    """One backend's run, in a thread, or with `separate` in its own process.

    Two frameworks can share a CPU in one process; on a GPU each would take the memory that the other needs,
    and a framework's settings are those of its process.
    """

    def __init__(
        self,
        config: Config,
        perturbed: bool,
        separate: bool,
        initial: PortableState | None = None,
    ) -> None:
        self.backend, self.is_stopped, self.has_ended = config.backend.name, False, False
        if separate:
            context = multiprocessing.get_context("spawn")
            self.events: ProcessQueue[Event] | queue.Queue[Event] = context.Queue(AHEAD)
            run, put = context.Process, self.events.put
        else:
            self.events = queue.Queue(AHEAD)
            run, put = threading.Thread, self._put_unless_stopped
            # It sets variables of the environment, for which the C library has no lock: a thread that reads
            # one at the same time may crash.
            backends.load(self.backend).prepare(config, ALONE)
        self.worker = run(target=train, args=(config, perturbed, put, initial), daemon=True)

    def _put_unless_stopped(self, event: Event) -> None:
        while not self.is_stopped:
            try:
                return self.events.put(event, timeout=0.1)
            except queue.Full:
                continue
        raise Stopped

    def __enter__(self) -> Self:
        self.worker.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.is_stopped = True
        if isinstance(self.worker, threading.Thread):
            self.worker.join(timeout=60)
            return
        if self.has_ended:  # it removes its semaphores
            self.worker.join(timeout=20)
        self.worker.terminate()

    def next(self) -> Trace | Evaluation | Finished | None:
        """Return the next event, None at the end.

        Raises:
            Exception: that of the run.
            RunFailed: its process was killed.
        """
        event = self._wait()
        self.has_ended = event is None or isinstance(event, Exception)
        if isinstance(event, Exception):
            raise event
        return event

    def _wait(self) -> Event:
        while True:
            is_alive = self.worker.is_alive()  # before the wait, which its last event may end
            with suppress(queue.Empty):
                return self.events.get(timeout=1)
            if not is_alive:
                code = getattr(self.worker, "exitcode", None)
                how = "memory may have run out" if code == -signal.SIGKILL else f"exit code {code}"
                raise RunFailed(
                    f"the process of backend={self.backend} has ended without a word: {how}"
                )


class Stopped(BaseException):
    """The comparison has ended before the run."""
