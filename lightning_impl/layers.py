"""The kinds of layers, and the pieces that models are built of."""

from torch import nn

from pipeline.config import Activation

# Parameters, gradients and optimizer slots of a layer are translated by its kind. Canonical names
# and layouts are torch's own, so on this side a kind is only a name.
KINDS: dict[type[nn.Module], str] = {nn.Linear: "linear", nn.Conv2d: "conv"}

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    Activation.relu: nn.ReLU,
    Activation.sigmoid: nn.Sigmoid,
    Activation.tanh: nn.Tanh,
    Activation.gelu: nn.GELU,
}


def layer_kinds(model: nn.Module) -> dict[str, str]:
    """Canonical layer name to layer kind, for every layer that has parameters.

    Raises:
        KeyError: a layer of a kind that is not in `KINDS`.
    """
    owners = dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters())
    return {name: KINDS[type(model.get_submodule(name))] for name in owners}
