"""The `optimizer` group."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.fields import option, require


@dataclass(kw_only=True)
class OptimizerConfig:
    name: str = option(MISSING, "the optimizer's name in both backends' registries")
    lr: float = option(1e-3, "learning rate before the schedule")
    weight_decay: float = option(0.0, "as torch.optim defines it for this optimizer")

    def __post_init__(self) -> None:
        require(self.lr > 0, "optimizer.lr", self.lr, "above 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")


@dataclass(kw_only=True)
class SGDConfig(OptimizerConfig):
    name: str = "sgd"
    lr: float = option(0.1, "learning rate before the schedule")
    momentum: float = option(0.9, "share of the last update that is kept")
    nesterov: bool = option(False, "look ahead along the momentum")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "in [0, 1)")
        require(
            not self.nesterov or self.momentum > 0,
            "optimizer.nesterov",
            self.nesterov,
            "false when optimizer.momentum=0",
            "Set optimizer.momentum=0.9.",
        )


@dataclass(kw_only=True)
class AdamConfig(OptimizerConfig):
    name: str = "adam"
    betas: list[float] = option([0.9, 0.999], "decay of the first and second moment")
    eps: float = option(1e-8, "added to the root of the second moment")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "optimizer.betas",
            self.betas,
            "two numbers in [0, 1)",
        )
        require(self.eps > 0, "optimizer.eps", self.eps, "above 0")


@dataclass(kw_only=True)
class AdamWConfig(AdamConfig):
    name: str = "adamw"
    weight_decay: float = option(1e-2, "decoupled: the weights shrink by lr × weight_decay a step")


OPTIMIZERS = {"sgd": SGDConfig, "adam": AdamConfig, "adamw": AdamWConfig}
