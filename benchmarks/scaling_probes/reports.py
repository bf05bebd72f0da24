"""Cost over the runs of a comparison."""

from pathlib import Path

from benchmarks.scaling_probes.case import Case, Values


def make_runs(size: int, folder: Path) -> None:
    """Write runs of both backends, five seeds and as many learning rates as it takes."""
    from tests.made_runs import write_predictions, write_run

    for number in range(size):
        pair, backend = number // 2, ("torch", "jax")[number % 2]
        rate = {"optimizer__lr": (1 + pair // 5) / 1000}
        run = write_run(
            folder / "sweep" / str(number), backend, pair % 5, steps=200, noise=1e-6, **rate
        )
        write_predictions(run, number, samples=1000)


def compare(size: int, folder: Path) -> list[str]:
    """Return the command that compares the runs."""
    del size
    return ["-m", "pipeline.compare", str(folder / "sweep")]


def page_size(folder: Path) -> Values:
    """Return the size of the page."""
    return {"page MB": (folder / "sweep" / "report.html").stat().st_size / 1e6}


CASES = [
    Case(
        "runs", "Runs in a report", "runs",
        "`python -m pipeline.compare` on runs of 200 steps and 1,000 predictions each, in pairs of two "
        "backends, five seeds to a setting. A sweep ends in the same comparison. The page begins with "
        "Plotly's 4.6 MB.",
        (10, 30, 100, 300, 1000, 2000),
        prepare=make_runs, command=compare, after=page_size,
    ),
]  # fmt: skip
