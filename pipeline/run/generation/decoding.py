"""Sequences, token by token: the likeliest, or drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.rng import generator
from pipeline.tasks.seq2seq import PADDING

# Of tokens, int64 [n, length], to the logits of the token after each: [n, length, vocabulary].
Logits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Choice:
    """How a token is chosen from logits; at a temperature of 0 it is the likeliest."""

    temperature: float = 0.0
    top_k: int | None = None  # draw among so many of the likeliest; None: among all
    seed: int = 0

    def __call__(self, logits: np.ndarray, place: int) -> np.ndarray:
        """Choose a token for each row of logits `[n, vocabulary]`: int64 [n].

        `place` is that of the token; with the seed and the row it keys the draw.
        """
        if self.temperature == 0:
            return logits.argmax(axis=-1)
        scaled = logits.astype(np.float64) / self.temperature
        if self.top_k is not None and self.top_k < scaled.shape[-1]:
            order = np.argsort(-scaled, axis=-1, kind="stable")
            np.put_along_axis(scaled, order[:, self.top_k :], -np.inf, axis=-1)
        chances = np.exp(scaled - scaled.max(axis=-1, keepdims=True)).cumsum(axis=-1)
        drawn = [generator(self.seed, "tokens", place, row).random() for row in range(len(chances))]
        below = chances <= np.array(drawn)[:, None] * chances[:, -1:]
        return below.sum(axis=-1)


LIKELIEST = Choice()


def continued(
    logits: Logits, tokens: np.ndarray, new: int, window: int, choice: Choice = LIKELIEST
) -> np.ndarray:
    """Write `new` tokens behind each row of `tokens` `[n, length]`: int64 [n, length + new].

    The model sees the last `window` of them, always in an array of this length, so that it is compiled once;
    what stands behind the tokens, it does not see.
    """
    written = np.concatenate([tokens, np.zeros((len(tokens), new))], axis=1).astype(np.int64)
    for place in range(tokens.shape[1], written.shape[1]):
        first = max(0, place - window)
        seen = np.zeros((len(written), window), np.int64)
        seen[:, : place - first] = written[:, first:place]
        written[:, place] = choice(logits(seen)[:, place - first - 1], place)
    return written


def answered(logits: Logits, samples: int, length: int, choice: Choice = LIKELIEST) -> np.ndarray:
    """Write a target for each source, up to its end or `length` tokens: int64 [samples, length].

    `logits` takes the target so far, one place later, as in training. After the end there is padding.
    """
    later = np.full((samples, length + 1), PADDING)
    has_ended = np.zeros(samples, bool)
    for place in range(length):
        chosen = choice(logits(later[:, :-1])[:, place], place)
        later[:, place + 1] = np.where(has_ended, PADDING, chosen)
        has_ended |= chosen == PADDING
        if has_ended.all():
            break
    return later[:, 1:]
