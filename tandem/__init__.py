"""Experiments from Python, in a script or a notebook.

    experiment = tandem.compose("model=vit", "backend=jax")
    run = tandem.run(experiment)
    run.metrics, run.predictions, run.model, run.predict(images)
    tandem.compare([run, tandem.load("outputs/first")])

It imports no framework: a run is a process of its own, and `run.model` imports that of its backend.
"""

from pipeline.errors import RunFailed, UserError
from pipeline.verify.assertion import assert_same
from tandem.comparison import Comparison, compare
from tandem.experiment import Experiment, compose
from tandem.finished import Run, load
from tandem.start import run

__all__ = [
    "Comparison", "Experiment", "Run", "RunFailed", "UserError", "assert_same", "compare",
    "compose", "load", "run",
]  # fmt: skip
