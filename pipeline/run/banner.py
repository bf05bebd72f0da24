"""Messages of a run at its start, at its end and on failure."""

import errno
import logging
import os
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from pipeline.config.checks.no_effect import without_effect
from pipeline.config.experiment import BackendConfig, Config, plain
from pipeline.console import print_and_log
from pipeline.errors import Diverged, RunFailed, UserError
from pipeline.formatting import format_number, format_value
from pipeline.job_context import job_context
from pipeline.storage.checkpoints import checkpoints_of
from pipeline.storage.run_result import RunResult
from pipeline.user_code import is_out_of_memory

log = logging.getLogger(__name__)


def announce(config: Config, folder: str, device: str) -> None:
    """Print the composed config as a tree, the device, the output folder, and keys that have no effect."""
    tree = Tree("[bold]experiment[/]", guide_style="dim")
    values = plain(config)
    usual = plain(BackendConfig(name=config.backend.name))
    set_here = {key: value for key, value in values["backend"].items() if value != usual[key]}
    values["backend"] = {"name": config.backend.name} | set_here
    for group, node in values.items():
        if isinstance(node, dict) and group != "sweep" and (line := one_line(node)):
            tree.add(f"[bold]{group:<11}[/] {line}")
    of_the_run = ("seed", "mode", "resume", "checkpoint", "tags")  # keys outside the groups
    tree.add(f"[bold]{'run':<11}[/] {one_line({key: values[key] for key in of_the_run})}")
    print_and_log(tree)
    print_and_log(f"device  {escape(device)}")
    print_and_log(f"output  {escape(folder)}", soft_wrap=True)
    for sentence in without_effect(config, device):
        print_and_log(f"[yellow]{escape(sentence)}[/]", soft_wrap=True)


def warn_of_fallback(reason: str) -> None:
    """Print that the run does not use the GPUs of its machine, and why; nothing without a reason."""
    if reason:
        problem = f"WARNING: this machine has a GPU, but the run is on the CPU: {reason}."
        hint = "To run on the CPU on purpose, set accelerator=cpu."
        print_and_log(f"[bold red]{escape(f'{problem} {hint}')}[/]", soft_wrap=True)


def one_line(node: dict[str, Any]) -> str:
    """Format a group's option and values on one line, without null and empty values."""
    values = {key: value for key, value in node.items() if value not in (None, [], {})}
    name = values.pop("name", None)
    words = [f"[cyan]{escape(str(name))}[/]"] if name else []
    for key, value in values.items():
        if isinstance(value, dict):
            words.append(f"{key}({one_line(value)})")
        else:
            words.append(f"[dim]{key}=[/]{escape(format_value(value))}")
    return " ".join(words)


def announce_result(result: RunResult, folder: str) -> None:
    """Print how the run ended, in two or three lines."""
    if result.test:
        metrics = "  ".join(f"{key} {format_number(value)}" for key, value in result.test.items())
        print_and_log(f"[bold]{metrics}[/]")
    if result.look:
        print_and_log(f"inputs of the model  →  {escape(result.look)}", soft_wrap=True)
    seconds = result.seconds["total"]
    print_and_log(f"{result.status} in {seconds:.1f} s  →  {escape(folder)}", soft_wrap=True)


def to_run_error(error: Exception, folder: Path) -> Exception:
    """Return an error that the user can act on; log any other, with its traceback, and return it."""
    if isinstance(error, Diverged):
        good = checkpoints_of(folder)
        kept = (
            f"The last good checkpoint is {good[0].path}" if good else "No checkpoint was kept yet"
        )
        return RunFailed(f"{error}. {kept}. Lower optimizer.lr or set train.clip_norm=1.")
    if isinstance(error.__context__, RunFailed):
        return error.__context__  # Orbax failed, too, when it was closed
    if disk_is_full(error):
        hint = f"Free some space, then continue with resume={folder}"
        full = UserError("hydra.run.dir", folder, problem="the disk is full", hint=hint)
        full.__cause__ = error
        return full
    if is_out_of_memory(error):
        told = f"out of memory: {(str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')}"
        return RunFailed(
            f"{told}. Lower train.batch_size, raise train.accumulate or shrink the model."
        )
    if not isinstance(error, UserError):
        # The launcher reports the first error of all ranks; the logs keep all tracebacks.
        context = job_context()
        quiet = context.is_rank and not context.full_error
        log.log(logging.INFO if quiet else logging.ERROR, "the run failed", exc_info=error)
    return error


def disk_is_full(error: BaseException | None) -> bool:
    """Return whether a full disk caused an error, in whatever library."""
    if error is None:
        return False
    if getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
        return True
    return disk_is_full(error.__cause__ or error.__context__)
