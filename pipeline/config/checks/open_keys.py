"""Keys that a preset leaves open, as `???`: OmegaConf leaves the default in their place."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from yaml import safe_load

from pipeline.config.checks.keys import config_groups
from pipeline.config.checks.preset_errors import shown
from pipeline.errors import UserError
from pipeline.shipped import CONF

OPEN = "???"


def check_open_keys(overrides: Sequence[str], loader: ConfigLoader | None = None) -> None:
    """Refuse a key that a chosen preset leaves open, and that no later one and no override sets."""
    loader = loader or GlobalHydra.instance().config_loader()
    folders = [Path(source.path) for source in loader.get_sources() if source.scheme() == "file"]
    folders += searched_folders(overrides)
    if not any(holds_open_keys(folder) for folder in folders):
        return
    open_keys: dict[str, Path] = {}
    for one in loader.compute_defaults_list("config", list(overrides), RunMode.RUN).defaults:
        files = (folder / f"{one.config_path}.yaml" for folder in folders)
        if (file := next(filter(Path.is_file, files), None)) is None:
            continue  # a schema
        for key, value in keys_of(safe_load(file.read_text()), one.package or "").items():
            open_keys.pop(key, None)
            open_keys |= {key: file} if value == OPEN else {}
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    given = {one.key_or_group for one in parsed} - {*config_groups()}
    for key, file in open_keys.items():
        parts = key.split(".")
        if not given & {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}:
            problem = f"{shown(file)} leaves it open"
            raise UserError(key, OPEN, problem=problem, hint=f"Set {key}=VALUE.")


def searched_folders(overrides: Sequence[str]) -> list[Path]:
    """Return the folders of presets that `hydra.searchpath` names; Hydra's loader does not tell them."""
    given = [one for one in overrides if one.startswith("hydra.searchpath=")]
    values = [one.value() for one in OverridesParser.create().parse_overrides(given)]
    named = [place for value in values if isinstance(value, list) for place in value]
    return [Path(str(place).removeprefix("file://")) for place in named]


def holds_open_keys(folder: Path) -> bool:
    """Return whether a folder of presets may leave a key open; ours do not."""
    files = [] if folder.resolve() == CONF.resolve() else folder.rglob("*.yaml")
    return any(OPEN in file.read_text(errors="replace") for file in files)


def keys_of(content: object, package: str) -> dict[str, object]:
    """Return the values of a preset by dotted keys; a list is a value, and so is an empty mapping."""
    if not isinstance(content, dict) or not content:
        return {package: content}
    found: dict[str, object] = {}
    for key, value in content.items():
        if key != "defaults" or package:
            found |= keys_of(value, f"{package}.{key}" if package else str(key))
    return found
