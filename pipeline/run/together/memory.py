"""Memory for runs that train at once."""

FREE_PART = 0.9  # of the free memory that the runs may take


def count_that_fits(runs: int, needed: float, free: int) -> int:
    """Return how many of so many runs, which need so many bytes together, fit into free ones; at least 1."""
    fitting = runs
    while fitting > 1 and needed * fitting / runs > FREE_PART * free:
        fitting = -(-fitting // 2)
    return fitting
