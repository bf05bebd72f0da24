"""Conditions of a benchmark: what each backend used, and whether the comparison is like with like.

They are those of the report; each precision is a comparison of its own.
"""

from collections.abc import Sequence

from pipeline.bench.results import Bench
from pipeline.commands import command
from pipeline.compare.conditions import Conditions, columns_of, grouped, unlike
from pipeline.formatting import counted


def conditions_of_bench(bench: Bench, precisions: Sequence[str] | None = None) -> list[Conditions]:
    """Return the conditions of the measurements, by default in all precisions."""
    chosen = bench.precisions if precisions is None else precisions
    return grouped(
        [
            one.conditions
            for precision in chosen
            for backend in bench.backends
            for one in bench.series(precision, backend)
        ]
    )


def unfairness(bench: Bench) -> list[str]:
    """Return sentences on models and precisions in which the backends were not measured like with like."""
    found: dict[str, list[str]] = {}
    measured = [precision for precision in bench.precisions if bench.batches(precision)]
    for precision in measured:
        if told := unlike(conditions_of_bench(bench, [precision]), "backends"):
            found.setdefault(told, []).append(precision)
    return [
        *unlike_models(bench),
        *(
            f"{told}."
            if len(precisions) == len(measured)
            else f"{' and '.join(precisions)}: {told}."
            for told, precisions in found.items()
        ),
    ]


def unlike_models(bench: Bench) -> list[str]:
    """Return a sentence if the backends' models differ in their number of parameters."""
    known = {one.backend: one.parameters for one in bench.measured if one.train and one.parameters}
    if len({*known.values()}) < 2:
        return []
    sizes = ", ".join(f"{name} has {counted(known[name], 'parameter')}" for name in known)
    way = f"{command('parity')} with the keys of this experiment tells what differs"
    return [f"not the same model: {sizes}; {way}."]


def used_head(bench: Bench) -> list[str]:
    """Return the titles of the table of what each backend used."""
    return columns_of(conditions_of_bench(bench))


def used_rows(bench: Bench) -> list[list[str]]:
    """Return the cells of the table of what each backend used."""
    found = conditions_of_bench(bench)
    return [[one.values[key] or "–" for key in columns_of(found)] for one in found]
