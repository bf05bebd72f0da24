"""Import order of the core: a room imports only rooms above it, and there are no import cycles."""

import ast
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From what was asked to what came of it. Files that stand in no room may be imported by everyone.
ROOMS = (
    "config", "tasks", "data", "training", "storage", "devices", "loggers", "verify", "run", "parity",
    "compare", "bench", "sweep", "cli", "convert",
)  # fmt: skip
MOST_FILES = 16


def modules() -> dict[str, Path]:
    """Files of the core, by module name."""
    files = (ROOT / "pipeline").rglob("*.py")
    named = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in named.items()}


def imports(file: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the core that a file imports, also inside functions and for type checking only."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in known else str(node.module) for name in full}
    return found & set(known)


def room(module: str) -> str | None:
    """Room of a module; None outside all rooms."""
    return next((part for part in module.split(".")[1:2] if part in ROOMS), None)


@cache
def all_imports() -> dict[str, set[str]]:
    """Modules of the core that each imports; not at the import of this file, which each worker collects."""
    found = modules()
    return {name: imports(file, found) - {name} for name, file in found.items()}


def test_every_folder_of_the_core_is_a_room():
    folders = {
        file.name for file in (ROOT / "pipeline").iterdir() if (file / "__init__.py").exists()
    }
    assert folders == set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_rooms_above_it(name):
    below = ROOMS[ROOMS.index(name) + 1 :]
    found = {
        f"{module} imports {other}"
        for module, others in all_imports().items()
        if room(module) == name
        for other in others
        if room(other) in below
    }
    assert found == set()


def test_files_outside_all_rooms_import_no_room():
    found = {
        f"{module} imports {other}"
        for module, others in all_imports().items()
        if room(module) is None
        for other in others
        if room(other) is not None
    }
    assert found == set()


def test_the_core_has_no_import_cycles():
    order = list(TopologicalSorter(all_imports()).static_order())
    assert len(order) == len(modules())


def test_no_folder_has_more_than_sixteen_files():
    files = [
        file
        for package in ("pipeline", "lightning_impl", "flax_impl")
        for file in (ROOT / package).rglob("*.py")
        if file.name != "__init__.py"
    ]
    count = Counter(str(file.parent.relative_to(ROOT)) for file in files)
    assert count["flax_impl/verify"] > 0
    assert {name: number for name, number in count.items() if number > MOST_FILES} == {}


def test_no_two_test_files_have_one_name():
    """Pytest imports them as top-level modules, and collects nothing if two have one name."""
    count = Counter(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, number in count.items() if number > 1] == []
