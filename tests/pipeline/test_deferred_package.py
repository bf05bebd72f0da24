"""Packages whose `__init__` runs when it is needed."""

import sys
from importlib import import_module

import pytest

from pipeline.deferred_package import DeferredPackage, defer


@pytest.fixture
def slow_package(tmp_path, monkeypatch):
    """A package `slow_package` that can be imported; it notes in `ran` that its `__init__` runs."""
    folder = tmp_path / "slow_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from slow_package.part import Part\nran = globals().get('ran', 0) + 1\n"
    )
    (folder / "part.py").write_text("class Part: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith("slow_package")]:
        del sys.modules[name]


def test_a_package_runs_once_when_a_name_is_used_that_is_not_ready(slow_package):
    defer("slow_package", {"Ready": lambda: 3})
    import slow_package
    import slow_package.part as part
    from slow_package import Ready

    assert Ready == 3
    assert isinstance(slow_package, DeferredPackage)
    assert "Part" not in vars(slow_package), "neither ran it"
    assert slow_package.Part is part.Part
    assert slow_package.ran == 1
    with pytest.raises(AttributeError, match="no attribute 'Ready'"):
        _ = slow_package.Ready
    assert slow_package.ran == 1


def test_a_package_that_is_imported_already_or_not_installed_is_left_alone(slow_package):
    import slow_package

    defer("slow_package", {})
    assert sys.modules["slow_package"] is slow_package
    assert type(slow_package) is type(sys)
    defer("package_that_is_not_there", {})
    assert "package_that_is_not_there" not in sys.modules


def test_a_metric_of_torchmetrics_is_one_to_lightning():
    import_module("lightning_impl")  # the first to import Lightning
    torchmetrics, lightning = map(import_module, ("torchmetrics", "lightning.pytorch.core.module"))
    assert isinstance(torchmetrics.MeanMetric(), lightning.Metric)
    assert torchmetrics.Metric is lightning.Metric
    assert torchmetrics.functional.accuracy
