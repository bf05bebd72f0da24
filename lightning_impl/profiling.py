"""A trace of a few training steps, by torch's own profiler."""

from pathlib import Path

from torch.profiler import ProfilerActivity, profile, supported_activities

WARMUP = 5  # steps before the trace: the first ones are not typical


class Profiler:
    """Traces `steps` steps into `profile/`, for chrome://tracing or Perfetto; none where it is None.

    Args:
        folder: of the run.
        steps: to trace.
    """

    def __init__(self, folder: Path, steps: int | None) -> None:
        self.folder, self.steps, self.done = folder / "profile", steps, 0
        self.trace: profile | None = None

    def stepped(self, count: int) -> None:
        """Note that so many more steps were taken."""
        if self.steps is None:
            return
        self.done += count
        if self.trace is None and self.done >= WARMUP:
            wanted = {ProfilerActivity.CPU, ProfilerActivity.CUDA} & supported_activities()
            self.trace = profile(activities=wanted)
            self.trace.start()
        elif self.trace is not None and self.done >= WARMUP + self.steps:
            self.trace.stop()
            self.folder.mkdir(exist_ok=True)
            self.trace.export_chrome_trace(str(self.folder / "trace.json"))
            self.steps = None
