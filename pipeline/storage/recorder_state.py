"""The recorder's part of a checkpoint, from which a resumed run continues."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

PHASES = ("setup", "compile", "train", "eval")  # of a run's time


@dataclass(frozen=True)
class Best:
    """The best evaluation of a run."""

    metric: str | None  # monitored, such as `val/accuracy`; None in a run without an evaluation
    value: float | None
    step: int  # optimizer updates before the evaluation
    checkpoint: str | None = None  # path of the one with these weights, once it is known

    def to_json(self) -> dict[str, object]:
        """Return plain containers, without an unknown checkpoint."""
        known: dict[str, object] = {"metric": self.metric, "value": self.value, "step": self.step}
        return known if self.checkpoint is None else known | {"checkpoint": self.checkpoint}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from what `to_json` returned; missing entries get defaults."""
        get = content.get
        return cls(get("metric"), get("value"), get("step") or 0, get("checkpoint"))


@dataclass(frozen=True, kw_only=True)
class RecorderState:
    """State of a `Recorder` after a step.

    `facts` are `parameters`, `init_digest` and `data_digest` of the run's start, `window` the values of
    the steps since the last line of metrics, `[steps][values]`.
    """

    facts: Mapping[str, int | str] = field(default_factory=dict)
    window: list[list[float]] = field(default_factory=list)
    best: Best | None = None
    stale: int = 0  # evaluations since the best one
    plateau: Mapping[str, float | None] = field(default_factory=dict)  # see `reduce_on_plateau`
    seconds: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    elapsed: float | None = None  # seconds of the run; None in old checkpoints
    # Entries of a newer version; the last field, which JSON does not nest.
    extra: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain containers, as a checkpoint holds them."""
        state = {entry.name: getattr(self, entry.name) for entry in fields(self)[:-1]}
        state["best"] = self.best.to_json() if self.best else None
        if self.elapsed is None:
            del state["elapsed"]
        return state | dict(self.extra)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from what `to_json` returned; missing entries get defaults."""
        own = [entry.name for entry in fields(cls)[:-1]]
        known = {name: content[name] for name in own if content.get(name) is not None}
        if best := known.get("best"):
            known["best"] = Best.from_json(best)
        extra = {name: value for name, value in content.items() if name not in own}
        return cls(**known, extra=extra)
