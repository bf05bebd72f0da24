"""The file of names in a run's folder, which `model.names=auto` finds."""

from pathlib import Path

from pipeline.backend_specs import BACKENDS
from pipeline.config.models import AUTO_NAMES, ModelConfig, OwnConfig

NAMES = "names.yaml"


def is_auto(model: ModelConfig) -> bool:
    """Return whether the names of a pair are to be found; of one side alone there are none."""
    if not isinstance(model, OwnConfig) or model.names != AUTO_NAMES:
        return False
    return all(getattr(model, backend, None) for backend in list(BACKENDS)[:2])


def names_in(folder: Path) -> Path:
    """Return the file of names in a run's folder."""
    return folder / NAMES
