"""The experiment on PyTorch Lightning. Its twin is flax_impl: the same files, the same names."""

import logging
import os
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from pipeline.deferred_package import defer

# Cache of compiled programs, so that the next run of the same shapes need not compile.
CACHE = Path(os.environ.get("TANDEM_CACHE", Path.home() / ".cache" / "tandem")) / "inductor"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE))  # torch chooses one when it is loaded


def _metric() -> object:
    import_module("torchmetrics.utilities")  # imports it, and cannot be imported by it
    return import_module("torchmetrics.metric").Metric


# Lightning imports two classes of torchmetrics, whose __init__ imports SciPy and torchvision: a quarter of a
# start.
defer(
    "torchmetrics",
    {
        "__version__": lambda: version("torchmetrics"),
        "Metric": _metric,
        "MetricCollection": lambda: import_module("torchmetrics.collections").MetricCollection,
        "_logger": lambda: logging.getLogger("torchmetrics"),
    },
)
