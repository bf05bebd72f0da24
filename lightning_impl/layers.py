"""The kinds of layers, and the pieces that models are built of."""

from collections.abc import Callable

from torch import nn

from pipeline.config import Activation

# Parameters, gradients and optimizer slots of a layer are translated by its kind. Canonical names
# and layouts are torch's own, so on this side a kind is only a name. Subclasses are of the same kind.
KINDS: dict[type[nn.Module], str] = {
    nn.Linear: "linear",
    nn.modules.conv._ConvTransposeNd: "conv_transpose",
    nn.modules.conv._ConvNd: "conv",
    nn.Embedding: "embedding",
    nn.LayerNorm: "norm",
    nn.GroupNorm: "norm",
    nn.RMSNorm: "norm",
    nn.modules.batchnorm._NormBase: "norm",
    nn.MultiheadAttention: "attention",
}

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    Activation.relu: nn.ReLU,
    Activation.sigmoid: nn.Sigmoid,
    Activation.tanh: nn.Tanh,
    Activation.gelu: nn.GELU,
    Activation.gelu_tanh: lambda: nn.GELU("tanh"),
}


def layer_kinds(model: nn.Module) -> dict[str, str]:
    """Canonical layer name to layer kind, for every layer that has parameters.

    Args:
        model: whose parameters of a module that is not in `KINDS` are the module's own.
    """
    owners = dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters())
    return {name: _kind(model.get_submodule(name)) for name in owners}


def _kind(module: nn.Module) -> str:
    return next((kind for layer, kind in KINDS.items() if isinstance(module, layer)), "own")
