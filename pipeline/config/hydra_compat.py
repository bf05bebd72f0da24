"""Private parts of Hydra in use here, and the differences between Hydra 1.3 and 1.4."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

try:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import get_args_parser
except ImportError as error:
    raise ImportError(
        f"hydra-core {hydra.__version__} lacks what Tandem uses of it ({error}). "
        "Install a version that it is tested with: pip install 'hydra-core>=1.3.2,<1.5'"
    ) from error

__all__ = [
    "ConfigLoaderImpl", "compose_from", "get_args_parser", "main",
    "register_resolver", "store",
]  # fmt: skip

IS_1_3 = hydra.__version__.startswith("1.3.")
VERSION_BASE = {"version_base": "1.3"} if IS_1_3 else {}  # 1.4 warns of it

# Classes that Hydra may instantiate from a config, besides plugins; 1.3 has no such list.
BUILDABLE = (
    "pipeline.cli.checks.CheckBeforeRun",
    "pipeline.sweep.callbacks.CompareAtEnd",
)

main: Callable[..., Callable[..., Any]] = partial(
    hydra.main, **VERSION_BASE, **({} if IS_1_3 else {"execution_whitelist": BUILDABLE})
)


_compose_mode = Hydra.get_mode
MODES = {f"hydra.mode={mode.name}": mode for mode in RunMode}


def _get_mode(self: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    """Return the mode that an override sets; without one, compose the config to see, as Hydra does."""
    given = [MODES[override] for override in overrides if override in MODES]
    return given[-1] if given else _compose_mode(self, config_name, overrides)


Hydra.get_mode = _get_mode  # each job of a sweep has one, and would compose its config twice


@contextmanager
def compose_from(folder: Path) -> Generator[None, None, None]:
    """Let `hydra.compose` read the configs of a folder, also in a program that uses Hydra itself."""
    earlier = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(folder.resolve()), **VERSION_BASE):
            yield
    finally:
        GlobalHydra.instance().hydra = earlier  # Hydra makes a new instance


def register_resolver(name: str, function: Callable[..., object]) -> None:
    """Make `${name:…}` call a function; replace an earlier one."""
    # In OmegaConf 2.3 `register_resolver` is another, older function.
    register = getattr(OmegaConf, "register_new_resolver" if IS_1_3 else "register_resolver")
    register(name, function, replace=True)


def store(name: str, node: object, group: str | None = None) -> None:
    """Add a schema to Hydra's store; replace an earlier one."""
    replace: dict[str, Any] = {} if IS_1_3 else {"replace": True}
    ConfigStore.instance().store(name=name, node=node, group=group, **replace)
