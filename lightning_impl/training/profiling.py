"""A trace of a few training steps by torch's profiler."""

from pathlib import Path

from torch.profiler import ProfilerActivity, profile, supported_activities

WARMUP = 5  # steps before the trace: the first ones are not typical


class Profiler:
    """Traces `steps` steps into `profile/`, for chrome://tracing or Perfetto; does nothing if it is None."""

    def __init__(self, folder: Path, steps: int | None) -> None:
        self.folder, self.steps, self.done = folder / "profile", steps, 0
        self.trace: profile | None = None

    def stepped(self, count: int) -> None:
        """Record that `count` more steps are done; start or stop the trace if due."""
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
