"""Files of a benchmark: the page and its numbers as JSON."""

from pathlib import Path

from pipeline.atomic_files import write_json
from pipeline.bench.results import Bench
from pipeline.bench.sentence import sentences


def write(bench: Bench, folder: Path) -> list[Path]:
    """Write `bench.html` and `bench.json` into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / "bench.json"
    write_json(numbers, bench.to_json() | {"sentences": sentences(bench)})
    return [numbers]
