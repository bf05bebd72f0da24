"""The one entry: Hydra composes the experiment, pipeline.experiment runs it.

python run.py                                # train a CNN on handwritten digits, then test it
python run.py -m backend=torch,jax model=cnn # the same experiment on both frameworks, compared
"""

import hydra
from omegaconf import DictConfig

from pipeline.command import command_line, run_job
from pipeline.config import register
from pipeline.processes import leave

register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(composed: DictConfig) -> float | None:
    """One job: of a sweep, in a process of its own; otherwise here."""
    return run_job(composed)


if __name__ == "__main__":
    leave(command_line(job))
