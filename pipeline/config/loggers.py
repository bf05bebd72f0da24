"""The `logger` group."""

from pipeline.config.fields import ConfigGroup, option, require

ARTIFACTS = ("config", "checkpoint", "report")


class WandbConfig(ConfigGroup, key="logger.wandb"):
    project: str = option("tandem", "W&B project")
    entity: str | None = option(None, "W&B user or team; null: your default")
    artifacts: list[str] = option(
        [*ARTIFACTS], "what W&B keeps of config, checkpoint (the best) and report (of a sweep)"
    )
    checkpoint_mb: int = option(
        500, "larger checkpoints are not uploaded", "a whole number, 0 or more"
    )
    predictions: int = option(
        16,
        "highest-loss test samples to log (up to 16); 0: none, and no confusion matrix",
        "a whole number, 0 or more",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in self.artifacts:
            allowed = f"a list of {', '.join(ARTIFACTS)}"
            hint = "Set logger.wandb.artifacts=[] to keep none."
            require(kind in ARTIFACTS, "logger.wandb.artifacts", kind, allowed, hint)


class CsvConfig(ConfigGroup):
    file: str = option("metrics.csv", "name in the run's folder")


class TensorboardConfig(ConfigGroup):
    folder: str = option("tensorboard", "name in the run's folder")


class LoggerConfig(ConfigGroup):
    """The enabled loggers; metrics.jsonl and result.json are always written."""

    wandb: WandbConfig | None = None
    csv: CsvConfig | None = None
    tensorboard: TensorboardConfig | None = None
