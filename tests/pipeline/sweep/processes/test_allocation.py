"""Devices and cores that each job of a local sweep gets."""

import os

import pytest

from pipeline.sweep.processes import allocation as shares
from pipeline.sweep.processes.allocation import allocate, cores_needed, gpus_needed, parallel_jobs


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Four visible GPUs."""
    monkeypatch.setenv("TANDEM_LOCKS", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")


def never():
    return False


@pytest.mark.parametrize(
    ("overrides", "there", "needed"),
    [
        ("", 4, 1),
        ("", 0, 0),
        ("accelerator.devices=2", 4, 2),
        ("accelerator=multi_gpu", 4, 4),
        ("accelerator.devices=auto", 0, 0),
        ("accelerator=cpu", 4, 0),
        (
            "accelerator=gpu accelerator.devices=8 train.batch_size=64",
            4,
            0,
        ),  # it will say so itself
    ],
)
def test_a_job_takes_as_many_gpus_as_it_asks_for(configure, overrides, there, needed):
    assert gpus_needed(configure(overrides), there) == needed


@pytest.mark.parametrize(
    ("overrides", "jobs", "there", "needed"),
    [
        ("", None, 8, 0),
        ("", 1, 8, 0),
        ("", 2, 8, 4),
        ("", 3, 8, 2),
        ("", 16, 8, 1),
        ("", -1, 8, 1),
        ("accelerator.threads=3", None, 8, 3),
        ("accelerator.threads=3", 4, 8, 3),
        ("accelerator.threads=30", 4, 8, 8),
        ("backend=torch accelerator=cpu accelerator.threads=2 accelerator.devices=2", None, 8, 4),
        ("backend=jax accelerator=cpu accelerator.threads=2 accelerator.devices=2", None, 8, 2),
    ],
)
def test_parallel_jobs_share_the_cores_unless_they_set_threads(
    configure, overrides, jobs, there, needed
):
    assert cores_needed(configure(overrides), jobs, there) == needed


def test_allocated_gpus_are_visible_ones_and_no_two_jobs_share_them(configure):
    config, told = configure("accelerator.devices=2"), []
    with (
        allocate(config, None, never, told.append) as one,
        allocate(config, None, never, told.append) as two,
    ):
        assert one.environment == {"CUDA_VISIBLE_DEVICES": "4,5"}
        assert two.environment == {"CUDA_VISIBLE_DEVICES": "6,7"}
        assert told == []
        asked = iter([False, False, True])
        stopped = lambda: next(asked, True)  # noqa: E731
        with allocate(config, None, stopped, told.append) as third:
            assert third is None
    assert told == ["waits for 2 of the GPUs 4, 5, 6, 7: other jobs use them"]


def test_allocated_cores_are_disjoint(configure, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5})
    config = configure("accelerator=cpu")
    with allocate(config, 2, never, print) as one, allocate(config, 2, never, print) as two:
        assert (one.cores, two.cores) == ([0, 1], [2, 5])
        assert one.environment == {}
    with allocate(config, None, never, print) as alone:
        assert alone.cores is None


@pytest.mark.parametrize(
    ("visible", "kind", "devices", "cores", "jobs"),
    [
        ("4,5,6,7", "auto", 1, 64, 4),
        ("4,5,6,7", "gpu", 2, 64, 2),
        ("4,5,6,7", "auto", 3, 64, 1),
        ("4,5,6,7", "auto", 8, 64, 1),
        ("4,5,6,7", "auto", "auto", 64, 1),
        ("4,5,6,7", "cpu", 1, 2, 2),
        ("", "auto", 1, 1, 1),
    ],
)
def test_parallel_jobs_are_limited_by_the_groups_of_gpus_or_cores(
    monkeypatch, visible, kind, devices, cores, jobs
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    assert parallel_jobs(kind, devices) == jobs


def test_parallel_jobs_are_limited_by_memory(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(10_000)))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert parallel_jobs("auto", 1) == int(memory / shares.MEMORY_OF_A_JOB)
