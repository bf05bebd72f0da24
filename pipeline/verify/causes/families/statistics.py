"""Causes: the statistics that a batch norm uses."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from pipeline.verify.alignment.names import words
from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.families.activations import is_same
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import at
from pipeline.verify.replay.namespace import NUMPY
from pipeline.verify.replay.norms import mean
from pipeline.verify.sides.subject import Edit
from pipeline.verify.trace.fingerprints import fingerprint


def propose_running_statistics(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that the other side normalises with its running statistics, ours with the batch's."""
    if not _uses_buffers(theirs) or ours.first < 0:
        return
    for source in ours.sources(ours.region[-1])[-1:]:
        x = ours.value(source)
        for count in range(1, x.ndim):
            for axes in combinations(range(x.ndim), count):
                m = mean(NUMPY, x, axes)
                prints = fingerprint(m), fingerprint(mean(NUMPY, (x - m) ** 2, axes))
                places = [
                    next((p for p in ours.after(source) if is_same(print_, ours.ops[p].fingerprint)), None)
                    for print_ in prints
                ]  # fmt: skip
                if None not in places:
                    yield from _with_buffers(ours, source, places, m.size)  # type: ignore[arg-type]


def _uses_buffers(flow: Flow) -> bool:
    return bool(set(flow.surroundings) & set(_buffers(flow)))


def _buffers(flow: Flow) -> list[int]:
    known = {array.name for array in flow.subject.description.arrays if not array.is_trained}
    return [p for p, op in enumerate(flow.ops) if op.name == "parameter" and op.layer in known]


def _with_buffers(ours: Flow, source: int, places: list[int], size: int) -> Iterator[Candidate]:
    fitting = [p for p in _buffers(ours) if np.prod(ours.ops[p].shape) == size]
    near = [p for p in fitting if _shares_path(ours.ops[p].layer, ours.ops[places[0]].layer)]
    means = [p for p in near or fitting if "mean" in words(ours.ops[p].layer)[-1]]
    others = [p for p in near or fitting if p not in means]
    for first, second in zip(means, others, strict=False):
        edits = (
            Edit(places[0], function="like", inputs=(places[0], first)),
            Edit(places[1], function="like", inputs=(places[1], second)),
        )
        difference = (
            f"{at(ours, source)} is normalised with the statistics of the batch, on the other side with "
            "the running ones"
        )
        remedy = f"the running statistics on the {ours.name}"
        yield Candidate("running statistics in training", edits, difference, remedy)


def _shares_path(array: str, layer: str) -> bool:
    path = array.rpartition(".")[0]
    return bool(path) and layer.endswith(path)
