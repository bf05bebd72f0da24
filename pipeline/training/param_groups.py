"""Parameter groups: weight decay, learning-rate factor, frozen or Muon, the same on both backends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from pipeline.config.experiment import Config
from pipeline.config.optimizers import LambConfig, MuonConfig
from pipeline.errors import UserError

Shape = tuple[int, ...]

# Layer kinds whose weights Muon orthogonalises: no embeddings, no norms and no parameters outside a
# layer, such as position embeddings.
MATRICES = {"linear", "conv", "conv_transpose", "attention"}
# Parameters in which torch concatenates several weights that Flax keeps separate.
PACKED = {"in_proj_weight": 3, "in_proj_bias": 3}


@dataclass(frozen=True)
class ParamGroup:
    """Optimizer settings of a parameter."""

    decay: bool = True  # weight decay applies
    lr_factor: float = 1.0
    frozen: bool = False  # not trained, without optimizer state
    matrix: bool = False  # Muon orthogonalises its updates
    # Weights concatenated along its first axis that Muon and LAMB treat separately: query, key and value
    # of an attention. 1 for other optimizers.
    parts: int = 1


def param_groups(
    shapes: Mapping[str, Shape], kinds: Mapping[str, str], config: Config
) -> dict[str, ParamGroup]:
    """Assign each parameter, by canonical name, to a group.

    Patterns come from `optimizer.no_decay`, `lr_factors` and `adamw`, and from `train.frozen`. One is a name
    with wildcards (`fc.*`, `conv?.weight`), `bias` for all biases or `norm` for all parameters of
    normalisation layers. The last two may match nothing, so that one command serves models with and
    without them. `kinds` maps layers to their kind; a parameter without a layer is `own`.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to train.
    """
    optimizer = config.optimizer

    def match_all(key: str, patterns: Iterable[str]) -> set[str]:
        return set().union(*(match_parameters(key, pattern, shapes, kinds) for pattern in patterns))

    no_decay = match_all("optimizer.no_decay", optimizer.no_decay)
    frozen = match_all("train.frozen", config.train.frozen)
    factors: dict[str, float] = {}
    for pattern, factor in optimizer.lr_factors.items():
        factors |= dict.fromkeys(match_all("optimizer.lr_factors", [pattern]), factor)
    matrices: set[str] = set()
    if isinstance(optimizer, MuonConfig):
        # Jordan 2024 ("Muon: An optimizer for hidden layers in neural networks") leaves embeddings,
        # norms, biases and the output layer to AdamW; `optimizer.adamw` names the output layer.
        matrices = {
            name
            for name, shape in shapes.items()
            if role(name).endswith("weight")
            and kind_of(name, kinds) in MATRICES
            and len(shape) >= 2
        }
        matrices -= match_all("optimizer.adamw", optimizer.adamw)
    if shapes and frozen == set(shapes):
        problem, hint = "no parameter is left to train", "Freeze fewer, or set train.frozen=[]."
        raise UserError("train.frozen", config.train.frozen, problem=problem, hint=hint)
    splits_packed = isinstance(optimizer, LambConfig | MuonConfig)
    return {
        name: ParamGroup(frozen=True)
        if name in frozen
        else ParamGroup(
            decay=name not in no_decay,
            lr_factor=factors.get(name, 1.0),
            matrix=name in matrices,
            parts=PACKED.get(role(name), 1) if splits_packed else 1,
        )
        for name in shapes
    }


def match_parameters(
    key: str, pattern: str, shapes: Mapping[str, Shape], kinds: Mapping[str, str]
) -> set[str]:
    """Return the parameters that a pattern matches; refuse a pattern of the key `key` that matches none."""
    if pattern == "bias":
        return {name for name in shapes if role(name) in ("bias", "in_proj_bias")}
    if pattern == "norm":
        return {name for name in shapes if kind_of(name, kinds) == "norm"}
    names = {name for name in shapes if fnmatchcase(name, pattern)}
    if not names:
        closest = get_close_matches(pattern.rstrip("*."), shapes, 3, 0.3) or list(shapes)[:3]
        hint = f"Closest names: {', '.join(closest)}."
        if any(name.startswith(f"{pattern}.") for name in shapes):
            hint = f"Did you mean '{pattern}.*'?"
        allowed = "bias, norm, or a name of a parameter, wildcards included"
        raise UserError(key, pattern, allowed, hint)
    return names


def role(name: str) -> str:
    """Role of a parameter in its layer: the last part of its name."""
    return name.rpartition(".")[2]


def kind_of(name: str, kinds: Mapping[str, str]) -> str:
    """Kind of a parameter's layer."""
    return kinds.get(name.rpartition(".")[0], "own")
