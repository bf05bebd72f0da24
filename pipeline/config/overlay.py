"""The user's own `conf/`, laid over the built-in config groups."""

from pathlib import Path

from pipeline.shipped import CONF

SCHEMA = "- schema"  # in the defaults of every primary config of ours


def config_folders() -> list[Path]:
    """Return the folders of configs, the built-in one first; an option in a later one wins."""
    own = own_conf()
    return [CONF] if own is None else [CONF, own]


def own_conf() -> Path | None:
    """Return the `conf/` of the working folder; None without one, or if it is another program's."""
    folder = Path("conf").absolute()
    if not folder.is_dir() or folder.resolve() == CONF or is_foreign(folder):
        return None
    return folder


def is_foreign(folder: Path) -> bool:
    """True if a folder has a primary config that does not begin with our schema."""
    primary = folder / "config.yaml"
    return primary.is_file() and SCHEMA not in primary.read_text(errors="replace")
