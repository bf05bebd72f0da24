"""One experiment, whole; and how Hydra learns of it."""

import sys
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from math import prod
from pathlib import Path
from typing import Any, get_origin

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from pipeline.config.accelerator import AUTO, AcceleratorConfig
from pipeline.config.datasets import DATASETS, DatasetConfig
from pipeline.config.fields import option, require
from pipeline.config.loggers import LoggerConfig
from pipeline.config.models import MODELS, ModelConfig
from pipeline.config.optimizers import OPTIMIZERS, OptimizerConfig
from pipeline.config.schedules import SCHEDULES, ScheduleConfig
from pipeline.config.train import TrainConfig

# Every group option that is a dataclass of its own; conf/<group>/<option>.yaml names one of these.
SCHEMAS: dict[str, dict[str, type]] = {
    "model": MODELS,
    "dataset": DATASETS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}


# Hydra takes launchers and sweepers from the namespace package `hydra_plugins` alone, wherever on the
# path its parts lie.
PLUGINS = str(Path(__file__).resolve().parent.parent / "plugins")


class Mode(Enum):
    train = "train"
    test = "test"
    look = "look"


@dataclass(kw_only=True)
class BackendConfig:
    name: str = option(MISSING, "torch (PyTorch Lightning) or jax (Flax)")


@dataclass(kw_only=True)
class SweepConfig:
    retry_failed: bool = option(False, "run failed jobs of the same name again")
    dry_run: bool = option(False, "show what would run, and stop")


@dataclass(kw_only=True)
class Config:
    """One experiment."""

    backend: BackendConfig = MISSING
    model: ModelConfig = MISSING
    dataset: DatasetConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    schedule: ScheduleConfig = MISSING
    accelerator: AcceleratorConfig = field(default_factory=AcceleratorConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    name: str | None = option(None, "of the run or sweep, and of its folder under outputs/")
    seed: int = option(0, "keys the weights at step 0, the batch order and the augmentation")
    mode: Mode = option(Mode.train, "train; test a checkpoint; or look at what is fed")
    resume: str | None = option(None, "auto, or the run (or checkpoint) to go on from")
    checkpoint: str | None = option(None, "the run or checkpoint that mode=test evaluates")
    tags: list[str] = option([], "labels of the run in W&B")

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "seed", self.seed, "a whole number, 0 or more")
        shape = self.accelerator.nodes, self.accelerator.devices
        if AUTO not in shape:
            self.train.check_shared(prod(shape))
        if self.mode is Mode.look:
            self._check_look()

    def _check_look(self) -> None:
        """Refuse what is not seen, or not wanted, in a look at the first batches.

        Raises:
            UserError: one of them.
        """
        require(self.resume is None, "resume", self.resume, "left out when mode=look")
        for key in ("devices", "nodes"):
            value, name = getattr(self.accelerator, key), f"accelerator.{key}"
            hint = f"Set {name}=1, or take debug=look, which does."
            require(value == 1, name, value, "1 when mode=look: it shows the whole batch", hint)


def register() -> None:
    """Tell Hydra the schema, and where our plugins are; call before composing."""
    if PLUGINS not in sys.path:
        sys.path.append(PLUGINS)
    store = ConfigStore.instance()
    # Hydra copies the store for every group that it lists, which is half of the time of --help.
    store.__deepcopy__ = lambda memo: store
    store.store(name="schema", node=Config)
    for group, options in SCHEMAS.items():
        for name, schema in options.items():
            store.store(group=f"schema/{group}", name=name, node=opened(schema))


def opened(schema: type) -> DictConfig:
    """A schema whose maps take new keys; Hydra would want a `+` before them."""
    node = OmegaConf.structured(schema)
    for entry in fields(schema):
        if get_origin(entry.type) is dict:
            OmegaConf.set_struct(node[entry.name], False)
    return node


def typed(composed: DictConfig) -> Config:
    """The composed config as typed objects; from here on nobody passes a raw config around.

    Raises:
        UserError: a value is of the right type but out of range.
    """
    return OmegaConf.to_object(composed)


def plain(config: Any) -> Any:
    """A typed config as plain containers, enumerations by name: what is stored and hashed."""
    if is_dataclass(config):
        return {entry.name: plain(getattr(config, entry.name)) for entry in fields(config)}
    if isinstance(config, Enum):
        return config.name
    if isinstance(config, list | tuple):
        return [plain(item) for item in config]
    return config
