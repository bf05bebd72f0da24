"""The `optimizer` group. Defaults are those of torch.optim, or of the paper where torch has none."""

from dataclasses import dataclass
from enum import Enum
from math import sqrt

from omegaconf import MISSING

from pipeline.config.fields import option, require

LEARNING_RATE = "learning rate before the schedule"
FIRST_AND_SECOND = "decay of the first and second moment"
TO_THE_ROOT = "added to the root of the second moment"
DECOUPLED = "decay the weights by lr × weight_decay a step, instead of adding it to the gradient"


@dataclass(kw_only=True)
class OptimizerConfig:
    name: str = option(MISSING, "the optimizer's name in both backends' registries")
    lr: float = option(1e-3, LEARNING_RATE)
    weight_decay: float = option(0.0, "as torch.optim defines it for this optimizer")
    no_decay: list[str] = option(
        [], "parameters without weight decay: bias, norm, or names with wildcards like 'fc.*'"
    )
    lr_factors: dict[str, float] = option(
        {}, "on the learning rate of some parameters, last match wins, as '{fc.*:0.1,bias:2}'"
    )

    def __post_init__(self) -> None:
        require(self.lr > 0, "optimizer.lr", self.lr, "above 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        require(
            all(factor > 0 for factor in self.lr_factors.values()),
            "optimizer.lr_factors",
            self.lr_factors,
            "factors above 0",
            "What is not to learn at all goes into train.frozen.",
        )


@dataclass(kw_only=True)
class SGDConfig(OptimizerConfig):
    name: str = "sgd"
    lr: float = option(0.1, LEARNING_RATE)
    momentum: float = option(0.9, "share of the last update that is kept")
    nesterov: bool = option(False, "look ahead along the momentum")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("momentum", self.momentum)
        require(
            not self.nesterov or self.momentum > 0,
            "optimizer.nesterov",
            self.nesterov,
            "false when optimizer.momentum=0",
            "Set optimizer.momentum=0.9.",
        )


@dataclass(kw_only=True)
class MomentsConfig(OptimizerConfig):
    """What Adam and its kin share."""

    betas: list[float] = option([0.9, 0.999], FIRST_AND_SECOND)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "optimizer.betas",
            self.betas,
            "two numbers in [0, 1)",
        )


@dataclass(kw_only=True)
class AdamConfig(MomentsConfig):
    name: str = "adam"
    eps: float = option(1e-8, TO_THE_ROOT)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_eps(self.eps)


@dataclass(kw_only=True)
class AdamWConfig(AdamConfig):
    name: str = "adamw"
    weight_decay: float = option(1e-2, "decoupled: the weights shrink by lr × weight_decay a step")


@dataclass(kw_only=True)
class AMSGradConfig(AdamConfig):
    name: str = "amsgrad"
    decoupled_weight_decay: bool = option(False, DECOUPLED)


@dataclass(kw_only=True)
class AdamaxConfig(AdamConfig):
    name: str = "adamax"
    lr: float = option(2e-3, LEARNING_RATE)
    betas: list[float] = option([0.9, 0.999], "decay of the first moment and of the largest")
    eps: float = option(1e-8, "added to the gradient's absolute value")


@dataclass(kw_only=True)
class NAdamConfig(AdamConfig):
    name: str = "nadam"
    lr: float = option(2e-3, LEARNING_RATE)
    momentum_decay: float = option(4e-3, "how fast the momentum grows towards its full share")
    decoupled_weight_decay: bool = option(False, DECOUPLED)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.momentum_decay >= 0, "optimizer.momentum_decay", self.momentum_decay, "0 or more"
        )


@dataclass(kw_only=True)
class RAdamConfig(AdamConfig):
    name: str = "radam"
    decoupled_weight_decay: bool = option(False, DECOUPLED)


@dataclass(kw_only=True)
class RMSpropConfig(OptimizerConfig):
    name: str = "rmsprop"
    lr: float = option(1e-2, LEARNING_RATE)
    alpha: float = option(0.99, "decay of the mean of squared gradients")
    eps: float = option(1e-8, TO_THE_ROOT)
    momentum: float = option(0.0, "share of the last update that is kept")
    centered: bool = option(False, "divide by the deviation instead of the root mean square")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("alpha", self.alpha)
        require_share("momentum", self.momentum)
        require_eps(self.eps)


