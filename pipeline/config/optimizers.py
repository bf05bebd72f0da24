"""The `optimizer` group. Defaults are torch.optim's (SGD: lr 0.1 and momentum 0.9), or those of the paper."""

from enum import Enum
from math import sqrt
from typing import Any

from omegaconf import MISSING

from pipeline.config.fields import ConfigGroup, option, require
from pipeline.errors import UserError

TO_THE_ROOT = "epsilon in the denominator, for numerical stability"
SHRINKS = "decoupled: the weights shrink by lr × weight_decay a step"
MOMENTUM = "momentum coefficient"
OF_ADAMW = "AdamW's, for the parameters that Muon does not update"
DECOUPLED = "decay the weights by lr × weight_decay a step, instead of adding it to the gradient"


class OptimizerConfig(ConfigGroup, key="optimizer"):
    name: str = option(MISSING, "the optimizer's name in both backends' registries")
    lr: float = option(1e-3, "learning rate before the schedule", "above 0")
    weight_decay: float = option(0.0, "as torch.optim defines it for this optimizer", "0 or more")
    no_decay: list[str] = option(
        [], "parameters without weight decay: bias, norm, or names with wildcards like 'fc.*'"
    )
    lr_factors: dict[str, float] = option(
        {}, "factors on the learning rate by parameter, like '{fc.*:0.1,bias:2}'; last match wins"
    )

    def label(self, backend: str) -> str:
        """Return what tells the states of two optimizers of a backend apart."""
        del backend  # the same on all
        return self.name

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = all(factor > 0 for factor in self.lr_factors.values())
        hint = "What is not to learn at all goes into train.frozen."
        require(positive, "optimizer.lr_factors", self.lr_factors, "factors above 0", hint)


class SGDConfig(OptimizerConfig):
    name: str = "sgd"
    lr: float = 0.1
    momentum: float = option(0.9, MOMENTUM, "in [0, 1)")
    nesterov: bool = option(False, "use Nesterov momentum")

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = not self.nesterov or self.momentum > 0
        allowed = "false when optimizer.momentum=0"
        require(fits, "optimizer.nesterov", self.nesterov, allowed, "Set optimizer.momentum=0.9.")


class MomentsConfig(OptimizerConfig):
    """Keys of Adam and its variants."""

    betas: list[float] = option(
        [0.9, 0.999], "decay of the first and second moment", "two numbers in [0, 1)"
    )


class AdamConfig(MomentsConfig):
    name: str = "adam"
    eps: float = option(1e-8, TO_THE_ROOT, "above 0")


class AdamWConfig(AdamConfig):
    name: str = "adamw"
    weight_decay: float = option(1e-2, SHRINKS)


class AMSGradConfig(AdamConfig):
    name: str = "amsgrad"
    decoupled_weight_decay: bool = option(False, DECOUPLED)


class AdamaxConfig(AdamConfig):
    name: str = "adamax"
    lr: float = 2e-3
    betas: list[float] = option([0.9, 0.999], "decay of the first moment and of the infinity norm")
    eps: float = option(1e-8, "added to the gradient's absolute value")


class NAdamConfig(AdamConfig):
    name: str = "nadam"
    lr: float = 2e-3
    momentum_decay: float = option(4e-3, "how fast momentum reaches its full value", "0 or more")
    decoupled_weight_decay: bool = option(False, DECOUPLED)


class RAdamConfig(AdamConfig):
    name: str = "radam"
    decoupled_weight_decay: bool = option(False, DECOUPLED)


class RMSpropConfig(OptimizerConfig):
    name: str = "rmsprop"
    lr: float = 1e-2
    alpha: float = option(0.99, "decay of the mean of squared gradients", "in [0, 1)")
    eps: float = option(1e-8, TO_THE_ROOT, "above 0")
    momentum: float = option(0.0, MOMENTUM, "in [0, 1)")
    centered: bool = option(False, "divide by the standard deviation, not the root mean square")


