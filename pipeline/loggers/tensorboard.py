"""TensorBoard's event files, by tensorboard's own writer, with neither torch nor TensorFlow.

Event files cannot be rewritten. What a resumed run leaves behind is purged by TensorBoard when it
reads a session start with a step: it then drops what the run has at that step and after. The first
session start of all drops nothing, so every run begins with one: `rewind(-1)`.
Source: `_CheckForRestartAndMaybePurge` in tensorboard's `plugin_event_accumulator.py`.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from pipeline.loggers import Logger


class TensorboardLogger(Logger):
    """Writes scalars into a new event file in `folder`; show them with `tensorboard --logdir`.

    Args:
        folder: the folder with the event files; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        # By this module's presence tensorboard knows that it is not to load TensorFlow, which
        # would take seconds and, on a GPU machine, the GPU.
        sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._session = event_pb2.Event, event_pb2.SessionLog
        self._summary = summary_pb2.Summary
        self._writer = EventFileWriter(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [self._summary.Value(tag=key, simple_value=values[key]) for key in values]
        self._add(step, summary=self._summary(value=scalars))

    def rewind(self, step: int) -> None:
        self._add(step + 1, session_log=self._session(status=self._session.START))

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        self._writer.close()

    def _add(self, step: int, **what: object) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, **what))
        self._writer.flush()
