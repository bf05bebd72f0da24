"""TensorBoard event files, written by tensorboard's own writer without torch or TensorFlow.

Event files cannot be rewritten. Instead, a resumed run writes a session start with its step, and
TensorBoard then drops the earlier events at that step and after. The first session start of a run drops
nothing, so every run begins with one: `rewind(-1)`.
Source: `_CheckForRestartAndMaybePurge` in tensorboard's `plugin_event_accumulator.py`.
"""

import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from pipeline.loggers import Logger
from pipeline.loggers.media_files import png


class TensorboardLogger(Logger):
    """Logger that writes scalars into a new event file in `folder`; view: `tensorboard --logdir`."""

    def __init__(self, folder: Path) -> None:
        # If this module exists, tensorboard does not load TensorFlow, which would take seconds and
        # would occupy the GPU.
        sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        # Imported by name, since type checkers cannot see classes created at run time.
        events = import_module("tensorboard.compat.proto.event_pb2")
        self._event, self._session = events.Event, events.SessionLog
        self._summary = import_module("tensorboard.compat.proto.summary_pb2").Summary
        self._writer = EventFileWriter(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [self._summary.Value(tag=key, simple_value=values[key]) for key in values]
        self._add(step, summary=self._summary(value=scalars))

    def log_image(self, step: int, key: str, image: np.ndarray) -> None:
        height, width, colorspace = image.shape  # 1: gray, 3: RGB, 4: RGBA
        shown = self._summary.Image(
            height=height, width=width, colorspace=colorspace, encoded_image_string=png(image)
        )
        self._add(step, summary=self._summary(value=[self._summary.Value(tag=key, image=shown)]))

    def rewind(self, step: int) -> None:
        self._add(step + 1, session_log=self._session(status=self._session.START))

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        self._writer.close()

    def _add(self, step: int, **what: object) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, **what))
        self._writer.flush()
