"""A trace of a few training steps, by JAX's own profiler."""

from pathlib import Path

import jax

WARMUP = 5  # steps before the trace: the first ones are not typical


class Profiler:
    """Traces `steps` steps into `profile/`, for Perfetto or XProf; none where it is None.

    Args:
        folder: of the run.
        steps: to trace.
    """

    def __init__(self, folder: Path, steps: int | None) -> None:
        self.folder, self.steps, self.done = folder / "profile", steps, 0
        self.tracing = False

    def stepped(self, count: int, values: jax.Array) -> None:
        """Note that so many more steps were taken, with what the last of them returned.

        Only here the values are needed: JAX returns before it has computed them.
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
