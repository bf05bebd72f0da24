"""An experiment: everything that a backend needs to train or to test."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.experiment import Config
from pipeline.data.batch_plan import BatchPlan
from pipeline.run.recording.recorder import Recorder
from pipeline.storage.checkpoints import Checkpoint
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import Arrays, PortableState


@dataclass(frozen=True)
class Job:
    """Identity of a run: `folder`, `name` to show, and `group`, the name of its sweep, if any.

    `setting` are the overrides that differ between the jobs of the sweep, without backend and seed.
    `merged` is this command's config merged with the saved config of the run to resume or test, if any.
    `alone` tells why it does not train at once with other jobs of a sweep that asks for it.
    """

    folder: Path
    name: str
    group: str | None = None
    setting: str = ""
    merged: DictConfig | None = None
    alone: str | None = None


@dataclass(frozen=True)
class Experiment:
    """Input of a backend: config, data, recorder and folder of one run.

    `resume` are the checkpoints to try, best choice first; empty to start from scratch. `imported` is
    the run of another backend to resume from, at one or more steps in ascending order. `initial` are the
    values at step 0 of a pair's other model, if this backend takes them. `weights` are those to start from,
    by name, if `model.weights` gives any.
    """

    config: Config
    plan: BatchPlan
    recorder: Recorder
    folder: Path
    resume: Sequence[Checkpoint] = ()
    imported: Sequence[PortableCheckpoint] = ()
    initial: PortableState | None = None
    weights: Arrays | None = None

    @property
    def is_fresh(self) -> bool:
        """True if it starts from the values at step 0."""
        return not self.resume and not self.imported
