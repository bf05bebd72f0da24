"""Verdict of a check, for people and for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from pipeline.verify.sides.outputs import LOSS

SCHEMA = 1  # of the JSON form: raised when a field changes its meaning; fields may be added
SIDES = ("left", "right")


class Answer(StrEnum):
    """The three verdicts."""

    same = "same"
    part = "part"
    abstain = "abstain"


EXIT_CODES = {Answer.same: 0, Answer.part: 1, Answer.abstain: 2}


class Part(StrEnum):
    """Parts of a step in the order of cause and effect."""

    weights = "weights"
    batch = "batch"  # of recorded training loops
    forward = "forward"
    training = "forward in training"
    loss = "loss"
    buffers = "buffers"
    gradient = "gradient"
    update = "update"


def part_of_output(path: str, training: bool) -> Part:
    """Return the part that an output belongs to, by its path."""
    if path == LOSS:
        return Part.loss
    return Part.training if training else Part.forward


# What agrees and what does not, by part.
MEANING = {
    Part.weights: "they cannot have the same weights",
    Part.batch: "the weights are the same, the batches are not",
    Part.forward: "the forward pass parts here; everything before it is the same",
    Part.training: "in evaluation mode they are the same; in training mode the forward pass parts here",
    Part.loss: "the outputs are the same, the loss made of them is not",
    Part.buffers: "the forward pass is the same, the running statistics that it leaves are not",
    Part.gradient: "the forward pass is the same, the backward pass parts here",
    Part.update: "the gradients are the same, the weights after an optimizer step are not",
}


@dataclass(frozen=True)
class First:
    """The first difference, in the order of cause and effect."""

    part: str
    left: str  # layer, array or output
    right: str
    difference: float  # relative to the largest number
    step: int = 0  # optimizer step, of an update
    left_source: str = ""  # line of code
    right_source: str = ""

    @property
    def source(self) -> str:
        """Both lines of code, for the user; nothing if neither is known."""
        if not self.left_source and not self.right_source:
            return ""
        return f"at {self.left_source or '?'} (left), {self.right_source or '?'} (right)"


@dataclass(frozen=True)
class Cause:
    """A likely cause, and what makes the two the same."""

    name: str
    remedy: str
    confirmed: bool  # True if the remedy was simulated, and the two were the same with it


@dataclass(frozen=True)
class Leftover:
    """A parameter without a counterpart."""

    name: str
    shape: tuple[int, ...]
    nearest: str = ""  # the most similar one of the other side that is left, too
    is_used: bool = True  # False if no output depends on it


@dataclass
class LayerDifference:
    """A layer of both sides: largest differences of its data, result and gradients; None: not compared."""

    left: str
    right: str
    data: float | None = None
    forward: float | None = None
    backward: float | None = None


@dataclass(frozen=True)
class LaneEdge:
    """Two ways to run a model that differ in one thing; see `pipeline.verify.lanes`.

    Differences are relative, those next to their bars: None if one of the two cannot be run.
    """

    changes: str  # that thing, to blame for what differs
    precision: str  # the narrower one
    one: str
    other: str
    outputs: float | None = None
    gradients: float | None = None
    outputs_bar: float | None = None
    gradients_bar: float | None = None
    is_within: bool | None = None
    reason: str = ""  # why it cannot be run, or is judged by another noise


@dataclass
class Verdict:
    """Verdict with all that supports it."""

    verdict: Answer
    reason: str  # one sentence
    first: First | None = None
    cause: Cause | None = None
    alignment: list[dict[str, str]] = field(default_factory=list)  # `left`, `right`, `transform`
    unmatched: dict[str, list[Leftover]] = field(default_factory=lambda: {"left": [], "right": []})
    checked: dict[str, object] = field(
        default_factory=dict
    )  # seeds, shapes, modes, steps, optimizer
    differences: dict[str, float] = field(default_factory=dict)  # the largest of each part
    layers: list[LayerDifference] = field(default_factory=list)
    lanes: list[LaneEdge] = field(default_factory=list)
    blame: str = ""  # in one sentence: what the differences of the lanes come from
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 for the same, 1 for parted, 2 for no verdict."""
        return EXIT_CODES[self.verdict]

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.first is None:
            return self.reason
        place = (
            self.first.left
            if self.first.left == self.first.right
            else (f"{self.first.left} (left) / {self.first.right} (right)")
        )
        at = f" at step {self.first.step}" if self.first.step else ""
        sentence = f"they part{at}: {self.first.part}: {place}, by {self.first.difference:.1e}"
        return f"{sentence}: {self.reason}"

    def to_json(self) -> dict[str, object]:
        """Return the form for programs, documented in docs/verify.md."""
        fields = {name: _plain(value) for name, value in asdict(self).items()}
        return {"schema": SCHEMA, **fields, "sentence": self.sentence}


def _plain(value: object) -> object:
    """Values that JSON knows: an infinite or undefined number as null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
