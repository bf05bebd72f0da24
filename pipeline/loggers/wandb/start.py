"""Start of a W&B run, with or without an account or a network, without prompts."""

import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from pipeline.config.fields import require
from pipeline.config.loggers import WandbConfig
from pipeline.console import say_line
from pipeline.errors import UserError
from pipeline.job_context import job_context
from pipeline.loggers.wandb.identity import COMPARISON, SWEEP

if TYPE_CHECKING:
    import wandb

Mode = Literal["online", "offline", "disabled", "shared"]

# Values of WANDB_MODE; the last two are W&B's older names.
MODES = {mode: mode for mode in get_args(Mode)} | {"run": "online", "dryrun": "offline"}


# W&B's mode, and the reason for it, of the open runs that train at once in this process, by id.
OPEN: dict[str, tuple[Mode, str]] = {}


def end_run(run: "wandb.Run", exit_code: int) -> None:
    """Finish a W&B run, and W&B's service with the last one."""
    import wandb

    OPEN.pop(run.id, None)
    run.finish(exit_code=exit_code)
    if not OPEN:
        # finish() may return before W&B's service has written the end of an offline file.
        wandb.teardown()


def start_run(
    config: WandbConfig,
    folder: Path,
    who: Mapping[str, Any],
    tell: Callable[[str], None] = say_line,
) -> "wandb.Run":
    """Start or resume a W&B run with its files in `folder/wandb`; its errors are those of `open_wandb`.

    `who` holds arguments of `wandb.init` such as id, name and group; `tell` prints a line.
    """
    others = [*OPEN.values()]  # of runs that train at once with this one
    # First: importing W&B under an unknown WANDB_MODE fails.
    mode, reason = others[0] if others else choose_mode()
    import wandb

    reinit = "create_new" if others else "finish_previous"
    arguments: dict[str, Any] = dict(who, dir=str(folder), resume="allow", reinit=reinit)
    if SWEEP in os.environ:  # the agent sets the run
        del arguments["id"]
    else:
        arguments |= {"project": config.project, "entity": config.entity}

    def start(mode: Mode) -> wandb.Run:
        settings = wandb.Settings(
            # The run has its own log; W&B's capture disturbs progress bars and pytest.
            console="off",
            # The default of 15 seconds is also the time that a kill would lose.
            x_transaction_log_flush_interval=1,
            # System metrics; the default of 15 seconds would show none for a short run.
            x_stats_sampling_interval=5,
            # Seconds to wait for the server before the run continues offline.
            init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", 15)),
            quiet=True,
            silent=mode != "online",  # we print one line instead
        )
        with _without_launch():
            return wandb.init(mode=mode, settings=settings, **arguments)

    try:
        run = start(mode)
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        mode, reason = "offline", f"the server gave no run: {str(error).splitlines()[0]}"
        if not others:
            wandb.teardown()  # W&B's service still holds the run's id
        run = start(mode)
    if job_context().members:
        OPEN[run.id] = mode, reason
    if mode == "offline" and not others:
        what, uploaded = "run", os.path.relpath(Path(run.dir).parent)
        if arguments.get("job_type") == COMPARISON:  # each of the sweep's runs has its own folder
            below = os.path.relpath(folder)
            what, uploaded = "sweep", f"{below}/wandb/offline-run-* {below}/*/wandb/offline-run-*"
        elif job_context().members:  # the others would each tell the same
            what, uploaded = "runs", f"{os.path.relpath(folder.parent)}/*/wandb/offline-run-*"
        tell(f"W&B is offline ({reason}). To upload the {what}: wandb sync {uploaded}")
    return run


@contextmanager
def _without_launch() -> Generator[None]:
    """Keep `wandb.init` from importing W&B Launch to apply its inputs; who has given it some has imported it.

    The import takes seconds where both frameworks are loaded: Pydantic looks for the source of each class.
    """
    import wandb

    name = "_detect_and_apply_job_inputs"
    if "wandb.sdk.launch" in sys.modules or name not in vars(wandb.Run):
        yield
        return
    apply_inputs = vars(wandb.Run)[name]
    setattr(wandb.Run, name, lambda run: None)
    try:
        yield
    finally:
        setattr(wandb.Run, name, apply_inputs)


def choose_mode() -> tuple[Mode, str]:
    """Return W&B's mode and the reason for it, without network access or prompts."""
    asked = os.environ.get("WANDB_MODE")
    require(asked is None or asked in MODES, "WANDB_MODE", asked, f"one of {', '.join(MODES)}")
    import wandb

    wandb.finish()  # an open run of a failed job in this process would hide the login
    wandb.setup(settings=wandb.Settings(silent=True))  # else the login asks the server for a name
    # `wandb offline` in a folder has the effect of WANDB_MODE=offline.
    mode = cast("Mode", MODES[asked] if asked else wandb.setup().settings.mode)
    if mode != "online":
        return mode, "WANDB_MODE" if asked else "as set by `wandb offline`"
    # The start of the run verifies the key, so a check here would be a second request.
    try:
        logged_in = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        hint = "Set it to a key of https://wandb.ai/authorize, or unset it."
        raise UserError("WANDB_API_KEY", "…", problem=str(error).rstrip("."), hint=hint) from error
    if logged_in:
        return "online", "logged in"
    if asked:
        hint = "Run `wandb login`, or unset WANDB_MODE."
        raise UserError("WANDB_MODE", asked, problem="nobody is logged in to W&B", hint=hint)
    return "offline", "nobody is logged in"
