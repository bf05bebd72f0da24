"""The `logger` group."""

from dataclasses import dataclass

from pipeline.config.fields import option, require

ARTIFACTS = ("config", "checkpoint", "report")


@dataclass(kw_only=True)
class WandbConfig:
    project: str = option("tandem", "W&B project")
    entity: str | None = option(None, "W&B user or team; null: your default")
    artifacts: list[str] = option(
        [*ARTIFACTS], "what W&B keeps of config, checkpoint (the best) and report (of a sweep)"
    )
    checkpoint_mb: int = option(500, "a checkpoint larger than this stays on disk alone")
    predictions: int = option(
        16, "worst test samples to show (up to 16), beside the confusion matrix; 0: neither"
    )

    def __post_init__(self) -> None:
        for kind in self.artifacts:
            allowed = f"a list of {', '.join(ARTIFACTS)}"
            hint = "Set logger.wandb.artifacts=[] to keep none."
            require(kind in ARTIFACTS, "logger.wandb.artifacts", kind, allowed, hint)
        for name in ("checkpoint_mb", "predictions"):
            value = getattr(self, name)
            require(value >= 0, f"logger.wandb.{name}", value, "a whole number, 0 or more")


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
