"""Starting a W&B run, with or without an account or a network; nothing is ever asked."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import WandbConfig, require
from pipeline.errors import UserError
from pipeline.loggers.wandb.identity import SWEEP
from pipeline.terminal import say_line

if TYPE_CHECKING:
    import wandb

MODES = ("online", "offline", "disabled", "shared", "run", "dryrun")  # W&B's own
PATIENCE = 15.0  # seconds to wait for the server before the run goes on offline


def start_run(
    config: WandbConfig,
    folder: Path,
    who: Mapping[str, Any],
    tell: Callable[[str], None] = say_line,
) -> "wandb.Run":
    """Start, or go on with, a W&B run whose files lie in `folder/wandb`.

    Args:
        config: where to.
        folder: of the run.
        who: the run's id, name, group …, as `wandb.init` takes them.
        tell: prints a line.

    Raises:
        UserError: as `open_wandb`.
    """
    mode, reason = choose_mode()  # first: importing W&B under an unknown WANDB_MODE fails
    import wandb

    arguments = {**who, "dir": str(folder), "resume": "allow", "reinit": "finish_previous"}
    if SWEEP in os.environ:  # the agent decides which run it is
        del arguments["id"]
    else:
        arguments |= {"project": config.project, "entity": config.entity}
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
        tell(f"W&B is offline ({reason}). To upload the run: wandb sync {directory}")
    return run


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
        # Of the machine; the default of 15 seconds would show nothing of a short run.
        x_stats_sampling_interval=5,
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", PATIENCE)),
        quiet=True,
        silent=mode != "online",  # our one line says more than its four
    )
