"""Private parts of Hydra in use here, and the differences between Hydra 1.3 and 1.4."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

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


MODES = {f"hydra.mode={mode.name}": mode for mode in RunMode}


def _get_mode(self: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    """Return the mode that an override or a preset sets, if any.

    Hydra composes the config for that, and then again to run it. As that takes 0.1 s, it is kept here.
    """
    given = [MODES[override] for override in overrides if override in MODES]
    if given:
        return given[-1]
    loader, load = self.config_loader, self.config_loader.load_configuration
    mode = RunMode.RUN
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        if any(override.is_sweep_override() for override in parsed):
            mode = RunMode.MULTIRUN
        composed = load(config_name, overrides, mode)
    except Exception as error:
        composed = error
    if isinstance(composed, DictConfig) and composed.hydra.mode is not None:
        return composed.hydra.mode
    added = f"hydra.mode={mode.name}"  # by Hydra, where there is none
    again = {"config_name": config_name, "overrides": [*overrides, added], "run_mode": mode}

    def load_once_more(*positional: Any, **named: Any) -> DictConfig:
        if positional or not again.items() <= named.items():
            return load(*positional, **named)
        loader.load_configuration = load
        if isinstance(composed, Exception):
            raise composed  # now Hydra reports it
        composed.hydra.mode = mode
        composed.hydra.overrides.hydra.append(added)
        return composed

    loader.load_configuration = load_once_more
    return None


if IS_1_3:  # each job of a sweep has one, and would compose its config twice; 1.4 composes once
    Hydra.get_mode = _get_mode


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
