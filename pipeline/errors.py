"""Errors: of the user's input, of a run, and of a child process."""

import json
import subprocess


class UserError(Exception):
    """Bad input, reported in one message without a traceback.

    `key` is the configuration key (or file) at fault, as the user would type it; `hint` the way out,
    as a sentence. Give either `allowed`, the valid values as a phrase after "must be", or `problem`,
    a fact as a clause: "the disk is full".
    """

    def __init__(
        self, key: str, value: object, allowed: str = "", hint: str = "", *, problem: str = ""
    ) -> None:
        self.key, self.value, self.allowed, self.hint = key, value, allowed, hint
        self.problem = problem
        value = str(value).lower() if isinstance(value, bool) else value  # as it is typed
        super().__init__(f"{key}={value}: {self._what} {hint}".rstrip())

    @property
    def _what(self) -> str:
        return f"{self.problem}." if self.problem else f"must be {self.allowed}."

    @property
    def parts(self) -> dict[str, str]:
        """Arguments that recreate the error in another process."""
        names = ("key", "value", "allowed", "hint", "problem")
        return {name: str(getattr(self, name)) for name in names}

    def __reduce__(self) -> tuple:
        """Pickle without a call of `__init__`, whose parameters are not `args`."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class BadArgument(UserError):
    """A bad argument of the command line that is no KEY=VALUE, as it was typed; see `UserError`."""

    def __init__(
        self, argument: str, allowed: str = "", hint: str = "", *, problem: str = ""
    ) -> None:
        super().__init__(argument, None, allowed, hint, problem=problem)
        self.args = (f"{argument}: {self._what} {hint}".rstrip(),)


class Interrupted(Exception):
    """The run was asked to stop, saved a checkpoint after `step`, and ended.

    The exit code is 130 after Ctrl-C or `train.stop_after`, 143 after SIGTERM.
    """

    def __init__(self, step: int, exit_code: int) -> None:
        self.step, self.exit_code = step, exit_code
        super().__init__(f"interrupted at step {step}, with a checkpoint to go on from")


class CommandRefused(SystemExit):
    """An error raised in a Hydra callback, where Hydra turns any `Exception` into a warning."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(1)


class Diverged(Exception):
    """The training loss is no longer finite."""


class RunFailed(Exception):
    """The run cannot continue; the message gives the reason and the way out."""


def failure(child: subprocess.CompletedProcess, command: list[str]) -> Exception:
    """Return the error of a child process: its last line, if that is a `UserError` in JSON."""
    lines = child.stdout.strip().splitlines()
    if child.returncode == 1 and lines:
        try:
            return UserError(**json.loads(lines[-1]))
        except (ValueError, TypeError):
            pass  # not ours: the library printed something and crashed
    return RuntimeError(f"{' '.join(command)} ended with exit code {child.returncode}")
