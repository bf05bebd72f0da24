"""Stand-in until the page lands."""

from pathlib import Path


def write_page(made, path: Path, refresh: float | None = None) -> None:
    path.write_text("")
