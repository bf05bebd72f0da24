"""Two runs that differ in nothing but the backend: are they the same, as far as what they logged tells?"""

from dataclasses import dataclass, field

from pipeline.compare.curves import Gap
from pipeline.compare.records import Record
from pipeline.config import Precision
from pipeline.parity.lockstep import BARS

LOSSES = ("train/loss", "val/loss")

DIGESTS = {"init_digest": "the weights at step 0", "data_digest": "the batches"}


@dataclass
class Pair:
    """A run on one backend and the same on another.

    Attributes:
        runs: their positions among all.
        name: what tells the pair from others.
        gaps: how far they are apart, by key.
        same: whether they are the same experiment; None where it cannot be told.
        words: the verdict, as a sentence.
    """

    runs: tuple[int, int]
    name: str
    gaps: dict[str, Gap] = field(default_factory=dict)
    same: bool | None = None
    words: str = ""

    def judge(self, first: Record, second: Record) -> None:
        """Come to a verdict: in fp64 a proof of sorts, in fp32 what can be told.

        Args:
            first: the run of the first backend.
            second: that of the second.
        """
        for key, what in DIGESTS.items():
            digests = {run.result.get(key) for run in (first, second)}
            if None in digests:
                self.words = f"not known: no {key} of both yet"
                return
            if len(digests) > 1:
                self.same, self.words = False, f"not the same experiment: {what} differ ({key})"
                return
        gaps = {key: self.gaps[key] for key in LOSSES if key in self.gaps}
        if not gaps:
            self.words = "not known: no step that both have logged"
            return
        key, worst = max(gaps.items(), key=lambda item: item[1].worst)
        apart = f"{key} differs by at most {worst.worst:.1e} (step {worst.step})"
        if self.native_dropout(first):
            self.words = f"each backend drew its own dropout masks: {apart}"
        elif first.config.get("train.precision") != Precision.fp64.name:
            self.words = f"the same weights at step 0 and the same batches: {apart}"
        else:
            self.same = worst.worst <= BARS[Precision.fp64]
            self.words = f"the same: {apart}" if self.same else f"they part: {apart}"

    @staticmethod
    def native_dropout(run: Record) -> bool:
        """Whether the two backends drop out other units."""
        dropped = any(run.config.get(f"model.{key}") for key in ("dropout", "drop_path"))
        return dropped and run.config.get("train.randomness") == "native"
