"""Weights & Biases, with or without an account: one W&B run per job, the same keys on all backends.

The axis is W&B's own `_step`, given explicitly with every row, so a row holds our keys and nothing
else, and rows of torch and jax match.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import WandbConfig, require
from pipeline.errors import UserError
from pipeline.loggers import Identity, Logger
from pipeline.loggers.metrics_file import Row
from pipeline.runs import flat
from pipeline.terminal import say

if TYPE_CHECKING:
    import wandb

MODES = ("online", "offline", "disabled", "shared", "run", "dryrun")  # W&B's own
PATIENCE = 15.0  # seconds to wait for the server before the run goes on offline


class WandbLogger(Logger):
    """Logs into `run`, which only goes forward.

    A resumed run repeats, bit for bit, what it did between its checkpoint and its end. W&B cannot
    take rows back and warns at each one that comes again, so those that it has are left out.

    Args:
        run: a W&B run that was just started or resumed.
        history: the rows up to the checkpoint. Those that W&B lacks are logged again: the row of
            the last step reaches W&B only when the next one begins, so a kill can lose it.
    """

    def __init__(self, run: "wandb.Run", history: Sequence[Row] = ()) -> None:
        import wandb

        self._wandb = wandb
        self._run = run
        self._next = run.starting_step
        for row in history:
            self.log(row["step"], {key: value for key, value in row.items() if key != "step"})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._next:
            self._run.log(dict(values), step=step)
            self._next = step

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        self._run.summary.update(flat(dict(summary)))
        self._run.finish(exit_code=exit_code)
        # finish() can return before W&B's service has written the end of an offline file.
        self._wandb.teardown()


def open_wandb(
    config: WandbConfig, folder: Path, identity: Identity, history: Sequence[Row] = ()
) -> WandbLogger:
    """Start, or go on with, the W&B run of a job. Never asks anything on the terminal.

    Online if somebody is logged in and the server answers, else offline with a line that says how
    to upload; `WANDB_MODE` decides first. W&B's files lie in `folder/wandb`.

    Raises:
        UserError: `WANDB_MODE` is unknown, or `online` while nobody is logged in.
    """
    mode, reason = choose_mode()  # first: importing W&B under an unknown WANDB_MODE fails
    import wandb

    arguments = {
        "dir": str(folder),
        "group": identity.group,
        "name": identity.job,
        "tags": labels(identity),
        "config": flat_config(identity.config),
        "resume": "allow",
        "reinit": "finish_previous",
    }
    if "WANDB_SWEEP_ID" not in os.environ:  # under a W&B agent the agent decides these
        arguments |= {
            "id": identity.run_id,
            "project": config.project,
            "entity": config.entity,
        }
    try:
        run = wandb.init(mode=mode, settings=_settings(mode), **arguments)
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        mode, reason = "offline", f"the server gave no run: {str(error).splitlines()[0]}"
        wandb.teardown()  # its service still holds the run's id
        run = wandb.init(mode=mode, settings=_settings(mode), **arguments)
    if mode == "offline":
        directory = os.path.relpath(Path(run.dir).parent)
        say(f"W&B is offline ({reason}). To upload the run: wandb sync {directory}", soft_wrap=True)
    return WandbLogger(run, history)


def flat_config(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with dotted keys, a group by its name: `backend: jax`, `optimizer.lr: 0.1`.

    A W&B sweep that sweeps over a group sets the key `backend` to a string, and W&B then drops a
    dictionary of that name. Flat, swept runs and others have the same keys.
    """
    return {
        key.removesuffix(".name") if key.count(".") == 1 else key: value
        for key, value in flat(config).items()
    }


def labels(identity: Identity) -> list[str]:
    """The tags of a run: backend, model and data set, then the user's own."""
    names = flat_config(identity.config)
    kinds = [names[group] for group in ("backend", "model", "dataset") if group in names]
    return list(dict.fromkeys([*kinds, *identity.tags]))


def choose_mode() -> tuple[str, str]:
    """W&B's mode and the reason for it, without trying the network or asking on the terminal.

    Raises:
        UserError: as `open_wandb`.
    """
    asked = os.environ.get("WANDB_MODE")
    require(asked is None or asked in MODES, "WANDB_MODE", asked, f"one of {', '.join(MODES)}")
    import wandb

    wandb.finish()  # a run that a failed job of this process left open would hide the login
    wandb.setup(settings=wandb.Settings(silent=True))  # else the login asks the server for a name
    # `wandb offline` in a folder says the same as the environment does.
    mode = {"run": "online", "dryrun": "offline"}.get(asked, asked) or wandb.setup().settings.mode
    if mode != "online":
        return mode, "WANDB_MODE" if asked else "as set by `wandb offline`"
    # Whether the server knows the key is found out by starting the run, once and for all.
    if wandb.login(prompt=False, verify=False):
        return "online", "logged in"
    if asked:
        hint = "Run `wandb login`, or unset WANDB_MODE."
        raise UserError("WANDB_MODE", asked, "offline or unset while nobody is logged in", hint)
    return "offline", "nobody is logged in"


def _settings(mode: str) -> "wandb.Settings":
    import wandb

    return wandb.Settings(
        # The run has a log of its own; W&B's capture fights with progress bars and with pytest.
        console="off",
        # W&B writes its file every 15 seconds otherwise, and a kill loses as much.
        x_transaction_log_flush_interval=1,
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", PATIENCE)),
        quiet=True,
        silent=mode != "online",  # our one line says more than its four
    )
