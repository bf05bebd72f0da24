"""Small models in torch: mlp, lstm, gru."""

import torch
from torch import Tensor, nn

from benchmarks.verify_mutants.settings import CLASSES, HIDDEN, VOCABULARY, WIDTH, Plan, Settings
from benchmarks.verify_mutants.torch_side.layers import (
    Dense,
    Norm,
    activate,
    cross_entropy,
    drop,
    lookup,
    stop,
)


class Mlp(nn.Module):
    """A multilayer perceptron with noise, a residual layer and a norm, and its loss."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.fc1 = Dense(12, HIDDEN, s, "fc1 bias" not in s.missing)
        self.fc2 = Dense(HIDDEN, HIDDEN, s, "fc2 bias" not in s.missing)
        self.norm = Norm(HIDDEN, s)
        self.head = Dense(HIDDEN, CLASSES, s, "head bias" not in s.missing)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Features `[batch, 12]` and labels to logits and loss."""
        s = self.s
        if self.training:
            x = x + s.noise * torch.randn_like(x)
        x = drop(activate(self.fc1(x), s), "hidden", s, self.training)
        if "minus batch mean" in s.extra:
            x = x - x.mean(0)
        y = torch.sigmoid(self.fc2(x))
        if "second layer twice" in s.extra:
            y = torch.sigmoid(self.fc2(y))
        x = y if "residual" in s.missing else s.residual_factor * stop(x, "residual", s) + y
        x = x if "final norm" in s.missing else self.norm(x)
        logits = self.head(stop(x, "features", s))
        if "log softmax" in s.extra:
            logits = logits.log_softmax(-1)
        return {"logits": logits, "loss": cross_entropy(logits, labels, s)}


class Recurrent(nn.Module):
    """Embedded tokens, a recurrent layer, and a classifier of its last state."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        if s.cell == "library":
            self.cell = (nn.GRU if self.gates == 3 else nn.LSTM)(WIDTH, WIDTH, batch_first=True)
        else:
            self.input = nn.Linear(WIDTH, self.gates * WIDTH)
            self.hidden = nn.Linear(WIDTH, self.gates * WIDTH, bias=self.gates == 3)
        self.head = nn.Linear(WIDTH, CLASSES)

    gates = 0

    def forward(self, ids: Tensor) -> Tensor:
        """Tokens `[batch, length]` to logits."""
        s = self.s
        x = drop(lookup(self.tokens.weight, ids, s), "embedding", s, self.training)
        if s.direction == "backward":
            x = x.flip(1)
        if s.cell == "library":
            return self.head(drop(self.cell(x)[0][:, -1], "head", s, self.training))
        h = x.new_full((len(x), WIDTH), s.carry)
        c, states = h, []
        for token in x.unbind(1):
            h, c = self.step(token, stop(h, "carry", s), c)
            states.append(h)
        if s.pool == "mean":
            h = torch.stack(states, 1).mean(1)
        h = c if s.output == "cell" else h
        return self.head(drop(h, "head", s, self.training))

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Take a token; `h` and `c` are `[batch, width]`."""
        raise NotImplementedError


class Lstm(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    gates = 4

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Take a token."""
        s = self.s
        i, f, g, o = (self.input(x) + self.hidden(h)).chunk(4, -1)
        if s.gates == "exchanged":
            i, f = f, i
        f = gate(f + s.forget, s)
        c = f * c + gate(i, s) * torch.tanh(g)
        return gate(o, s) * (c if "output tanh" in s.missing else torch.tanh(c)), c


class Gru(Recurrent):
    """A gated recurrent unit (Cho et al. 2014), with torch's place of the reset gate."""

    gates = 3

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Take a token."""
        s = self.s
        r, z, n = self.input(x).chunk(3, -1)
        hr, hz, hn = self._from_state(h)
        r, z = gate(r + hr, s), gate(z + hz, s)
        n = torch.tanh(n + (r * hn if s.reset == "after" else self._from_state(r * h)[2]))
        h = z * n + (1 - z) * h if s.gates == "exchanged" else (1 - z) * n + z * h
        return h, h

    def _from_state(self, h: Tensor) -> tuple[Tensor, ...]:
        if self.s.cell == "manual":
            return self.hidden(h).chunk(3, -1)
        parts = zip(self.hidden.weight.chunk(3), self.hidden.bias.chunk(3), strict=True)
        return tuple(h @ weight.T + bias for weight, bias in parts)


def gate(x: Tensor, s: Settings) -> Tensor:
    """Openness of a gate."""
    if s.activation != "none":
        return activate(x, s)
    return 1 / (1 + torch.exp(-x)) if s.formula == "manual" else torch.sigmoid(x)
