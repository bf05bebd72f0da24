"""Runs that wait after every step until somebody has looked: in threads, or in processes of their own."""

import multiprocessing
import queue
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline import backends, datasets
from pipeline.config import BackendConfig, Config, Precision
from pipeline.draws import generator
from pipeline.experiment import assemble
from pipeline.interruption import Interruption
from pipeline.loggers.metrics_file import MetricsFile
from pipeline.observer import Observer, Trace
from pipeline.plan import data_plan
from pipeline.portable import Arrays, PortableState
from pipeline.progress import Progress
from pipeline.tracker import Tracker

Event = Trace | dict[str, Any] | Exception  # a step; facts or an evaluation; what went wrong
Put = Callable[[Event | None], None]

AHEAD = 1  # steps that a lane may be ahead of whoever looks

# Digits of a significand: one unit in the last place of the numbers that products are made of.
DIGITS = {Precision.fp64: 53, Precision.fp32: 24, Precision.bf16: 8}


class Watcher(Observer):
    """Hands on what it sees.

    Args:
        put: takes an event, and returns when there is room for the next.
        perturb: of the weights at step 0.
    """

    watching = True

    def __init__(self, put: Put, perturb: Callable[[Arrays], Arrays] | None) -> None:
        self.put, self.perturb = put, perturb

    def begins(self, state: PortableState) -> PortableState:
        """The weights, moved by a unit in the last place where that is asked for."""
        if self.perturb is None:
            return state
        return replace(state, parameters=self.perturb(state.parameters))

    def stepped(self, trace: Trace) -> None:
        """Hand on a step."""
        self.put(trace)

    def evaluated(self, step: int, sums: Mapping[str, float]) -> None:
        """Hand on the sums of an evaluation."""
        self.put({"step": step, "evaluation": {key: np.array(sum) for key, sum in sums.items()}})


class Deaf(Interruption):
    """Takes no signals: they are the main thread's."""

    def install(self) -> None:
        """Nothing."""


def follow(config: Config, backend: str, perturbed: bool, put: Put) -> None:
    """Train on one backend, and hand on every step; at the end None, or what went wrong.

    Args:
        config: of the experiment.
        backend: by name.
        perturbed: whether the weights at step 0 are moved by one unit in the last place.
        put: takes the events.
    """
    config = replace(config, backend=BackendConfig(name=backend))
    try:
        with tempfile.TemporaryDirectory() as folder:
            perturb = perturbation(config) if perturbed else None
            watcher = Watcher(put, perturb)
            loaded = backends.load(backend)
            device = loaded.prepare(config)
            experiment = assemble(
                config,
                data_plan(config, datasets.load(config.dataset)),
                Path(folder),
                tracker=Tracker(MetricsFile(Path(folder) / "metrics.jsonl")),
                progress=Progress(1, backend),
                interruption=Deaf(),
                observer=watcher,
            )
            loaded.train(experiment, device)
            put({"facts": experiment.recorder.facts, "device": device.description})
    except Stopped:
        return
    except Exception as error:
        put(error)
        return
    put(None)


def perturbation(config: Config) -> Callable[[Arrays], Arrays]:
    """Moves every weight by one unit in the last place of the run's numbers, up or down at random."""
    unit = 2.0 ** (1 - DIGITS[config.train.precision])

    def perturb(arrays: Arrays) -> Arrays:
        return {
            name: array
            * (1 + unit * generator(config.seed, "ulp", name).choice([-1, 1], array.shape))
            for name, array in arrays.items()
        }

    return perturb


class Lane:
    """One backend's run under way, in a thread or in a process of its own.

    Two frameworks share a CPU in one process; on a GPU each would take what the other needs.

    Args:
        config: of the experiment.
        backend: by name.
        perturbed: see `follow`.
        apart: whether it gets a process.
    """

    def __init__(self, config: Config, backend: str, perturbed: bool, apart: bool) -> None:
        self.backend, self.perturbed = backend, perturbed
        self.stopped = False
        if apart:
            context = multiprocessing.get_context("spawn")
            self.events: Any = context.Queue(AHEAD)
            worker: Any = context.Process
        else:
            self.events, worker = queue.Queue(AHEAD), threading.Thread
        self.worker = worker(
            target=follow, args=(config, backend, perturbed, self._put(apart)), daemon=True
        )

    def _put(self, apart: bool) -> Put:
        return self.events.put if apart else self._put_unless_stopped

    def _put_unless_stopped(self, event: Event | None) -> None:
        while not self.stopped:
            try:
                self.events.put(event, timeout=0.1)
                return
            except queue.Full:
                continue
        raise Stopped

    def __enter__(self) -> Self:
        self.worker.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stopped = True
        if isinstance(self.worker, threading.Thread):
            self.worker.join(timeout=60)
        else:
            self.worker.terminate()

    def next(self) -> Trace | dict[str, Any] | None:
        """The next event; None at the end.

        Raises:
            Exception: what stopped the run.
        """
        event = self.events.get()
        if isinstance(event, Exception):
            raise event
        return event


class Stopped(BaseException):
    """Nobody looks any more."""
