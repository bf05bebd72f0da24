"""The one error that is the user's to mend: it says what, where, what is allowed and what to do."""

import json
import subprocess


class UserError(Exception):
    """Bad input, told in one message without a traceback.

    Args:
        key: the configuration key (or file) at fault, as the user would type it.
        value: what was found there.
        allowed: what would be accepted, as a phrase after "must be".
        hint: what to type or do, as a sentence.
    """

    def __init__(self, key: str, value: object, allowed: str, hint: str = "") -> None:
        self.key, self.value, self.allowed, self.hint = key, value, allowed, hint
        super().__init__(f"{key}={value}: must be {allowed}." + (f" {hint}" if hint else ""))

    def __reduce__(self) -> tuple:
        """Rebuild from the four parts, so that the error crosses process boundaries."""
        return type(self), (self.key, self.value, self.allowed, self.hint)


class BadArgument(UserError):
    """An argument of the command line that is no KEY=VALUE.

    Args:
        argument: as it was typed.
        allowed: what would be accepted, as a phrase after "must be".
        hint: what to type or do, as a sentence.
    """

    def __init__(self, argument: str, allowed: str, hint: str = "") -> None:
        super().__init__(argument, None, allowed, hint)
        self.args = (f"{argument}: must be {allowed}. {hint}".rstrip(),)

    def __reduce__(self) -> tuple:
        """Rebuild from the three parts."""
        return type(self), (self.key, self.allowed, self.hint)


class Interrupted(Exception):
    """The run was asked to stop, saved a checkpoint at a step boundary, and ended.

    Args:
        step: the step whose state was saved.
        exit_code: 130 after Ctrl-C or `train.stop_after`, 143 after SIGTERM.
    """

    def __init__(self, step: int, exit_code: int) -> None:
        self.step, self.exit_code = step, exit_code
        super().__init__(f"interrupted at step {step}, with a checkpoint to go on from")


class Diverged(Exception):
    """The training loss stopped being a number."""


class RunFailed(Exception):
    """The run could not go on; the message says why and what to do."""


def failure(child: subprocess.CompletedProcess, command: list[str]) -> Exception:
    """What a child process ended with: its own error where it told one in its last line."""
    lines = child.stdout.strip().splitlines()
    if child.returncode == 1 and lines:
        try:
            return UserError(**json.loads(lines[-1]))
        except (ValueError, TypeError):
            pass  # not ours: the library printed something and crashed
    return RuntimeError(f"{' '.join(command)} ended with exit code {child.returncode}")
