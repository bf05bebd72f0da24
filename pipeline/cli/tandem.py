"""The command `tandem`: every command of ours as a subcommand, in any folder.

tandem run model=mlp     as python run.py model=mlp
tandem verify LEFT RIGHT as python -m pipeline.verify LEFT RIGHT
"""

import os
import re
import runpy
import sys
from dataclasses import dataclass, replace
from typing import cast

from pipeline.job_context import job_context, publish
from pipeline.shipped import RUN


@dataclass(frozen=True)
class Subcommand:
    """A subcommand, with its arguments and its effect for the help."""

    module: str  # run as with `python -m`; empty for run.py
    arguments: str
    effect: str


SUBCOMMANDS = {
    "run": Subcommand("", "[-m] KEY=VALUE…", "train and test an experiment; with -m several"),
    "verify": Subcommand("pipeline.verify", "LEFT RIGHT …", "are two models the same? If not, why?"),
    "parity": Subcommand("pipeline.parity", "KEY=VALUE…", "an experiment on both backends in lockstep"),
    "bench": Subcommand("pipeline.bench", "KEY=VALUE…", "which backend is faster for a model, here"),
    "compare": Subcommand("pipeline.compare", "PATH…", "runs and sweeps in a table and a page"),
    "convert": Subcommand("pipeline.convert", "SRC DST", "a checkpoint to the other backend, or a file"),
    "new": Subcommand("pipeline.cli.new_project", "FOLDER", "a project to start from, with its test"),
}  # fmt: skip


ENDING = """\
tandem COMMAND --help shows its arguments. What is in this folder is found:
conf/model/mine.yaml as model=mine, the class Net of my_models.py as my_models:Net."""


def main() -> None:
    """Run the subcommand that this process's arguments name.

    Raises:
        SystemExit: at its end, with its exit code.
    """
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(help_text())
        sys.exit(0)
    if name == "--version":
        from importlib.metadata import version  # takes as long as all of this module

        print(f"tandem {version('tandem')}")
        sys.exit(0)
    if name in ("-sc", "--shell-completion"):
        complete(rest)
        return
    if name not in SUBCOMMANDS:
        sys.exit(unknown(name))
    publish(replace(job_context(), by_tandem=True))
    sys.argv[:] = [f"tandem {name}", *rest]
    if module := SUBCOMMANDS[name].module:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(RUN), run_name="__main__")


def complete(arguments: list[str]) -> None:
    """Print the completions of a partial command line, or what installs them in a shell, through Hydra.

    Hydra asks a command about its arguments, which are those of `tandem run` without its first word.
    """
    action, _, shell = (arguments or [""])[0].partition("=")
    if action == "query":
        line = os.environ.get("COMP_LINE", "")
        typed = re.match(r"\s*\S+\s+(\S+)\s", line)  # a subcommand, and the space after it
        if typed is None:
            print("\n".join(SUBCOMMANDS))
        elif typed[1] == "run":  # to the others the shell offers files
            os.environ["COMP_LINE"] = line[: typed.start(1)] + line[typed.end(1) :].lstrip()
            sys.argv[:] = ["tandem", "-sc", *arguments]
            runpy.run_path(str(RUN), run_name="__main__")
        return
    # Needed by nothing else here.
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra.core.plugins import Plugins
    from hydra.plugins.completion_plugin import CompletionPlugin

    from pipeline.config.hydra_compat import ConfigLoaderImpl

    found = cast("list[type[CompletionPlugin]]", Plugins.instance().discover(CompletionPlugin))
    plugins = {plugin.provides(): plugin for plugin in found}
    if action not in ("install", "uninstall") or shell not in plugins:
        asked = f"-sc {' '.join(arguments)}".rstrip()
        sys.exit(f"error: {asked}: must be -sc install=SHELL, with {', '.join(sorted(plugins))}")
    sys.argv[:] = ["tandem"]  # the command that is completed
    plugin = plugins[shell](ConfigLoaderImpl(ConfigSearchPathImpl()))
    plugin.install() if action == "install" else plugin.uninstall()


def help_text() -> str:
    """Return the help: a line for each subcommand."""
    lines = ["Usage: tandem COMMAND ARGUMENTS…", ""]
    for name, subcommand in SUBCOMMANDS.items():
        lines.append(f"  {name} {subcommand.arguments}".ljust(26) + subcommand.effect)
    lines += [
        "",
        "tandem COMMAND --help shows its arguments. Options in conf/ and modules of this folder",
    ]
    return "\n".join(
        [*lines, "are found: conf/model/mine.yaml is model=mine, my_models.py is my_models:Net."]
    )


def unknown(name: str) -> str:
    """Return the error for an unknown subcommand."""
    from pipeline.config.checks.suggestions import nearest  # needed by nothing else here

    close = nearest(name, list(SUBCOMMANDS))
    if close is None and "=" in name:
        close = "run"
    hint = f" Did you mean tandem {close}?" if close else ""
    return f"error: {name}: must be one of {', '.join(SUBCOMMANDS)}.{hint}"


if __name__ == "__main__":
    main()
