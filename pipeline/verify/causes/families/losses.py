"""Causes: losses of tokens against the labels of other places."""

from collections.abc import Iterator

import numpy as np

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import at, is_near
from pipeline.verify.replay.functions import token_loss
from pipeline.verify.replay.namespace import NUMPY
from pipeline.verify.sides.subject import Edit

WORDS = ("of its own place", "of the next one")


def propose_label_shifts(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that the logits of a token are held against the label of its own place, or of the next."""
    for place in (p for p in ours.roots if np.prod(ours.ops[p].shape) == 1):
        given = [theirs.ops[p].fingerprint for p in theirs.roots if theirs.ops[p].shape == ()]
        for logits, labels in _pairs(ours):
            values = ours.values([place, logits, labels])
            losses = [float(token_loss(NUMPY, values[logits], values[labels], n)) for n in (0, 1)]
            for own, other in ((0, 1), (1, 0)):
                is_own = is_near(float(values[place].ravel()[0]), losses[own])
                if not is_own or not any(
                    print_ is not None and is_near(float(print_[5]), losses[other])
                    for print_ in given
                ):
                    continue
                edit = Edit(
                    place, function="token_loss", inputs=(logits, labels), arguments=(other,)
                )
                difference = (
                    f"{at(ours, place)} holds the logits of a token against the label {WORDS[own]}, "
                    f"the other side against the label {WORDS[other]}"
                )
                remedy = f"the label {WORDS[other]} on the {ours.name}"
                yield Candidate("labels shifted", (edit,), difference, remedy)


def _pairs(flow: Flow) -> Iterator[tuple[int, int]]:
    """Yield logits `[batch, length, classes]` that lead to the loss, with integers `[batch, length]`."""
    integers = [
        place for place, op in enumerate(flow.ops)
        if op.name == "input" and len(op.shape) == 2 and "int" in op.dtype
    ]  # fmt: skip
    for logits in flow.entering:
        shape = flow.ops[logits].shape
        for labels in integers:
            if len(shape) == 3 and shape[1] > 1 and flow.ops[labels].shape == shape[:2]:
                yield logits, labels
