"""Which parameters decay, learn slower, stay frozen or are Muon's: one answer for both backends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from pipeline.config import Config, LambConfig, MuonConfig
from pipeline.errors import UserError

Shape = tuple[int, ...]

# Kinds of layers whose weights are matrices of Muon's: not those of embeddings and norms, and not
# what a module owns itself, such as a position embedding.
MATRICES = {"linear", "conv", "conv_transpose", "attention"}
# Parameters in which torch keeps several weights one after the other; Flax has them apart.
PACKED = {"in_proj_weight": 3, "in_proj_bias": 3}


@dataclass(frozen=True)
class Group:
    """How the optimizer treats a parameter.

    Args:
        decay: whether weight decay is for it.
        lr_factor: on the learning rate.
        frozen: whether it stays as it is; then it has no optimizer state.
        matrix: whether Muon orthogonalises its updates. Only with Muon.
        parts: weights that lie in it one after the other, along the first axis, and that Muon and LAMB
            treat apart: query, key and value of an attention. Only with these two.
    """

    decay: bool = True
    lr_factor: float = 1.0
    frozen: bool = False
    matrix: bool = False
    parts: int = 1


def groups(
    shapes: Mapping[str, Shape], kinds: Mapping[str, str], config: Config
) -> dict[str, Group]:
    """How each parameter is treated, by canonical name.

    Patterns are names with wildcards (`fc.*`, `conv?.weight`); two words are short for many: `bias` for
    all biases, `norm` for all parameters of normalisation layers. Both may match nothing, so that one
    command serves models with and without them.

    Args:
        shapes: canonical parameter name to canonical shape.
        kinds: canonical layer name to layer kind; a parameter whose layer is not there is its
            module's own.
        config: `optimizer.no_decay`, `optimizer.lr_factors`, `optimizer.adamw` and `train.frozen` count.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to train.
    """
    optimizer = config.optimizer

    def chosen(key: str, patterns: Iterable[str]) -> set[str]:
        return set().union(*(matching(key, pattern, shapes, kinds) for pattern in patterns))

    no_decay = chosen("optimizer.no_decay", optimizer.no_decay)
    frozen = chosen("train.frozen", config.train.frozen)
    factors: dict[str, float] = {}
    for pattern, factor in optimizer.lr_factors.items():
        factors |= dict.fromkeys(chosen("optimizer.lr_factors", [pattern]), factor)
    matrices: set[str] = set()
    if isinstance(optimizer, MuonConfig):
        matrices = {name for name in shapes if is_matrix(name, shapes, kinds)}
        matrices -= chosen("optimizer.adamw", optimizer.adamw)
    if shapes and frozen == set(shapes):
        hint = "Freeze fewer, or set train.frozen=[]."
        raise UserError("train.frozen", config.train.frozen, "less than all parameters", hint)
    apart = isinstance(optimizer, LambConfig | MuonConfig)
    return {
        name: Group(frozen=True)
        if name in frozen
        else Group(
            decay=name not in no_decay,
            lr_factor=factors.get(name, 1.0),
            matrix=name in matrices,
            parts=PACKED.get(role(name), 1) if apart else 1,
        )
        for name in shapes
    }


def matching(
    key: str, pattern: str, shapes: Mapping[str, Shape], kinds: Mapping[str, str]
) -> set[str]:
    """The parameters that a pattern of a configuration key means.

    Raises:
        UserError: none; with the names that are closest to it.
    """
    if pattern == "bias":
        return {name for name in shapes if role(name) in ("bias", "in_proj_bias")}
    if pattern == "norm":
        return {name for name in shapes if kind_of(name, kinds) == "norm"}
    found = {name for name in shapes if fnmatchcase(name, pattern)}
    if not found:
        allowed = "bias, norm, or a name of a parameter, wildcards included"
        raise UserError(key, pattern, allowed, closest(pattern, list(shapes)))
    return found


def closest(pattern: str, names: list[str]) -> str:
    """A hint at what a pattern that matches nothing may have meant."""
    if any(name.startswith(f"{pattern}.") for name in names):
        return f"Did you mean '{pattern}.*'?"
    alike = get_close_matches(pattern.rstrip("*."), names, 3, 0.3) or names[:3]
    return f"Closest names: {', '.join(alike)}."


def is_matrix(name: str, shapes: Mapping[str, Shape], kinds: Mapping[str, str]) -> bool:
    """Whether a parameter is the weight of a hidden layer with two dimensions or more.

    Jordan 2024 ("Muon: An optimizer for hidden layers in neural networks") leaves embeddings, norms
    and biases to AdamW. The output layer too; which that is, `optimizer.adamw` says.
    """
    weight = role(name).endswith("weight") and kind_of(name, kinds) in MATRICES
    return weight and len(shapes[name]) >= 2


def role(name: str) -> str:
    """What a parameter is to its layer: the last part of its name."""
    return name.rpartition(".")[2]


def kind_of(name: str, kinds: Mapping[str, str]) -> str:
    """The kind of a parameter's layer."""
    return kinds.get(name.rpartition(".")[0], "own")
