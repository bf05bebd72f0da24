"""`result.json`: the outcome of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from pipeline.storage.recorder_state import Best
from pipeline.storage.run_identity import RESULT
from pipeline.storage.signature import flat

# Entries that tables of many runs show.
SUMMARY = (
    "status", "best", "seconds", "throughput", "peak_memory_mb", "steps", "epochs", "parameters",
    "init_digest", "data_digest", "signature", "devices",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Outcome of a run."""

    status: str = ""  # `completed`, `failed` or `interrupted`; empty if unknown
    error: str | None = None  # message of a failed run
    signature: str | None = None
    name: str | None = None
    backend: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: str | None = None
    device_count: int | None = None
    fallback: str | None = None  # why `accelerator=auto` took the CPU of a machine with GPUs
    resumed_from: str | None = None  # checkpoint of another run, which this one continues
    converted_from: str | None = None  # source of a run that `pipeline.convert` made
    interrupted_by: str | None = None  # name of the signal that stopped the run, if it was one
    look: str | None = None  # path of the picture of `mode=look`
    best: Best | None = None
    test: Mapping[str, float] = field(default_factory=dict)
    parameters: int | None = None  # number of weights
    init_digest: str | None = None  # of the weights at step 0
    data_digest: str | None = None  # of the first batches
    steps: int | None = None
    epochs: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # last logged value of each key
    seconds: Mapping[str, float] = field(default_factory=dict)  # by phase, and `total`
    throughput: float | None = None  # training samples per second
    peak_memory_mb: float | None = None  # highest of one device
    attention: str | None = None  # kernels that training steps took: see `run.recording.kernels`
    steps_per_call: int | None = None  # most updates of one call of the device
    vectorized: int | None = None  # runs that trained at once with it, itself included
    alone: str | None = None  # why it trained alone in a sweep with `sweep.vectorize=true`
    refused: bool = False  # a job of a sweep that was not started
    # Entries of a newer version; the last field, which JSON does not nest.
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """True if the run is completed or failed."""
        return self.status in ("completed", "failed")

    def to_json(self) -> dict[str, Any]:
        """Return plain containers, without unknown entries; `error` is always present."""
        known: dict[str, object] = {"status": self.status, "error": self.error}
        for entry in fields(self)[2:-1]:
            value = getattr(self, entry.name)
            if value is not None and value is not False and value != {}:
                known[entry.name] = value.to_json() if isinstance(value, Best) else value
        return known | dict(self.extra)

    @classmethod
    def from_json(cls, content: Mapping[str, Any], faults: list[str] | None = None) -> Self:
        """Rebuild from what `to_json` returned; missing entries, and those of a wrong type, get defaults.

        `faults` receives a message for each entry of a wrong type.
        """
        own = {entry.name for entry in fields(cls)[:-1]}
        known: dict[str, Any] = {}
        for key, value in content.items():
            if key in own and value is not None:
                if _has_right_type(key, value):
                    known[key] = Best.from_json(value) if key == "best" else value
                elif faults is not None:
                    faults.append(f"{RESULT}: {key} has a wrong type, ignored: {str(value)[:60]}")
        return cls(**known, extra={key: content[key] for key in content if key not in own})

    @property
    def summary(self) -> dict[str, object]:
        """Return the entries that tables of many runs show, flat: `best.value`, `seconds.total`, …"""
        known = self.to_json()
        return flat({key: known[key] for key in SUMMARY if known.get(key) is not None})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_right_type(key: str, value: object) -> bool:
    """Return whether `value` has the type of the entry `key`; an entry that is not listed here is text."""
    if key in (
        "vectorized",
        "steps_per_call",
        "device_count",
        "parameters",
        "steps",
        "epochs",
        "throughput",
        "peak_memory_mb",
    ):
        return _is_number(value)
    if key == "refused":
        return isinstance(value, bool)
    if key not in ("config", "hardware", "versions", "metrics", "test", "seconds", "best"):
        return isinstance(value, str)
    if not isinstance(value, dict):
        return False
    if key == "best":  # or the last step of a run without an evaluation
        metric, number = value.get("metric"), value.get("value")
        return number is None or (isinstance(metric, str) and _is_number(number))
    return key not in ("test", "seconds") or all(map(_is_number, value.values()))
