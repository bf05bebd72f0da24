"""Layer kinds by module class."""

from collections.abc import Callable

from torch import nn

from pipeline.config.models import Activation

# A layer's kind determines how its parameters, gradients and optimizer slots are translated. Canonical
# names and layouts are torch's own, so here a kind is only a name. Subclasses have the same kind.
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
    """Map canonical layer names to layer kinds, for every layer with parameters.

    A module that is not in `KINDS` gets the kind for a module's own parameters.
    """
    kinds = {}
    for name in dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters()):
        module = model.get_submodule(name)
        known = (kind for layer, kind in KINDS.items() if isinstance(module, layer))
        kinds[name] = next(known, "own")
    return kinds
