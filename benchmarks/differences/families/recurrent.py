"""Recurrent layers, [batch, time, features], with torch's two biases added up."""

from benchmarks.differences.draws import normal
from benchmarks.differences.plays.layers import layer
from benchmarks.differences.row import Row

X = {"x": normal((2, 4, 3))}
LINEN = "linen.RNN(linen.{}(5, param_dtype=float))"
NNX = "nnx.RNN(nnx.{}(3, 5, param_dtype=float, rngs=rngs), rngs=rngs)"

ROWS = [
    Row(key="lstm", title="LSTM: order of the gates", torch="nn.LSTM(3, 5, batch_first=True)",
        linen=LINEN.format("OptimizedLSTMCell"), nnx=NNX.format("OptimizedLSTMCell"),
        equinox="eqx.nn.LSTMCell(3, 5, key=key)", inputs=X, play=layer(), seeds=(0,)),
    Row(key="lstm-gates-apart", title="LSTM: gates as layers of their own",
        torch="nn.LSTM(3, 5, batch_first=True)", linen=LINEN.format("LSTMCell"),
        inputs=X, play=layer(), seeds=(0,)),
    Row(key="lstm-bias", title="LSTM: number of parameters, one bias or two",
        torch="nn.LSTM(3, 5)", linen=LINEN.format("OptimizedLSTMCell"),
        nnx=NNX.format("OptimizedLSTMCell"), equinox="eqx.nn.LSTMCell(3, 5, key=key)", inputs=X,
        play=layer("parameters")),
    Row(key="lstm-batch-first", title="LSTM: which axis is the time", torch="nn.LSTM(3, 5)",
        linen=LINEN.format("OptimizedLSTMCell"), torch_closed="batch_first=True",
        inputs=X, play=layer(), seeds=(0,)),
    Row(key="gru", title="GRU: order of the gates, a bias inside the reset gate",
        torch="nn.GRU(3, 5, batch_first=True)", linen=LINEN.format("GRUCell"),
        nnx=NNX.format("GRUCell"), equinox="eqx.nn.GRUCell(3, 5, key=key)", inputs=X,
        play=layer(), seeds=(0,)),
    Row(key="rnn", title="Simple RNN: tanh", torch="nn.RNN(3, 5, batch_first=True)",
        linen=LINEN.format("SimpleCell"),
        nnx="nnx.RNN(nnx.SimpleCell(3, 5, dtype=float, param_dtype=float, rngs=rngs), rngs=rngs)",
        inputs=X, play=layer(), seeds=(0,)),
]  # fmt: skip
