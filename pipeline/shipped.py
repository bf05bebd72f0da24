"""Files that are shipped with the packages: the config groups, the script of a run, a project, W&B's sweeps.

A checkout has them in its root, a wheel in a folder of this package (see `setup.py`).
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL = _PACKAGE / "shipped"

SHIPPED = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent
CONF = SHIPPED / "conf"
RUN = SHIPPED / "run.py"
# `tandem new` copies both.
STARTER = SHIPPED / "starter"
SWEEPS = SHIPPED / "sweeps"
