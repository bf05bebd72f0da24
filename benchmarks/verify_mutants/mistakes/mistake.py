"""A mistake of a port: what it changes, and what a referee should say of it."""

from collections.abc import Mapping
from dataclasses import dataclass

FORWARD, TRAINING, BUFFERS, GRADIENT = "forward", "forward in training", "buffers", "gradient"


@dataclass(frozen=True)
class Mistake:
    """A mistake, and what a referee should say: where, in which part, and why."""

    name: str
    changes: Mapping[str, object]
    places: Mapping[str, str]  # by model: patterns of layers, by torch's names
    cause: str  # names in the catalogue, `a|b`
    part: str = FORWARD  # or several: `gradient|update`
    in_blocks: bool = True  # False: it is not one of blocks
    verdict: str = "part"  # or `part|abstain` where parameters have no counterpart
    relabels: bool = False  # True: other weights could make the two the same
    needs: str = ""  # what only shows it
