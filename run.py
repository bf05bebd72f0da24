"""Entry point: Hydra composes the experiment, pipeline.run.runner runs it.

python run.py                                # train a CNN on handwritten digits, then test it
python run.py -m backend=torch,jax model=cnn # the same experiment on both frameworks, compared
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback for Ctrl-C during the imports

from omegaconf import DictConfig

from pipeline.cli.main import command_line, run_job
from pipeline.config.experiment import register
from pipeline.config.hydra_compat import main
from pipeline.devices.process_exit import fast_exit

register()


@main(config_path="conf", config_name="config")
def job(composed: DictConfig) -> float | None:
    """One job: of a sweep, in a process of its own; otherwise here."""
    return run_job(composed)


if __name__ == "__main__":
    fast_exit(command_line(job))
