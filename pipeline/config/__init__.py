"""The typed configuration: one dataclass per config group, checked by Hydra at composition.

Each field carries its one line of `--help`. What YAML types cannot say (ranges, combinations) is
checked in `__post_init__`, which runs once, when `typed` converts the composed config at the door.
"""

from pipeline.config.accelerator import AcceleratorConfig, Kind, MatmulPrecision
from pipeline.config.datasets import (
    DatasetConfig,
    DigitsConfig,
    ImagesConfig,
    LineConfig,
    Source,
    SyntheticConfig,
)
from pipeline.config.experiment import (
    SCHEMAS,
    BackendConfig,
    Config,
    Mode,
    SweepConfig,
    plain,
    register,
    typed,
)
from pipeline.config.fields import option, require
from pipeline.config.loggers import CsvConfig, LoggerConfig, TensorboardConfig, WandbConfig
from pipeline.config.models import (
    Activation,
    CNNConfig,
    Initial,
    LinearConfig,
    MLPConfig,
    ModelConfig,
    SimpleCNNConfig,
)
from pipeline.config.optimizers import AdamConfig, AdamWConfig, OptimizerConfig, SGDConfig
from pipeline.config.schedules import (
    ConstantConfig,
    CosineConfig,
    ScheduleConfig,
    StepConfig,
    WarmupCosineConfig,
)
from pipeline.config.train import EVAL_EVERY, Precision, TrainConfig

__all__ = [
    "EVAL_EVERY",
    "SCHEMAS",
    "AcceleratorConfig",
    "Activation",
    "AdamConfig",
    "AdamWConfig",
    "BackendConfig",
    "CNNConfig",
    "Config",
    "ConstantConfig",
    "CosineConfig",
    "CsvConfig",
    "DatasetConfig",
    "DigitsConfig",
    "ImagesConfig",
    "Initial",
    "Kind",
    "LineConfig",
    "LinearConfig",
    "LoggerConfig",
    "MLPConfig",
    "MatmulPrecision",
    "Mode",
    "ModelConfig",
    "OptimizerConfig",
    "Precision",
    "SGDConfig",
    "ScheduleConfig",
    "SimpleCNNConfig",
    "Source",
    "StepConfig",
    "SweepConfig",
    "SyntheticConfig",
    "TensorboardConfig",
    "TrainConfig",
    "WandbConfig",
    "WarmupCosineConfig",
    "option",
    "plain",
    "register",
    "require",
    "typed",
]
