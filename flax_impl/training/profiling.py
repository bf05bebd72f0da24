"""A trace of a few training steps by JAX's profiler."""

from pathlib import Path

import jax

WARMUP = 5  # steps before the trace: the first ones are not typical


class Profiler:
    """Traces `steps` steps into `profile/`, for Perfetto or XProf; does nothing if it is None."""

    def __init__(self, folder: Path, steps: int | None) -> None:
        self.folder, self.steps, self.done = folder / "profile", steps, 0
        self.tracing = False

    def stepped(self, count: int, values: jax.Array) -> None:
        """Record that `count` more steps are done; start or stop the trace if due.

        Only here `values`, the output of the last step: JAX returns before they are computed.
        """
        if self.steps is None:
            return
        self.done += count
        if not self.tracing and self.done >= WARMUP:
            values.block_until_ready()
            jax.profiler.start_trace(str(self.folder), create_perfetto_trace=True)
            self.tracing = True
        elif self.tracing and self.done >= WARMUP + self.steps:
            values.block_until_ready()
            jax.profiler.stop_trace()
            self.steps = None
