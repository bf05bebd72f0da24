"""The `logger` group."""

from dataclasses import dataclass

from pipeline.config.fields import option


@dataclass(kw_only=True)
class WandbConfig:
    project: str = option("tandem", "W&B project")
    entity: str | None = option(None, "W&B user or team; null: your default")


@dataclass(kw_only=True)
class CsvConfig:
    file: str = option("metrics.csv", "name in the run's folder")


@dataclass(kw_only=True)
class TensorboardConfig:
    folder: str = option("tensorboard", "name in the run's folder")


@dataclass(kw_only=True)
class LoggerConfig:
    """The loggers that are switched on; metrics.jsonl and result.json are written in any case."""

    wandb: WandbConfig | None = None
    csv: CsvConfig | None = None
    tensorboard: TensorboardConfig | None = None
