"""A model in a process of its own, as the core sees it."""

import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.config.optimizers import OptimizerConfig
from pipeline.config.train import Precision
from pipeline.errors import RunFailed, UserError
from pipeline.storage.portable_state import Arrays
from pipeline.verify.sides.refusals import describe_arrays
from pipeline.verify.sides.subject import MIDDLE, Edit, Inputs, Pass
from pipeline.verify.sides.worker import Opening
from pipeline.verify.trace.graph import Description, Trace

ROOT = Path(__file__).resolve().parents[3]
LANE_SECONDS = 300.0  # a compiler may take for ever


class Side:
    """A `Subject` whose model lives in a child process."""

    description: Description

    def __init__(self, name: str, opening: Opening) -> None:
        self.name, self.opening = name, opening
        self.loaded: Arrays = {}
        self._start()

    def _start(self) -> None:
        """Start the child process, and have it open the model."""
        self.connection, theirs = Pipe()
        path = os.pathsep.join(
            filter(None, (os.getcwd(), str(ROOT), os.environ.get("PYTHONPATH", "")))
        )
        threads = {
            "OMP_NUM_THREADS": str(self.opening.threads),
            "MKL_NUM_THREADS": str(self.opening.threads),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.verify.sides.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path, **threads},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._send("open", self.opening)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.connection.close()
        if failure[0] is not None:  # it may be in the middle of something long
            self.process.kill()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_until_open(self) -> Self:
        """Wait until the model is there; both sides open at the same time."""
        self.description = self._receive()  # type: ignore[assignment]
        return self

    def imported_files(self) -> list[str]:
        """Return the files of the user's code that the model's process has imported."""
        return self._call("imported_files")

    def values(self) -> Arrays:
        """Return all parameters and buffers."""
        return self._call("values")

    def load(self, arrays: Arrays) -> None:
        """Set the named parameters and buffers."""
        self.loaded |= arrays
        self._call("load", arrays)

    def vary(self, nudge: float = 0.0, uniform: float = MIDDLE) -> None:
        """Change what takes the place of rounding and of random numbers."""
        self._call("vary", nudge, uniform)

    def trace(
        self,
        inputs: Inputs,
        training: bool,
        keep: Collection[int] = (),
        until: int | None = None,
        edits: Sequence[Edit] = (),
    ) -> Trace:
        """Run the model once and record its operations."""
        return self._call("trace", inputs, training, keep=keep, until=until, edits=edits)

    def run(
        self,
        inputs: Inputs,
        training: bool,
        weights: Mapping[str, np.ndarray],
        edits: Sequence[Edit] = (),
    ) -> Pass:
        """Run the model forward and backward."""
        return self._call("run", inputs, training, weights, edits)

    def train(
        self,
        batches: Sequence[Inputs],
        weights: Mapping[str, np.ndarray],
        optimizer: OptimizerConfig,
        trained: Mapping[str, np.ndarray],
    ) -> list[tuple[float, Arrays]]:
        """Take an optimizer step on each batch."""
        return self._call("train", batches, weights, optimizer, trained)

    def lane(
        self,
        inputs: Inputs,
        training: bool,
        weights: Mapping[str, np.ndarray],
        precision: Precision,
        compiled: bool,
    ) -> Pass:
        """Run the model forward and backward as its users would run it.

        Raises:
            UserError: it takes too long. A compiler cannot be interrupted: its process is replaced.
        """
        self._send("lane", (inputs, training, weights, precision, compiled), {})
        if self.connection.poll(LANE_SECONDS):
            return self._receive(f" {self._mode_of('lane', inputs, training)}")
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self._start()
        self.wait_until_open()
        self._call("load", self.loaded)
        problem = f"it takes longer than {LANE_SECONDS:g} s"
        raise UserError(self.name, self.opening.path, problem=problem)

    def _call(self, method: str, *args: object, **kwargs: object):  # noqa: ANN202
        self._send(method, args, kwargs)
        return self._receive(f" {self._mode_of(method, *args)}")

    @staticmethod
    def _mode_of(method: str, *args: object) -> str:
        """Tell what a model does in a call, for messages."""
        if method in ("trace", "run", "lane"):
            return "in training mode" if args[1] else "in evaluation mode"
        return "in an optimizer step" if method == "train" else f"in {method}"

    def _send(self, *message: object) -> None:
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None

    def _receive(self, when: str = ""):  # noqa: ANN202
        try:
            state, value = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._died() from None
        if state == "done":
            return value
        if state == "user error":
            raise UserError(**value)
        if state == "memory":
            raise self._too_large()
        problem = f"it fails{when} with {describe_arrays(self.opening.inputs)}: {value}"
        raise UserError(self.name, self.opening.path, problem=problem)

    def _died(self) -> Exception:
        code = self.process.wait()
        if code in (-9, 137):
            return self._too_large()
        return RunFailed(
            f"{self.name}: the process of {self.opening.path} ended with exit code {code}"
        )

    def _too_large(self) -> UserError:
        hint = "Make it smaller: fewer layers, a smaller batch, shorter inputs."
        return UserError(
            self.name, self.opening.path, hint=hint, problem="it does not fit the memory"
        )
