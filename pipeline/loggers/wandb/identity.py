"""Who a run is in W&B.

What makes runs stand side by side without a click:

- *group*: W&B's charts draw a group of runs as one line, their mean. A sweep as one group would average
  torch with JAX. So a group is the runs of a sweep that differ by their seed alone: ungrouped there is
  a line for each run, grouped a line for each backend and setting with its spread over seeds.
- *job type*: the backend; `comparison` for the run that holds the report of a sweep.
- *tags* and *config*: the sweep's name is a tag, and the key `sweep_name` of the config, to filter by
  (W&B has a `sweep` of its own).
"""

import os
from hashlib import sha256
from typing import Any

from pipeline.loggers import Identity
from pipeline.runs import flat

LONGEST = 128  # characters of a name or group that W&B takes; of a tag half of it
SWEEP = "WANDB_SWEEP_ID"  # there under an agent of a W&B sweep


def who(identity: Identity) -> dict[str, Any]:
    """Who a run is, as `wandb.init` takes it."""
    return {
        "id": identity.run_id,
        "name": shortened(identity.job),
        "group": group_of(identity),
        "job_type": flat_config(identity.config).get("backend"),
        "tags": labels(identity),
        "config": run_config(identity),
    }


def flat_config(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with dotted keys, a group by its name: `backend: jax`, `optimizer.lr: 0.1`.

    A W&B sweep that sweeps over a group sets the key `backend` to a string, and W&B then drops a
    dictionary of that name. Flat, swept runs and others have the same keys.
    """
    return {
        key.removesuffix(".name") if key.count(".") == 1 else key: value
        for key, value in flat(config).items()
    }


def run_config(identity: Identity) -> dict[str, Any]:
    """The config of a run as W&B shows it, and under `sweep_name` the sweep that it belongs to."""
    config = flat_config(identity.config)
    of_the_command = [key for key in config if key.startswith("sweep.")]
    return {key: config[key] for key in config if key not in of_the_command} | {
        "sweep_name": sweep_of(identity)
    }


def sweep_of(identity: Identity) -> str | None:
    """The sweep that a run belongs to: ours, or W&B's."""
    return identity.group or os.environ.get(SWEEP)


def group_of(identity: Identity) -> str:
    """The runs that may be averaged with this one: those of its sweep that differ by the seed alone.

    A run of no sweep is a group of its own, or all of those would be one.
    """
    sweep = sweep_of(identity)
    if sweep is None:
        return shortened(identity.job)
    backend = f"backend={flat_config(identity.config).get('backend')}"
    return shortened(" ".join(filter(None, (sweep, backend, identity.setting))))


def labels(identity: Identity) -> list[str]:
    """The tags of a run: backend, model, data set and sweep, then the user's own."""
    names = flat_config(identity.config)
    kinds = [names[group] for group in ("backend", "model", "dataset") if group in names]
    sweep = [identity.group] if identity.group else []
    tags = dict.fromkeys([*kinds, *sweep, *identity.tags])
    return [shortened(tag, LONGEST // 2) for tag in tags]


def shortened(text: str, longest: int = LONGEST) -> str:
    """A text of at most so many characters: W&B's server refuses longer ones, even those of a sync."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - 9]}-{sha256(text.encode()).hexdigest()[:8]}"
