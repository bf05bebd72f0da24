"""Measurement of the rows, to write the page or to check it."""

import sys
from collections.abc import Collection
from pathlib import Path

import jax

from benchmarks.differences.families import FAMILIES
from benchmarks.differences.measure import Cell, measure
from benchmarks.differences.namespaces import HAS_EQUINOX, VERSIONS, float64
from benchmarks.differences.page import Change, Family, changes, page
from benchmarks.differences.row import Row

ROWS = {row.key: row for rows in FAMILIES.values() for row in rows}


def measure_all(keys: Collection[str] = ()) -> dict[str, dict[Row, dict[str, Cell]]]:
    """Measure the rows of these keys, or all, by family."""
    found = {}
    with float64():
        for name, rows in FAMILIES.items():
            found[name] = {row: measure(row) for row in rows if row.key in (keys or ROWS)}
            if not keys:
                jax.clear_caches()  # of a thousand compiled programs, two gigabytes
    return {name: family for name, family in found.items() if family}


def check(path: Path, families: dict[str, Family], keys: Collection[str] = ()) -> list[Change]:
    """Return the rows, of these keys or all, of which the page at `path` is wrong."""
    found = changes(path.read_text(), page(families, VERSIONS), ROWS, HAS_EQUINOX)
    return [change for change in found if change.key in (keys or {*ROWS, change.key})]


def main(path: Path, checks: bool, keys: Collection[str]) -> int:
    """Write the page or check it, and return the exit code."""
    if unknown := set(keys) - set(ROWS):
        print(f"no such row: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 1
    if not HAS_EQUINOX:
        print(
            "Equinox, of the dev extra, is not installed: its column is left out", file=sys.stderr
        )
        if not checks:
            return 1
    families = measure_all(keys)
    if not checks:
        path.write_text(page(families, VERSIONS))
        print(f"wrote {path}")
        return 0
    found = check(path, families, keys)
    print("\n".join(map(str, found)) or f"{path} says what is measured")
    return bool(found)
