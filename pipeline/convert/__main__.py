"""A checkpoint of one backend for the other, or for safetensors, and back.

python -m pipeline.convert outputs/first outputs/first-jax          # torch to jax, or jax to torch
python -m pipeline.convert outputs/first weights.safetensors        # weights alone, for anybody
python -m pipeline.convert outputs/first run.safetensors --whole    # optimizer state included
python -m pipeline.convert run.safetensors outputs/back --backend torch
python -m pipeline.convert theirs.safetensors outputs/new --backend jax model=resnet18
python -m pipeline.convert theirs.safetensors outputs/new --backend jax model=resnet18 --leave-out "fc.*"
"""

import argparse
import sys
from pathlib import Path

from pipeline.cli.main import EXPECTED_ERRORS
from pipeline.commands import command
from pipeline.config.checks.hydra_errors import to_user_error
from pipeline.convert import convert
from pipeline.run.backends import BACKENDS
from pipeline.storage.portable_file import SUFFIX

EXAMPLES = __doc__.partition("\n")[2]


def main() -> int:
    """`python -m pipeline.convert SRC DST`"""
    parser = argparse.ArgumentParser(
        prog=command("convert"),
        description=__doc__.partition("\n")[0],
        epilog=EXAMPLES.replace("python -m pipeline.convert", command("convert")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="a run, a checkpoint, or a file")
    parser.add_argument(
        "target", metavar="DST", type=Path, help=f"a new NAME{SUFFIX}, or the folder of a new run"
    )
    parser.add_argument("--backend", choices=list(BACKENDS), help="of the new run")
    parser.add_argument("--whole", action="store_true", help="all of the run, not weights alone")
    parser.add_argument("--config", metavar="RUN", type=Path, help="that has the new run's config")
    parser.add_argument(
        "--leave-out", metavar="PATTERN", action="append", default=[],
        help="arrays that start anew, by name: a head for other classes",
    )  # fmt: skip
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="of the new run's config")
    asked = parser.parse_intermixed_args()
    try:
        convert(**vars(asked))
    except EXPECTED_ERRORS as error:
        print(f"error: {to_user_error(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
