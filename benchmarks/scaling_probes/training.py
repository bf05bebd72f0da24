"""Some training steps of an experiment: CPU seconds to the first step and of each further one."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median

import hydra

from pipeline.bench.timing.recorder import BenchRecorder, Enough
from pipeline.config.experiment import Config, register, typed
from pipeline.config.hydra_compat import compose_from
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.dataset import Data
from pipeline.devices.hardware import limit_threads
from pipeline.devices.world import ALONE
from pipeline.run import backends
from pipeline.run.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
STEPS = 9  # after the first
EVERY = (
    "logger=none", "accelerator=cpu", "accelerator.threads=1", "optimizer=adamw",
    "train.batch_size=8", "train.log_every=1",
)  # fmt: skip


class SomeSteps(BenchRecorder):
    """Recorder that notes the CPU seconds of the process at every step, and ends the loop after some."""

    def __init__(self, config: Config, data: Data) -> None:
        super().__init__(config, data)
        self.at: list[float] = []

    def record_step(self, step: int, values: object) -> None:
        """Note the time of a step.

        Raises:
            Enough: it was the last.
        """
        super().record_step(step, values)
        self.device.read([values])  # waits for the device
        self.at.append(time.process_time())
        if len(self.at) > STEPS:
            raise Enough


def compose(overrides: Sequence[str]) -> Config:
    """Compose an experiment."""
    register()
    with compose_from(ROOT / "conf"):
        return typed(hydra.compose("config", [*EVERY, *overrides]))


def train_some(overrides: Sequence[str], folder: Path) -> dict[str, float]:
    """Take some steps; return CPU seconds and memory of the process, the parameters, and the samples.

    The set-up begins after all imports, and ends with the first step: compilation is part of it. The time of
    a step is the median: Python's garbage collection falls into one or the other.
    """
    config = compose(overrides)
    limit_threads(config.accelerator.threads)
    backend = backends.load(config.backend.name)
    device = backend.prepare(config, ALONE)
    before = time.process_time()
    data = sources.load(config.dataset, config.task)
    recorder = SomeSteps(config, data)
    plan = make_batch_plan(config, data)
    with suppress(Enough):
        backend.train(Experiment(config, plan, recorder, folder), device)
    return {
        "parameters": int(recorder.facts["parameters"]),
        "samples": len(data.train),
        "set-up s": recorder.at[0] - before,
        "step ms": 1000 * median(b - a for a, b in pairwise(recorder.at)),
        "own MB": own_memory_mb(),
    }


def own_memory_mb() -> float:
    """Memory of this process now, without pages of mapped files, which the system takes back as it needs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1e3
    print("this system does not tell of anonymous memory", file=sys.stderr)
    return float("nan")
