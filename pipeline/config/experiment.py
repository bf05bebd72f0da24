"""The config of an experiment and its registration with Hydra."""

import sys
from dataclasses import field, fields, is_dataclass
from enum import Enum
from functools import cache
from math import prod
from os.path import normpath
from pathlib import Path, PurePath
from typing import Any, get_origin

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from pipeline.backend_specs import BACKENDS
from pipeline.config.accelerator import AcceleratorConfig, Strategy
from pipeline.config.column_datasets import COLUMN_DATASETS
from pipeline.config.datasets import DATASETS, DatasetConfig
from pipeline.config.fields import ConfigGroup, option, require
from pipeline.config.hydra_compat import store
from pipeline.config.loggers import LoggerConfig
from pipeline.config.models import MODELS, ModelConfig
from pipeline.config.optimizers import OPTIMIZERS, OptimizerConfig
from pipeline.config.own_datasets import OWN_DATASETS
from pipeline.config.schedules import SCHEDULES, ScheduleConfig
from pipeline.config.tasks import TASKS, TaskConfig
from pipeline.config.train import TrainConfig
from pipeline.errors import UserError

# Dataclass of each group option; conf/<group>/<option>.yaml names one of these.
SCHEMAS: dict[str, dict[str, type]] = {
    "model": MODELS,
    "dataset": DATASETS | OWN_DATASETS | COLUMN_DATASETS,
    "task": TASKS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}

# Keys that repeat an experiment, and the word for such runs: they are averaged.
REPEATS = {"seed": "seeds", "dataset.fold": "folds"}

# Hydra finds launchers and sweepers only in the namespace package `hydra_plugins`, anywhere on the path.
PLUGINS = str(Path(__file__).resolve().parents[1] / "sweep" / "plugins")


class Mode(Enum):
    train = "train"
    test = "test"
    look = "look"


class BackendConfig(ConfigGroup, key="backend"):
    name: str = option(MISSING, "name of the backend: torch (PyTorch Lightning), jax (Flax)")
    compile: bool = option(False, "torch: compile the model and its loss; jax always compiles")
    mode: str = option(
        "default", "mode of torch.compile", "default, reduce-overhead or max-autotune"
    )
    inductor: dict[str, Any] = option(
        {}, "torch, compiled: options of Inductor, as {freezing:true}"
    )
    fused: bool = option(
        True, "torch: update all weights in one kernel, where the optimizer has it"
    )
    channels_last: bool = option(False, "torch: keep convolutions' weights as images are: NHWC")
    xla_flags: dict[str, Any] = option({}, "jax: flags of XLA, as {xla_cpu_enable_fast_math:true}")

    def __post_init__(self) -> None:
        super().__post_init__()
        spec = BACKENDS.get(self.name)
        if self.compile and spec and not spec.compiles:
            problem = f"{self.name} compiles every step by itself"
            hint = f"Leave it out, or compare them by -m backend=torch_compiled,{self.name}."
            raise UserError("backend.compile", "true", problem=problem, hint=hint)


class SweepConfig(ConfigGroup, key="sweep"):
    retry_failed: bool = option(
        False, "also run failed jobs; each resumes from its last checkpoint"
    )
    dry_run: bool = option(False, "show what would run, and stop")
    vectorize: bool = option(
        False, "train jobs that differ in seed, learning rate or such numbers in one program"
    )


class Config(ConfigGroup):
    """One experiment."""

    backend: BackendConfig = MISSING
    model: ModelConfig = MISSING
    dataset: DatasetConfig = MISSING
    task: TaskConfig = field(default_factory=TaskConfig)
    optimizer: OptimizerConfig = MISSING
    schedule: ScheduleConfig = MISSING
    accelerator: AcceleratorConfig = field(default_factory=AcceleratorConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    name: str | None = option(None, "name of the run or sweep, and of its folder under outputs/")
    seed: int = option(0, "seed of the initial weights, batch order, augmentation and dropout")
    mode: Mode = option(Mode.train, "train; test a checkpoint; look: show the first batches")
    resume: str | None = option(None, "auto, or the run (or checkpoint) to resume")
    checkpoint: str | None = option(None, "the run or checkpoint that mode=test evaluates")
    tags: list[str] = option([], "labels of the run in W&B")
    callbacks: list[str] = option([], "your own, as [my_module:Samples]: called at evaluations")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.seed < 2**63, "seed", self.seed, "a whole number, 0 or more")
        require_name(self.name)
        if self.accelerator.strategy is Strategy.fsdp and self.backend.channels_last:
            spec = BACKENDS.get(self.backend.name)
            is_read = spec is None or "backend.channels_last" not in spec.ignores
            allowed = "false under fsdp, which shards contiguous weights alone"
            require(not is_read, "backend.channels_last", True, allowed)
        shape = self.accelerator.nodes, self.accelerator.devices
        counts = [count for count in shape if isinstance(count, int)]
        if len(counts) == len(shape):
            self.train.check_shared(prod(counts))
        if self.mode is Mode.look:
            require(self.resume is None, "resume", self.resume, "left out when mode=look")
            for key in ("devices", "nodes"):
                value, name = getattr(self.accelerator, key), f"accelerator.{key}"
                hint = f"Set {name}=1, or take debug=look, which does."
                require(value == 1, name, value, "1 when mode=look: it shows the whole batch", hint)


def require_name(name: str | None) -> None:
    """Refuse a name whose folder would be outside outputs/."""
    path = PurePath(name or "run")
    outside = not path.parts or path.is_absolute() or ".." in path.parts or "\0" in str(path)
    hint = "To write elsewhere, set hydra.run.dir=FOLDER (of a sweep: hydra.sweep.dir=FOLDER)."
    direct = normpath(path)
    if ".." in path.parts and direct != "." and not direct.startswith(("..", "/")):
        require(False, "name", name, "a name with no .. in it", f"Did you mean name={direct}?")
    require(not outside, "name", name, "the name of a folder below outputs/", hint)


@cache
def register() -> None:
    """Register the schema and the plugins with Hydra, once per process; call before composing."""
    if PLUGINS not in sys.path:
        sys.path.append(PLUGINS)
    # Hydra copies the store for every group that it lists, half of the time of --help.
    configs = ConfigStore.instance()
    vars(configs)["__deepcopy__"] = lambda memo: configs
    store("schema", Config)
    for group, options in (SCHEMAS | {"backend": {"any": BackendConfig}}).items():
        for name, schema in options.items():
            node = OmegaConf.structured(schema)
            for entry in fields(schema):
                if get_origin(entry.type) is dict:  # accepts new keys without a `+`
                    OmegaConf.set_struct(node[entry.name], False)
            store(name, node, f"schema/{group}")


def typed(composed: DictConfig) -> Config:
    """Return the composed config as typed objects, which refuse values out of range."""
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    return config


def plain(config: Any) -> Any:
    """Return a typed config as plain containers, enumerations by name, to store and hash."""
    if is_dataclass(config):
        return {entry.name: plain(getattr(config, entry.name)) for entry in fields(config)}
    if isinstance(config, Enum):
        return config.name
    if isinstance(config, list | tuple):
        return [plain(item) for item in config]
    return config