class AdagradConfig(OptimizerConfig):
    name: str = "adagrad"
    lr: float = 1e-2
    lr_decay: float = option(0.0, "the rate after n steps is lr / (1 + n × lr_decay)", "0 or more")
    initial_accumulator_value: float = option(0.0, "initial sum of squared gradients", "0 or more")
    eps: float = option(1e-10, "added to the root of the sum", "above 0")


class AdadeltaConfig(OptimizerConfig):
    name: str = "adadelta"
    lr: float = 1.0
    rho: float = option(0.9, "decay of the mean squared gradients and updates", "in [0, 1)")
    eps: float = option(1e-6, "added to both means, inside their square roots", "above 0")


class LionConfig(MomentsConfig):
    name: str = "lion"
    lr: float = 1e-4
    betas: list[float] = option([0.9, 0.99], "weight of the momentum in the update, and its decay")
    weight_decay: float = option(0.0, SHRINKS)


class LambConfig(AdamConfig):
    name: str = "lamb"
    eps: float = 1e-6
    weight_decay: float = option(
        1e-2, "weight_decay × weights, added to the update before its norm is scaled"
    )


class AdjustLR(Enum):
    """Scale of Muon's orthogonal update of a matrix, by the names of torch.optim.Muon."""

    original = "original"
    match_rms_adamw = "match_rms_adamw"
    spectral_unclamped = "spectral_unclamped"

    def factor(self, rows: int, columns: int) -> float:
        """Return the factor on the update of a matrix `[rows, columns]`, that is `[out, in]`.

        Jordan 2024: √max(1, out/in); Liu et al. 2025, equation 4: 0.2 √max(out, in), as large as an
        update of AdamW; Bernstein 2025: √(out/in).
        """
        return {
            AdjustLR.original: sqrt(max(1, rows / columns)),
            AdjustLR.match_rms_adamw: 0.2 * sqrt(max(rows, columns)),
            AdjustLR.spectral_unclamped: sqrt(rows / columns),
        }[self]


class MuonConfig(AdamConfig):
    name: str = "muon"
    weight_decay: float = option(0.1, SHRINKS)
    momentum: float = option(0.95, MOMENTUM, "in [0, 1)")
    nesterov: bool = option(True, "use Nesterov momentum")
    ns_steps: int = option(5, "Newton-Schulz steps to make an update orthogonal", "at least 1")
    adjust_lr_fn: AdjustLR = option(
        AdjustLR.original,
        "original, spectral_unclamped, or match_rms_adamw (one learning rate for all parameters)",
    )
    betas: list[float] = option([0.9, 0.999], OF_ADAMW)
    eps: float = option(1e-8, OF_ADAMW)
    adamw: list[str] = option(
        [], "matrices that AdamW updates as well; Muon's authors advise the output layer: ['fc.*']"
    )


class OwnOptimizerConfig(OptimizerConfig):
    """A user's own optimizer, of one backend or of both."""

    name: str = "own"
    torch: str | None = option(None, "your torch.optim.Optimizer, as package.module:Class")
    jax: str | None = option(
        None, "your function that makes an optax.GradientTransformation, as package.module:function"
    )
    options: dict[str, Any] = option({}, "arguments of both, after the learning rate")
    torch_options: dict[str, Any] = option({}, "more arguments of optimizer.torch alone")
    jax_options: dict[str, Any] = option({}, "more arguments of optimizer.jax alone")

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("options", "torch_options", "jax_options"):
            options = getattr(self, key)
            for name, instead in RESERVED.items():
                problem = f"{name} is no option: Tandem passes it"
                if name in options:
                    raise UserError(
                        f"optimizer.{key}", options, problem=problem, hint=f"Set {instead}."
                    )

    def label(self, backend: str) -> str:
        return f"own ({getattr(self, backend, None)})"


# Arguments of an own optimizer that follow from other keys.
RESERVED = {
    "params": "train.frozen",
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "mask": "optimizer.no_decay",
}

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
    "own": OwnOptimizerConfig,
}
