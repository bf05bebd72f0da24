"""The end of a sweep: its jobs compared, and the right exit code."""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from pipeline.command import FULL_ERROR
from pipeline.explain import in_our_words
from pipeline.stop import stop


class Answer(Callback):
    """Hydra's callback at the end of a sweep; what it needs is imported then."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare the jobs, and tell W&B if a job did.

        Raises:
            SystemExit: a job or the comparison failed (1), or the sweep was interrupted (130, 143).
        """
        if config.sweep.dry_run:
            return
        from pipeline.compare.records import collect
        from pipeline.objective import tell_best

        folder = Path(config.hydra.sweep.dir)
        compared = self.compare(folder)
        if stop.exit_code is not None:
            raise SystemExit(stop.exit_code)
        statuses = {record.status for record in collect([folder])}
        if tell_best(folder):
            statuses.discard("failed")  # of a search: an answer like any other
        if statuses & {"failed", "lost"} or not compared:
            raise SystemExit(1)
        if statuses - {"completed"}:
            raise SystemExit(130)

    def compare(self, folder: Path) -> bool:
        """Whether the comparison could be made: Hydra takes an error of a callback for a warning."""
        from pipeline.compare import Files, compare
        from pipeline.loggers.wandb.report import log_report

        try:
            made = compare([folder], Files(folder))
            if stop.exit_code is None:
                named = [record.result | {"name": record.name} for record in made.records]
                log_report(folder, named)
        except Exception as error:
            if os.environ.get(FULL_ERROR) == "1":
                traceback.print_exc()
            print(
                f"the comparison failed: {in_our_words(error)}\n"
                f"The runs are whole. Once more: python -m pipeline.compare {folder}",
                file=sys.stderr,
            )
            return False
        return True
