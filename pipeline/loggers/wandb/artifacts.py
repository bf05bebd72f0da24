"""What a completed run leaves in W&B as artifacts: its config, and its best checkpoint.

W&B copies nothing large: an offline file names the checkpoint where it lies, and `wandb sync` uploads
it from there. Small files, which a later command may replace, are copied beside the run's W&B files,
so that all that a sync needs is in the run's folder, wherever that is carried.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import WandbConfig
from pipeline.runs import IDENTITY
from pipeline.terminal import say_line

if TYPE_CHECKING:
    import wandb

COPIES = "WANDB_DATA_DIR"  # where W&B copies small files to; its default is in the home folder
BEST = ("best",)  # aliases; W&B adds `latest`


def log_artifacts(
    run: "wandb.Run",
    step: int,
    summary: Mapping[str, object],
    *,
    config: WandbConfig,
    folder: Path,
) -> None:
    """Hand over what `logger.wandb.artifacts` names.

    The checkpoint comes with `run.json`, so that a downloaded one is a run to test or to go on from.

    Args:
        run: the W&B run.
        step: its last.
        summary: of the run; `best.checkpoint` is the best checkpoint, if there is one.
        config: what to hand over.
        folder: of the run.
    """
    composed = folder / ".hydra" / "config.yaml"
    if "config" in config.artifacts and composed.is_file():
        log_files(run, folder, f"config-{run.id}", "config", [composed])
    best = summary.get("best.checkpoint")
    if "checkpoint" not in config.artifacts or best is None:
        return
    files = files_of(Path(str(best)))
    size = sum(file.stat().st_size for file in files) / 2**20
    if size > config.checkpoint_mb:
        limit = f"logger.wandb.checkpoint_mb={config.checkpoint_mb}"
        say_line(f"W&B does not get the best checkpoint: its {size:,.0f} MB are above {limit}")
        return
    about = {key: summary.get(key) for key in ("best.metric", "best.value", "best.step")}
    log_files(run, folder, f"model-{run.id}", "model", [folder / IDENTITY], files, about)


def log_files(
    run: "wandb.Run",
    folder: Path,
    name: str,
    kind: str,
    small: Sequence[Path],
    large: Sequence[Path] = (),
    about: Mapping[str, object] | None = None,
) -> None:
    """Make files an artifact of a run.

    Args:
        run: the W&B run.
        folder: of our run or sweep.
        name: of the artifact.
        kind: W&B's type of it.
        small: files that are copied, and lie in the artifact by their names.
        large: files that are read where they lie, below `folder` or not, until they are uploaded;
            in the artifact they lie as in the folder of their run.
        about: its metadata.
    """
    import wandb

    artifact = wandb.Artifact(name, type=kind, metadata=dict(about or {}))
    with copies_in(folder):
        for file in small:
            artifact.add_file(str(file.resolve()), name=file.name)
        for file in large:
            place = file.relative_to(run_above(file)).as_posix()
            artifact.add_file(str(file.resolve()), name=place, policy="immutable", skip_cache=True)
        run.log_artifact(artifact, aliases=list(BEST))


def files_of(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint: itself (torch), or those below it (jax)."""
    if checkpoint.is_file():
        return [checkpoint]
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def run_above(file: Path) -> Path:
    """The folder of the run that a checkpoint's file lies in."""
    return next(parent for parent in file.parents if (parent / IDENTITY).is_file())


@contextmanager
def copies_in(folder: Path) -> Iterator[None]:
    """Have W&B keep its copies of small files in `folder/wandb`, unless the user says where."""
    if COPIES in os.environ:
        yield
        return
    os.environ[COPIES] = str((folder / "wandb").resolve())
    try:
        yield
    finally:
        del os.environ[COPIES]
