"""Write docs/differences.md, or check it against fresh measurements.

python -m benchmarks.differences                                # writes the page
python -m benchmarks.differences --check [--rows adam,gelu-tanh]  # exit code 1 if rows have changed
"""

import argparse
import os
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "differences.md"


def run() -> int:
    """Parse the arguments, run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.differences", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--check", action="store_true", help="compare the page instead of writing it"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="the file; docs/differences.md")
    parser.add_argument("--rows", default="", help="keys of the rows to check, with commas; all")
    asked = parser.parse_args()
    if asked.rows and not asked.check:
        parser.error("--rows is for --check: the page has all rows")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # Hundreds of small programs run once: optimizing them takes longer than running them. At level 0
    # some gradients are wrong, as tests/conftest.py says.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true "
        "--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false",
    )
    from benchmarks.differences.check import main

    return main(asked.page, asked.check, asked.rows.split(",") if asked.rows else [])


if __name__ == "__main__":
    sys.exit(run())
