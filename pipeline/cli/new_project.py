"""`tandem new FOLDER`: a small project of the user's own, which runs at once."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree, ignore_patterns

from pipeline.commands import command
from pipeline.errors import BadArgument, UserError
from pipeline.shipped import STARTER, SWEEPS

DESCRIPTION = """Start a project of your own in a new folder: a pair of models in torch and JAX, their config,
a test that they are the same, and examples of W&B's sweeps. It runs at once; change what you like."""

NOT_COPIED = ("outputs", "__pycache__", ".pytest_cache")  # of whoever has run the original


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        command("new"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the project will be")
    folder = parser.parse_args(arguments).folder
    try:
        make_project(folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"A project to start from is in {folder}. Its test, and a run on both backends:\n")
    run = f"{command('run')} -m experiment=mine backend=torch,jax"
    print(f"  cd {folder}\n  pip install pytest\n  pytest\n  {run}")
    return 0


def make_project(folder: Path) -> None:
    """Copy the project, and the sweeps, into a new folder, or an empty one.

    Raises:
        UserError: the folder has files already, or cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        problem, hint = "it exists already, and is not empty", "Name a new folder."
        raise BadArgument(str(folder), problem=problem, hint=hint)
    try:
        copytree(STARTER, folder, dirs_exist_ok=True, ignore=ignore_patterns(*NOT_COPIED))
        copytree(SWEEPS, folder / SWEEPS.name, ignore=ignore_patterns(*NOT_COPIED))
        readme = folder / "README.md"
        readme.write_text(readme.read_text().replace("PROJECT", folder.resolve().name))
    except OSError as error:
        problem = f"it cannot be written: {error.strerror or error}"
        hint = "Name a folder elsewhere."
        raise BadArgument(str(folder), problem=problem, hint=hint) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
