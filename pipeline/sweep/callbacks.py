"""The end of a sweep: comparison of its jobs, and the exit code."""

import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pipeline.commands import command
from pipeline.config.checks.hydra_errors import to_user_error
from pipeline.job_context import job_context
from pipeline.sweep.stop_sweep import stop

if TYPE_CHECKING:
    from pipeline.compare.comparison import Comparison


class CompareAtEnd(Callback):
    """Hydra callback at the end of a sweep. Its imports are deferred, to keep the start fast."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare the jobs, log the comparison to W&B if a job logged there, and set the exit code.

        It is 1 if a job or the comparison failed, and 130 or 143 if the sweep was interrupted.
        """
        if config.sweep.dry_run or sys.exc_info()[0]:  # Hydra 1.4 calls this after an error, too
            return
        from pipeline.formatting import format_number
        from pipeline.sweep.objective import BEST

        folder = Path(config.hydra.sweep.dir)
        made = self.compare(folder)
        if stop.exit_code is not None:
            raise SystemExit(stop.exit_code)
        statuses = {record.status for record in made.records} if made else set()
        if (folder / BEST).exists():
            best = OmegaConf.load(folder / BEST)
            words = " ".join(f"{name}={value}" for name, value in best.best_params.items())
            value = format_number(best.best_value)
            print(f"best: {best.metric} {value} of trial {best.trial}: {words}")
            statuses.discard("failed")  # a search continues after failed trials
        if statuses & {"failed", "lost"} or made is None:
            raise SystemExit(1)
        if statuses - {"completed"}:
            raise SystemExit(130)

    def compare(self, folder: Path) -> "Comparison | None":
        """Compare the jobs; return None after an error, which Hydra would turn into a warning."""
        from pipeline.compare import Files, compare
        from pipeline.loggers.wandb.report import log_report

        try:
            made = compare([folder], Files(folder))
            if stop.exit_code is None:
                named = [replace(record.result, name=record.name) for record in made.records]
                log_report(folder, named)
        except Exception as error:
            if job_context().full_error:
                traceback.print_exc()
            print(
                f"the comparison failed: {to_user_error(error)}\n"
                f"The runs are whole. Once more: {command('compare')} {folder}",
                file=sys.stderr,
            )
            return None
        return made
