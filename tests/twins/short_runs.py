"""Short float64 runs for tests of resuming and transfer."""

from pathlib import Path

from asserts import without_perf

from pipeline.loggers.metrics_file import read_metrics

# Epochs of six steps (a tenth of the samples is held out), evaluations and lines of metrics off them.
FP64 = (
    "logger=none accelerator=cpu dataset.limit=112 train.batch_size=16 train.precision=fp64 "
    "train.steps=30 train.log_every=4 train.eval_every=5steps"
)
# Each evaluation of JAX saves a checkpoint, which takes a tenth of a run's time: for tests that need no more.
SELDOM = f"{FP64} train.eval_every=10steps"
EPOCH = 6
MLP = "model=mlp model.hidden=[16]"
# All that a checkpoint can hold is in use.
EVERYTHING = (
    f"{MLP} optimizer=adamw train.ema=0.9 train.clip_norm=0.5 train.accumulate=2 "
    "schedule=warmup_cosine dataset.augment=true dataset.crop_padding=1"
)


def lines(run: Path) -> list[dict[str, float]]:
    """Metrics rows of a run without time and memory."""
    return without_perf(read_metrics(run / "metrics.jsonl"))
