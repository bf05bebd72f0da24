"""Check of matches by the values of a pass, and repair of those that are wrong."""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from pipeline.verify.alignment.alternatives import Alternatives, Setting, alike
from pipeline.verify.alignment.layers import MATRICES, Layer, root
from pipeline.verify.alignment.match import Match
from pipeline.verify.alignment.permutations import column_order, features_last, patches
from pipeline.verify.alignment.predecessors import match_by_predecessor
from pipeline.verify.trace.fingerprints import distance, is_informative
from pipeline.verify.trace.graph import Role, Trace, Window, ancestors

TOLERANCE = 1e-5  # of values that are the same: float32 inside a model may leave that much
MOST_TRIALS = 400  # runs of the right model in search of an alignment

Run = Callable[[int | None], Trace]  # of the right model with the left one's values, up to a place
Keep = Callable[[int], np.ndarray]  # return a result of a side, by its place


class Repair:
    """Checks matches in the order of execution; repairs the first that is wrong, and goes on.

    `trace` is the left model's; `run` runs the right model, mapped by the matches as they are; `keep` gives
    whole results of either side.
    """

    def __init__(
        self, matches: list[Match], trace: Trace, run: Run, keep: tuple[Keep, Keep]
    ) -> None:
        self.matches, self.left, self._run, self.keep = matches, trace, run, keep
        self.trials = 0
        self.suspects: list[Match] = []  # of which one is wrong, in a way that was not found

    def repair(self) -> None:
        """Confirm or repair all matches, up to the first that no other alignment makes right."""
        self.right = self.run()
        at = 0
        while at < len(self.matches) and self.trials < MOST_TRIALS:
            match = self.matches[at]
            takes = self._takes_the_same(match, self.right) or self._is_confirmed(match)
            if (takes and self._gives_the_same(match)) or self._is_shown_later(at):
                match.is_confirmed = True
                at += 1
                continue
            fixed = self._reorder(match) if takes else self._try_others(at)
            if not fixed:
                return
            self.right = self.run()
            at = 0
        if not self._returns_the_same(self.right):
            self._try_others(len(self.matches))

    def run(self, until: int | None = None) -> Trace:
        """Run the right model with the left model's values."""
        self.trials += 1
        return self._run(until)

    def _takes_the_same(self, match: Match, right: Trace) -> bool:
        ours, theirs = match.left[0].data, match.right[0].data
        if ours is None or theirs is None or match.left[0].role not in MATRICES:
            return True  # one side may scale a norm's factor, the other its result
        return self._same(right, ours, theirs) or self._same(
            right, root(self.left.ops, ours), root(right.ops, theirs)
        )

    def _gives_the_same(self, match: Match) -> bool:
        if len(match.left) > 1 or len(match.right) > 1 or match.left[0].role not in MATRICES:
            return True  # shown by what follows
        ours, theirs = match.left[0], match.right[0]
        places = (ours.result, theirs.result), (ours.op, theirs.op)
        return any(self._same(self.right, *pair) for pair in places)

    def _is_confirmed(self, match: Match) -> bool:
        """True if both sides give the same values, whatever they are made of."""
        is_matrix = match.left[0].role in (Role.dot, Role.conv)
        return (
            is_matrix and len(match.left) == len(match.right) == 1 and self._gives_the_same(match)
        )

    def _is_shown_later(self, at: int) -> bool:
        """True if what follows from a match is the same: one side may split what the other does at once."""
        place = self.matches[at].right[0].op
        followers = [
            match
            for match in self.matches[at + 1 :]
            if match.left[0].role in MATRICES and self._is_informative(match.right[0].data)
            if self._takes_the_same(match, self.right)
        ]
        data = [match.right[0].data for match in followers]
        if any(place in ancestors(self.right.ops, [at]) for at in data if at is not None):
            return True
        return self._returns_the_same(self.right)

    def _is_informative(self, place: int | None) -> bool:
        print_ = None if place is None else self.right.ops[place].fingerprint
        return print_ is not None and is_informative(print_)

    def _returns_the_same(self, right: Trace) -> bool:
        """Compare the outputs that both sides name, or all of them in order."""
        ours, theirs = self.left.results, right.results
        pairs = [(ours[name], theirs[name]) for name in ours if name in theirs]
        pairs = pairs or list(zip(ours.values(), theirs.values(), strict=False))
        return all(self._same(right, *pair) for pair in pairs)

    def _same(self, right: Trace, ours: int, theirs: int) -> bool:
        prints = self.left.ops[ours].fingerprint, right.ops[theirs].fingerprint
        if prints[0] is None or prints[1] is None:
            return True
        return distance(prints[0], prints[1]) <= TOLERANCE

    def _reorder(self, match: Match) -> bool:
        """Find the order of a layer's inputs, where both sides apply it to the same values."""
        ours, theirs = match.left[0], match.right[0]
        if ours.data is None or theirs.data is None or match.columns is not None:
            return False
        if ours.role not in (Role.dot, Role.conv):
            return False
        is_patched = ours.elements.shape[1:] != theirs.elements.shape[1:]
        left, right = (
            _features(keep(place), layer, trace.ops[layer.op].window if is_patched else None)
            for keep, place, layer, trace in zip(
                self.keep,
                (ours.data, theirs.data),
                (ours, theirs),
                (self.left, self.right),
                strict=True,
            )
        )
        order = column_order(left, right, TOLERANCE)
        if order is None or (order == np.arange(len(order))).all():
            return False
        for other in alike(self.matches, match):
            other.columns = order
        return True

    def _try_others(self, at: int) -> bool:
        """Try other orders of what leads to a match whose data differ, nearest first."""
        if at < len(self.matches):
            wrong = self.matches[at]
            ends, until = [wrong.right[0].data], wrong.right[0].op

            def is_right(trace: Trace) -> bool:
                return self._takes_the_same(wrong, trace)
        else:
            ends, until, is_right = list(self.right.results.values()), None, self._returns_the_same
        open_matches = self._open(at, [end for end in ends if end is not None])
        as_it_is = Setting([], "left", [])
        for setting in chain([as_it_is], Alternatives(self.matches, open_matches)):
            if self.trials >= MOST_TRIALS:
                break
            before = setting.apply()
            if setting.matches and is_right(self.run(until)):
                return True
            norms = self._norms_behind(open_matches)  # they go along with what is exchanged
            if norms.matches:
                own = norms.apply()
                if is_right(self.run(until)):
                    return True
                own.apply()
            before.apply()
        matrices = [match for match in open_matches if match.left[0].role in (Role.dot, Role.conv)]
        self.suspects = [other for match in matrices for other in alike(self.matches, match)]
        return False

    def _norms_behind(self, open_matches: Sequence[Match]) -> Setting:
        wrong, layers = match_by_predecessor(self.matches, open_matches, (self.left, self.right))
        return Setting(wrong, "left", layers)

    def _open(self, at: int, ends: Sequence[int]) -> list[Match]:
        """Return the matches that lead to some results, and to no data found right; nearest first."""
        confirmed = [
            match.right[0].data
            for match in self.matches[:at]
            if match.is_confirmed and match.left[0].role in MATRICES
        ]
        settled = ancestors(self.right.ops, [data for data in confirmed if data is not None])
        guilty = ancestors(self.right.ops, ends) - settled
        return [
            match
            for match in self.matches[:at][::-1]
            if any(_places(layer) & guilty for layer in match.right)
        ]


def _features(data: np.ndarray, layer: Layer, window: Window | None) -> np.ndarray:
    """Return the values that a matrix takes, `[n, values]`; of a convolution the channels, or patches."""
    if window is None:
        return features_last(data, layer.data_axes)
    return patches(data, window, layer.data_axes[0], layer.elements.shape[1:])


def _places(layer: Layer) -> set[int]:
    return {layer.op, layer.result}
