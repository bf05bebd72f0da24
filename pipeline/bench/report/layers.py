"""Table of the time by layer, all backends side by side."""

from collections.abc import Sequence

from pipeline.bench.results import Bench, Measured
from pipeline.formatting import format_number
from pipeline.run.backends import LAYERS_REST, LAYERS_ROOT, LAYERS_UNNAMED

SHOWN = {
    LAYERS_ROOT: "(model itself)",
    LAYERS_REST: "(batch, loss, update)",
    LAYERS_UNNAMED: "(not named by the compiler)",
}


def layers_head(bench: Bench) -> list[str]:
    """Return the titles of the table of layers."""
    names = [name for name in bench.backends if any(m.layers for m in of_backend(bench, name))]
    kinds = ("forward ms", "backward ms", "%")
    return ["precision, batch", "layer", *(f"{name}: {kind}" for name in names for kind in kinds)]


def layers_rows(bench: Bench) -> list[list[str]]:
    """Return the cells of the table: a row for each layer, with its part of the step on each backend."""
    names = [name for name in bench.backends if any(m.layers for m in of_backend(bench, name))]
    rows = []
    for precision in bench.precisions:
        for batch in bench.batches(precision):
            at = bench.at(precision, batch)
            chosen = [at.get(name) for name in names]
            for layer in layer_names([one for one in chosen if one]):
                cells = [cell for one in chosen for cell in cells_of(one, layer)]
                rows.append([f"{precision}, {batch}", shown(layer), *cells])
    return rows


def of_backend(bench: Bench, name: str) -> list[Measured]:
    """Return the measurements of a backend."""
    return [one for one in bench.measured if one.backend == name]


def layer_names(measured: Sequence[Measured]) -> list[str]:
    """Return the names of all layers in the order of the first backend that has them, the rest last."""
    names = dict.fromkeys(name for one in measured for name in one.layers)
    last = tuple(SHOWN)
    return [name for name in names if name not in last] + [name for name in last if name in names]


def cells_of(one: Measured | None, layer: str) -> list[str]:
    """Return the milliseconds of a layer and its part of the step, for one backend."""
    found = one.layers.get(layer) if one else None
    if one is None or found is None:
        return ["–"] * 3
    total = sum(map(sum, one.layers.values()))
    times = [format_number(float(f"{1000 * seconds:.3g}")) for seconds in found]
    return [*times, f"{100 * sum(found) / total:.0f}"]


def shown(layer: str) -> str:
    """Return the name of a layer for the reader."""
    return SHOWN.get(layer, layer)
