"""Import of a backend."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_what_a_backend_imports_is_left_out_of_garbage_collection_until_the_end():
    code = (
        "import atexit, gc; from pipeline.run.backends import load\n"
        "atexit.register(lambda: print(gc.get_freeze_count()))\n"
        "load('jax'); first = gc.get_freeze_count(); load('jax')\n"
        "print(gc.isenabled(), first, gc.get_freeze_count())"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    enabled, first, again, end = run.stdout.split()
    assert enabled == "True"
    assert int(first) > 50_000
    assert again == first
    assert end == "0"
