"""Name, group, tags and config of a run in W&B.

- *group*: the runs of a sweep that differ only by their seed or fold. W&B's charts draw a group as one
  line, its mean, so a whole sweep as one group would average torch with JAX. Grouped charts show one line per
  backend and setting, with its spread over seeds. A run outside a sweep is a group of its own; otherwise
  all such runs would form one.
- *job type*: the backend; `comparison` for the run with the report of a sweep.
- *tags* and *config*: the sweep's name is a tag and the config key `sweep_name`, to filter by (`sweep`
  has another meaning in W&B).
"""

import os
from hashlib import sha256
from typing import Any

from pipeline.backend_specs import label_of
from pipeline.loggers import RunLabels
from pipeline.storage.signature import flat

LONGEST = 128  # most characters of a name or group in W&B; half of it for a tag
COMPARISON = "comparison"  # job type of the run with the report of a sweep
SWEEP = "WANDB_SWEEP_ID"  # set by the agent of a W&B sweep


def init_arguments(identity: RunLabels) -> dict[str, Any]:
    """Return the arguments of `wandb.init` for a run."""
    config = flatten_config(identity.config)
    backend = label_of(identity.config.get("backend") or {})
    sweep = identity.group or os.environ.get(SWEEP)
    group = [identity.job] if sweep is None else [sweep, f"backend={backend}", identity.setting]
    tags = [backend] if backend else []
    tags += [config[key] for key in ("model", "dataset") if key in config]
    tags += [identity.group] if identity.group else []
    ours = {key: value for key, value in config.items() if not key.startswith("sweep.")}
    return {
        "id": identity.run_id,
        "name": shorten(identity.job),
        "group": shorten(" ".join(filter(None, group))),
        "job_type": backend,
        "tags": [shorten(tag, LONGEST // 2) for tag in dict.fromkeys([*tags, *identity.tags])],
        "config": ours | {"sweep_name": sweep},
    }


def flatten_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a flat `config` with dotted keys and names of groups: `backend: jax`, `optimizer.lr: 0.1`.

    A W&B sweep over a group sets a key such as `backend` to a string, and W&B then drops a dictionary of
    that name. With flat configs, swept and other runs have the same keys.
    """
    return {
        key.removesuffix(".name") if key.count(".") == 1 else key: value
        for key, value in flat(config).items()
    }


def shorten(text: str, longest: int = LONGEST) -> str:
    """Shorten a text to `longest` characters: W&B's server refuses longer ones, also in a sync."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - 9]}-{sha256(text.encode()).hexdigest()[:8]}"