@dataclass(kw_only=True)
class AdagradConfig(OptimizerConfig):
    name: str = "adagrad"
    lr: float = option(1e-2, LEARNING_RATE)
    lr_decay: float = option(0.0, "the rate after n steps is lr / (1 + n × lr_decay)")
    initial_accumulator_value: float = option(0.0, "of the sums of squared gradients")
    eps: float = option(1e-10, "added to the root of the sum")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr_decay", "initial_accumulator_value"):
            require(getattr(self, name) >= 0, f"optimizer.{name}", getattr(self, name), "0 or more")
        require_eps(self.eps)


@dataclass(kw_only=True)
class AdadeltaConfig(OptimizerConfig):
    name: str = "adadelta"
    lr: float = option(1.0, LEARNING_RATE)
    rho: float = option(0.9, "decay of the means of squared gradients and squared updates")
    eps: float = option(1e-6, "added to both means, below their roots")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("rho", self.rho)
        require_eps(self.eps)


@dataclass(kw_only=True)
class LionConfig(MomentsConfig):
    name: str = "lion"
    lr: float = option(1e-4, LEARNING_RATE)
    betas: list[float] = option([0.9, 0.99], "share of the momentum in the update and in itself")
    weight_decay: float = option(0.0, "decoupled: the weights shrink by lr × weight_decay a step")


@dataclass(kw_only=True)
class LambConfig(AdamConfig):
    name: str = "lamb"
    eps: float = option(1e-6, TO_THE_ROOT)
    weight_decay: float = option(1e-2, "part of the update that is scaled to the weights' norm")


class AdjustLR(Enum):
    """How Muon scales the orthogonal update of a matrix, by the names of torch.optim.Muon."""

    original = "original"
    match_rms_adamw = "match_rms_adamw"
    spectral_unclamped = "spectral_unclamped"

    def factor(self, rows: int, columns: int) -> float:
        """On the update of a matrix `[rows, columns]`, that is `[out, in]`.

        Jordan 2024: √max(1, out/in); Liu et al. 2025, equation 4: 0.2 √max(out, in), as large as an
        update of AdamW; Bernstein 2025: √(out/in).
        """
        return {
            AdjustLR.original: sqrt(max(1, rows / columns)),
            AdjustLR.match_rms_adamw: 0.2 * sqrt(max(rows, columns)),
            AdjustLR.spectral_unclamped: sqrt(rows / columns),
        }[self]


@dataclass(kw_only=True)
class MuonConfig(AdamConfig):
    name: str = "muon"
    weight_decay: float = option(0.1, "decoupled: the weights shrink by lr × weight_decay a step")
    momentum: float = option(0.95, "decay of the mean gradient of a matrix")
    nesterov: bool = option(True, "look ahead along the momentum")
    ns_steps: int = option(5, "Newton-Schulz steps to make an update orthogonal")
    adjust_lr_fn: AdjustLR = option(
        AdjustLR.original,
        "original, match_rms_adamw (one learning rate serves matrices and the rest) "
        "or spectral_unclamped",
    )
    betas: list[float] = option([0.9, 0.999], "of AdamW, for what is no hidden matrix")
    eps: float = option(1e-8, "of AdamW, for what is no hidden matrix")
    adamw: list[str] = option(
        [], "matrices that AdamW updates as well; Muon's authors advise the output layer: ['fc.*']"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("momentum", self.momentum)
        require(self.ns_steps >= 1, "optimizer.ns_steps", self.ns_steps, "at least 1")


OPTIMIZERS = {
    "sgd": SGDConfig,
    "adam": AdamConfig,
    "adamw": AdamWConfig,
    "amsgrad": AMSGradConfig,
    "rmsprop": RMSpropConfig,
    "adagrad": AdagradConfig,
    "adadelta": AdadeltaConfig,
    "adamax": AdamaxConfig,
    "nadam": NAdamConfig,
    "radam": RAdamConfig,
    "lion": LionConfig,
    "lamb": LambConfig,
    "muon": MuonConfig,
}


def require_share(name: str, value: float) -> None:
    """Refuse a setting that is no share."""
    require(0 <= value < 1, f"optimizer.{name}", value, "in [0, 1)")


def require_eps(value: float) -> None:
    """Refuse an epsilon that lets a zero be divided by."""
    require(value > 0, "optimizer.eps", value, "above 0")
