"""The `task` group."""

from typing import Any

from pipeline.config.fields import ConfigGroup, option, require

AUTO = "auto"  # the data set's own task


class TaskConfig(ConfigGroup, key="task"):
    name: str = option(AUTO, "what is learned; auto: the task of the data set")
    inputs: list[str] = option(
        [], "fields that the model takes, in this order; []: all that are no targets"
    )


class ClassificationConfig(TaskConfig):
    name: str = "classification"


class RegressionConfig(TaskConfig):
    name: str = "regression"


class GeneratingConfig(TaskConfig):
    """A task whose models make samples of their own."""

    samples: int = option(
        4, "samples that the trained model makes, shown at the end of a run; 0: none", "0 or more"
    )
    samples_at_evaluations: bool = option(False, "show them after each evaluation, too")


class LanguageConfig(GeneratingConfig):
    name: str = "language"


class MultilabelConfig(TaskConfig):
    name: str = "multilabel"


class SegmentationConfig(TaskConfig):
    name: str = "segmentation"
    ignored: int = option(
        255, "value of the mask where a pixel counts neither in the loss nor in the metrics"
    )


class MaskedLanguageConfig(TaskConfig):
    """Shares of tokens in percent; of the chosen ones the rest stay as they are."""

    name: str = "masked_language"
    chosen: int = option(15, "percent of the tokens that are to be predicted", "in 1 … 100")
    masked: int = option(80, "percent of these that become the mask token", "0 or more")
    replaced: int = option(10, "percent of these that become any other token", "0 or more")

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.masked + self.replaced <= 100
        allowed = f"at most {100 - self.masked}, the percent that task.masked={self.masked} leaves"
        require(fits, "task.replaced", self.replaced, allowed)


class DenoisingConfig(GeneratingConfig):
    name: str = "denoising"
    samples: int = 16
    levels: int = option(
        1000, "levels of noise, from almost none to almost nothing else", "at least 2"
    )
    first_beta: float = option(1e-4, "variance of the noise that the first level adds", "in (0, 1)")
    last_beta: float = option(0.02, "variance of the noise that the last level adds", "in (0, 1)")


class ContrastiveConfig(TaskConfig):
    name: str = "contrastive"
    temperature: float = option(
        0.5,
        "divides the cosines of the embeddings; the lower, the harder the nearest ones",
        "above 0",
    )
    width: int = option(64, "numbers in an embedding, the model's outputs", "at least 1")
    group: int = option(
        128,
        "samples among which an evaluation looks for the other view; the batch is a multiple of it",
        "at least 2",
    )


class Seq2SeqConfig(GeneratingConfig):
    name: str = "seq2seq"


class OwnTaskConfig(TaskConfig):
    """A user's own loss, on one backend or on both."""

    name: str = "own"
    torch: str | None = option(None, "your loss on torch, as package.module:function")
    jax: str | None = option(None, "your loss in JAX, as package.module:function")
    targets: list[str] = option(
        [], "fields of a batch for the loss alone; the model gets the others"
    )
    outputs: int | None = option(
        None,
        "outputs of the model; null: classes or width of the first target",
        "null or at least 1",
    )
    metrics: list[str] = option([], "what your loss returns beside `loss`, by its keys")
    maximized: list[str] = option([], "metrics of which more is better")
    summary: str | None = option(
        None,
        "function of the means by name to a mapping of metrics, such as my:f1; null: the means",
    )
    whole_batch: bool = option(
        False,
        "your loss compares samples: it gets the outputs of the whole batch, however that is divided",
    )
    group: int = option(
        128,
        "with task.whole_batch, samples whose loss an evaluation computes together",
        "at least 2",
    )
    views: dict[str, str] = option(
        {},
        "images that are augmented a second time, like {view:image}: outputs are of both, [batch, 2, …]",
    )
    options: dict[str, Any] = option({}, "arguments of your loss after outputs and batch")
    noise: dict[str, str] = option(
        {},
        "random numbers of the batch by name: normal or uniform, shaped as the first input, or your my:draw",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "names other than loss, each once"
        fits = "loss" not in self.metrics and len(set(self.metrics)) == len(self.metrics)
        require(fits, "task.metrics", self.metrics, allowed)


TASKS: dict[str, type[TaskConfig]] = {
    AUTO: TaskConfig,
    "classification": ClassificationConfig,
    "regression": RegressionConfig,
    "language": LanguageConfig,
    "multilabel": MultilabelConfig,
    "segmentation": SegmentationConfig,
    "masked_language": MaskedLanguageConfig,
    "denoising": DenoisingConfig,
    "contrastive": ContrastiveConfig,
    "seq2seq": Seq2SeqConfig,
    "own": OwnTaskConfig,
}


def specific(config: TaskConfig, name: str) -> TaskConfig:
    """Return the config of the task `name`, which takes the place of auto."""
    schema = TASKS[name]
    return config if isinstance(config, schema) else schema(name=name, inputs=config.inputs)
