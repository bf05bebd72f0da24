"""Process of one backend in a benchmark: it trains and infers when it is asked to, and waits in between.

It runs the backend's own training loop, with its batches, steps and recorder; the recorder stops the loop
after as many steps as were asked for.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from pipeline.bench.results import INFER, LAYERS, OUT_OF_MEMORY, TRAIN
from pipeline.bench.timing.recorder import BenchRecorder, Enough
from pipeline.config.experiment import Config
from pipeline.config.models import OwnConfig
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.dataset import Data, Split
from pipeline.devices.hardware import limit_threads
from pipeline.devices.process_exit import die_with_parent, fast_exit
from pipeline.devices.world import ALONE
from pipeline.errors import RunFailed, UserError
from pipeline.run import backends
from pipeline.run.backends import Backend, Device, LayerTimes
from pipeline.run.experiment import Experiment
from pipeline.run.recording.kernels import forget_kernels, noted_kernels
from pipeline.run.recording.recorder import Recorder
from pipeline.user_code import import_attribute, is_out_of_memory, shortened

END = "end"
BATCHES = 16  # of the training set, at least; samples are repeated for it
MOST_BYTES = 2**28  # of repeated samples, unless a single batch is larger


@dataclass(frozen=True)
class Asked:
    """A turn: `count` steps or inferences."""

    phase: str  # TRAIN, INFER, LAYERS or END
    count: int = 1


@dataclass(frozen=True)
class Ready:
    """A phase is ready: its first result is there."""

    phase: str
    device: str
    fallback: str
    first_seconds: float  # from the start of the process to the first loss
    compile_seconds: float
    memory_mb: float  # peak so far
    parameters: int
    unit: int  # turns are whole multiples of so many steps
    attention: str = ""  # kernels that it took


@dataclass(frozen=True)
class Turn:
    """Seconds of a turn, and the steps or inferences that it took."""

    count: int
    seconds: float


@dataclass(frozen=True)
class Layers:
    """Times of layers; none, and the reason, if the backend cannot tell them."""

    times: LayerTimes
    reason: str = ""


@dataclass(frozen=True)
class Failed:
    """The process cannot go on; `refused` is an error that no batch size changes."""

    reason: str
    refused: UserError | None = None


Answer = Ready | Turn | Layers | Failed


class TurnRecorder(BenchRecorder):
    """Recorder that reports every turn of training steps, and waits for the next."""

    def __init__(self, config: Config, data: Data, connection: Connection, started: float) -> None:
        super().__init__(config, data)
        self.connection, self.started = connection, started
        self.asked: Asked | None = None
        self.taken, self.turn_started = 0, 0.0

    def record_step(self, step: int, values: object) -> None:
        """Record a step as in a run; after the last one of a turn, report it and wait for the next.

        Raises:
            Enough: another phase is asked for.
        """
        count = step - self.step
        super().record_step(step, values)
        self.taken += count
        if self.asked and self.taken < self.asked.count:
            return
        self.device.read([values])  # waits for the device
        now = time.perf_counter()
        if self.asked is None:
            self.connection.send(self.ready(TRAIN, now, count))
        else:
            self.connection.send(Turn(self.taken, now - self.turn_started))
        self.asked = self.connection.recv()
        if self.asked.phase != TRAIN:
            raise Enough
        self.taken, self.turn_started = 0, time.perf_counter()

    def ready(self, phase: str, now: float, unit: int = 1) -> Ready:
        """Return the facts of a phase whose first result is there."""
        return Ready(
            phase,
            self.device.description,
            self.device.fallback,
            now - self.started,
            self.stopwatch.seconds["compile"],
            self.device.peak_memory_mb(),
            int(self.facts["parameters"]),
            unit,
            noted_kernels(),
        )


def serve(config: Config, connection: Connection, started: float) -> None:
    """Measure one backend when asked over a connection, until it says END, and leave the process.

    `started` is the time of `time.perf_counter` at which this process was started.
    """
    die_with_parent(signal.SIGKILL)
    code = 1
    try:
        with tempfile.TemporaryDirectory() as folder:
            work(config, connection, started, Path(folder))
        code = 0
    except (EOFError, BrokenPipeError):
        pass  # the parent has ended
    except BaseException as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exception(error)
        with suppress(OSError):
            connection.send(failed(error))
            connection.recv()
    sys.stdout.flush()
    fast_exit(code)


def work(config: Config, connection: Connection, started: float, folder: Path) -> None:
    """Train until another phase is asked for, then infer."""
    forget_kernels()
    try:
        limit_threads(config.accelerator.threads)
        backend = backends.load(config.backend.name)
        device = backend.prepare(config, ALONE)
        import_own_model(config)
    except UserError as error:
        connection.send(Failed(str(error), refused=error))
        connection.recv()
        return
    data = repeated(sources.load(config.dataset, config.task), config.train.batch_size)
    plan = make_batch_plan(config, data)
    recorder = TurnRecorder(config, data, connection, started)
    experiment = Experiment(config, plan, recorder, folder)
    with suppress(Enough):
        backend.train(experiment, device)
    asked = recorder.asked
    if asked is None or asked.phase != INFER:
        return
    memory = device.peak_memory_mb()
    infer = backend.inference(replace(experiment, recorder=Recorder(config, data)), device)
    infer()
    ready = recorder.ready(INFER, time.perf_counter())
    connection.send(replace(ready, memory_mb=memory))
    while (asked := connection.recv()).phase == INFER:
        before = time.perf_counter()
        for _ in range(asked.count):
            infer()
        connection.send(Turn(asked.count, time.perf_counter() - before))
    if asked.phase == LAYERS:
        connection.send(
            layers(backend, replace(experiment, recorder=Recorder(config, data)), device)
        )
        connection.recv()


def import_own_model(config: Config) -> None:
    """Import a user's own model: a wrong name is known before anything is made of it.

    Raises:
        UserError: it cannot be imported.
    """
    if isinstance(config.model, OwnConfig):
        key = config.backend.name
        import_attribute(getattr(config.model, key), f"model.{key}")


def layers(backend: Backend, experiment: Experiment, device: Device) -> Layers:
    """Return the times of layers, or the reason why there are none."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # torch's profiler tells of its own events there
    try:
        return Layers(backend.layer_times(experiment, device))
    except Exception as error:  # of a profiler: what was measured so far stays
        return Layers({}, failed(error).reason)


def failed(error: BaseException) -> Failed:
    """Return the reason of an error for the parent."""
    if is_out_of_memory(error):
        return Failed(OUT_OF_MEMORY)
    if isinstance(error, UserError | RunFailed):
        return Failed(str(error))
    return Failed(shortened(error))


def repeated(data: Data, batch: int) -> Data:
    """Return data whose training samples are repeated until they are several batches.

    Stored fields stay as they are: they are read in batches.
    """
    train = data.train
    most = max(-(-batch // len(train)), MOST_BYTES // max(1, train.nbytes))
    times = min(-(-BATCHES * batch // len(train)), most)
    if times <= 1 or train.stored:
        return data
    # Fields that share an array share the repeated one.
    arrays = {id(a): np.concatenate([a] * times) for a in train.arrays.values()}
    fields = {name: arrays[id(array)] for name, array in train.arrays.items()}
    return replace(data, train=Split(fields))


def keep_no_programs(folder: Path) -> None:
    """Have the backends' processes keep compiled programs in an empty folder, to measure compilation."""
    os.environ["TANDEM_CACHE"] = str(folder)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
