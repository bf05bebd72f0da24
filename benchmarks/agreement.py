"""Difference of the two backends after two hundred steps: every model and task with every optimizer, float64.

Each cell trains for real on both, from the same bytes, and holds the largest relative difference of the
training loss at any step; then, in brackets, that of the gradients' norm.

    python benchmarks/agreement.py [--models mlp,vit] [--optimizers sgd,adamw] [--steps 200]
"""

import argparse
import os
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PHOTOS = "dataset=digits dataset.limit=640"
SCENES = "dataset=scenes dataset.samples=320 dataset.size=16"
TEXT = "dataset=text dataset.max_bytes=60_000 dataset.length=16"
SMALL = "model.width=16 model.depth=2 model.dropout=0.1"
UNET = "model=unet model.width=8 model.groups=4 model.depth=2 model.dropout=0.1"
# A new model is a row here, and so is a new task, with a model for it.
MODELS = {
    "linear": f"{PHOTOS} model=linear",
    "mlp": f"{PHOTOS} model=mlp model.hidden=[32,16]",
    "simple_cnn": f"{PHOTOS} model=simple_cnn",
    "cnn": f"{PHOTOS} model=cnn",
    "resnet18": f"{PHOTOS} model=resnet18 model.width=4",
    "resnet50": f"{PHOTOS} model=resnet50 model.width=4",
    # As experiment=digits_vit: from weights of 0.02 at this width training itself is ill-conditioned.
    "vit": f"{PHOTOS} model=vit model.patch=2 model.width=16 model.depth=2 model.init=xavier_uniform "
    "model.pool=mean model.dropout=0.1 model.drop_path=0.1",
    "gpt": f"{TEXT} model=gpt {SMALL} task=language task.samples=0",
    "multilabel": f"{SCENES} task=multilabel model=cnn",
    "segmentation": f"{SCENES} {UNET}",
    "masked_language": f"{TEXT} task=masked_language model=bert {SMALL}",
    "seq2seq": "dataset=reverse dataset.samples=640 dataset.length=8 model=encoder_decoder "
    f"{SMALL} task=seq2seq task.samples=0",
    "denoising": f"{PHOTOS} task=denoising task.samples=0 {UNET}",
    "contrastive": f"{PHOTOS} task=contrastive model=cnn dataset.augment=true dataset.crop_padding=1 "
    "train.eval_batch_size=128",
}
# Rates at which small networks learn steadily: what is chaotic says nothing of the backends.
OPTIMIZERS = {
    "sgd": "optimizer.lr=0.02",
    "adam": "",
    "adamw": "optimizer.lr=1e-3",
    "amsgrad": "",
    "rmsprop": "optimizer.lr=1e-3 optimizer.momentum=0.9 optimizer.centered=true optimizer.eps=1e-4",
    "adagrad": "",
    "adadelta": "optimizer.lr=0.1",
    "adamax": "",
    "nadam": "optimizer.lr=1e-3",
    "radam": "",
    "lion": "",
    "lamb": "",
    "muon": "optimizer.lr=5e-3",
}
COMMON = (
    "train.precision=fp64 train.randomness=shared train.batch_size=32 train.log_every=1 "
    "train.eval_every=100steps schedule=warmup_cosine logger=none accelerator=cpu"
)
KEYS = ("train/loss", "optim/grad_norm")


def worst_differences(overrides: str) -> dict[str, float]:
    """The largest relative difference between the backends of each of `KEYS`, over all steps."""
    from hydra import compose

    from pipeline.config.experiment import BackendConfig, register, typed
    from pipeline.config.hydra_compat import compose_from
    from pipeline.loggers.metrics_file import read_metrics
    from pipeline.run.experiment import Job
    from pipeline.run.runner import run

    register()
    with compose_from(ROOT / "conf"):
        config = typed(compose("config", overrides.split()))
    rows = []
    for backend in ("torch", "jax"):
        with tempfile.TemporaryDirectory() as folder:
            job = Job(Path(folder) / "run", backend)
            with redirect_stdout(StringIO()):  # what a run says of itself
                run(replace(config, backend=BackendConfig(name=backend)), job)
            rows.append(read_metrics(job.folder / "metrics.jsonl"))
    return {
        key: max(
            abs(ours[key] - theirs[key]) / abs(ours[key])
            for ours, theirs in zip(*rows, strict=True)
            if key in ours
        )
        for key in KEYS
    }


def main() -> None:
    """Print the table in Markdown, a row for each model as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS))
    parser.add_argument("--steps", type=int, default=200)
    asked = parser.parse_args()
    os.environ["TANDEM_PROGRESS"] = "none"
    optimizers = asked.optimizers.split(",")
    table = [f"| | {' | '.join(optimizers)} |", "|---" * (len(optimizers) + 1) + "|"]
    for model in asked.models.split(","):
        cells = []
        for optimizer in optimizers:
            overrides = (
                f"{COMMON} train.steps={asked.steps} {MODELS[model]} "
                f"optimizer={optimizer} {OPTIMIZERS[optimizer]}"
            )
            loss, norm = worst_differences(overrides).values()
            cells.append(f"{loss:.0e} ({norm:.0e})")
            print(f"{model} {optimizer}: {cells[-1]}", file=sys.stderr, flush=True)
        table.append(f"| {model} | {' | '.join(cells)} |")
    print("\n".join(table))


if __name__ == "__main__":
    main()
