"""The work of a comparison grows linearly with the number of runs, and its memory hardly."""

import weakref
from functools import cache

import pytest
from asserts import assert_work_is_linear
from made_runs import write_predictions, write_run
from rich.console import Console

from pipeline.compare import show
from pipeline.compare.comparison import comparison
from pipeline.compare.report import confusion
from pipeline.compare.report.page_data import page_data
from pipeline.compare.table import csv_table, markdown


@pytest.fixture
def write_runs(tmp_path):
    """A function that writes so many runs of a search on both backends, and returns their folder."""

    @cache
    def write(count: int):
        folder = tmp_path / str(count)
        for number in range(count):
            pair, backend = number // 2, ("torch", "jax")[number % 2]
            rate = {"optimizer__lr": (1 + pair // 2) / 1000}
            run = write_run(folder / str(number), backend, pair % 2, steps=20, **rate)
            write_predictions(run, number, samples=20)
        return folder

    return write


def test_the_lines_that_a_comparison_executes_are_in_proportion_to_its_runs(write_runs):
    def compare(count):
        made = comparison([write_runs(count)])
        show(made, Console(quiet=True, width=160))
        return page_data(made), markdown(made), csv_table(made)

    for count in (24, 48, 96):
        write_runs(count)
    compare(24)  # imports, and what is computed once
    assert_work_is_linear(compare, 24)


def test_predictions_of_a_few_runs_are_in_memory_at_a_time(write_runs, monkeypatch):
    read, alive, most = confusion.read_predictions, weakref.WeakSet(), []

    def counted(folder):
        known = read(folder)
        alive.add(known)
        most.append(len(alive))
        return known

    monkeypatch.setattr(confusion, "read_predictions", counted)
    made = comparison([write_runs(24)])
    assert len(confusion.mistakes(made)["pairs"]) == 12
    assert len(most) == 24  # each is read once
    assert max(most) <= 4  # two pairs, when the next is read
