"""What tests of crossing runs share: short runs in float64 and their lines."""

from pathlib import Path

from pipeline.loggers.metrics_file import read_metrics

OTHER = {"torch": "jax", "jax": "torch"}

# Epochs of six steps (a tenth of the samples is held out), evaluations and lines of metrics off them.
FP64 = (
    "logger=none accelerator=cpu dataset.limit=112 train.batch_size=16 train.precision=fp64 "
    "train.steps=30 train.log_every=4 train.eval_every=5steps"
)
EPOCH = 6
MLP = "model=mlp model.hidden=[16]"
# All that a checkpoint can hold is in use.
EVERYTHING = (
    f"{MLP} optimizer=adamw train.ema=0.9 train.clip_norm=0.5 train.accumulate=2 "
    "schedule=warmup_cosine dataset.augment=true dataset.crop_padding=1"
)


def lines(run: Path) -> list[dict[str, float]]:
    """What a run has logged, without what the clock and the memory say."""
    rows = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


def assert_close(ours, theirs, tolerance=1e-10):
    """The same lines, with the same keys and all but the same numbers."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            gap = abs(one[key] - other[key])
            assert gap <= tolerance * abs(one[key]), f"{key} at step {one['step']}: {gap:.1e}"
