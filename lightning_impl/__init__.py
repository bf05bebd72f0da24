"""The experiment on PyTorch Lightning. Its twin is flax_impl: the same files, the same names."""

import os
from pathlib import Path

# Cache of compiled programs, so that the next run of the same shapes need not compile.
CACHE = Path(os.environ.get("TANDEM_CACHE", Path.home() / ".cache" / "tandem")) / "inductor"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE))  # torch chooses one when it is loaded
