"""Number of devices of a run, and the numbers of processes that fit."""

import pytest

from pipeline.devices import device_count as sharing
from pipeline.devices.device_count import (
    check_device_count,
    device_count,
    devices_per_node,
    must_launch_ranks,
)
from pipeline.devices.world import ALONE, World
from pipeline.errors import UserError

FOUR = World(0, 4, 0, 2, "n1:1234", "slurm")  # two machines, two processes on each
PER_NODE = World(0, 2, 0, 1, "n1:1234", "slurm")  # two machines, one process on each


def test_torch_launches_a_process_for_each_device_and_jax_launches_none(configure):
    assert must_launch_ranks(configure("backend=torch accelerator.devices=2"), ALONE)
    assert not must_launch_ranks(configure("backend=torch accelerator.devices=1"), ALONE)
    assert not must_launch_ranks(configure("backend=jax accelerator.devices=2"), ALONE)
    started = World(0, 2, 0, 2, "localhost:1", "torchrun")
    assert not must_launch_ranks(configure("backend=torch accelerator.devices=2"), started)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_auto_takes_the_devices_of_the_started_processes(configure, backend):
    config = configure(f"backend={backend} accelerator=slurm accelerator.kind=cpu")
    check_device_count(config, FOUR)
    assert (devices_per_node(config, FOUR), device_count(config, FOUR)) == (2, 4)
    assert device_count(config, ALONE) == 1


def test_auto_takes_all_gpus_of_the_machine(configure, monkeypatch):
    monkeypatch.setattr(sharing, "gpu_count", lambda: 8)
    config = configure("backend=jax accelerator=multi_gpu")
    assert devices_per_node(config, ALONE) == 8
    assert devices_per_node(config, PER_NODE) == 8  # a process of jax holds them all
    assert devices_per_node(configure("accelerator=fsdp accelerator.kind=cpu"), ALONE) == 1


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_more_devices_than_gpus_are_refused_before_anything_starts(configure, monkeypatch, backend):
    monkeypatch.setattr(sharing, "gpu_count", lambda: 2)
    check_device_count(configure(f"backend={backend} accelerator.devices=2"), ALONE)
    with pytest.raises(UserError, match=r"accelerator.devices=4: must be at most 2, the GPUs"):
        check_device_count(configure(f"backend={backend} accelerator.devices=4"), ALONE)
    check_device_count(configure(f"backend={backend} accelerator=cpu accelerator.devices=4"), ALONE)


def test_jax_may_hold_several_devices_per_process_and_torch_only_one(configure):
    shape = "accelerator.nodes=2 accelerator.devices=4 train.batch_size=32"
    check_device_count(configure(f"backend=jax {shape}"), PER_NODE)
    check_device_count(configure(f"backend=jax {shape}"), FOUR)
    message = r"accelerator.devices=4: must be 1, the processes.*devices=auto"
    with pytest.raises(UserError, match=message):
        check_device_count(configure(f"backend=torch {shape}"), PER_NODE)
    message = r"accelerator.devices=1: must be a multiple of 2, the processes"
    with pytest.raises(UserError, match=message):
        check_device_count(configure("backend=jax accelerator.nodes=2"), FOUR)


def test_another_number_of_nodes_than_was_started_is_refused(configure):
    message = r"accelerator.nodes=1: must be 2, as the processes were started \(4, 2 on each"
    with pytest.raises(UserError, match=message):
        check_device_count(configure("accelerator.devices=2"), FOUR)


def test_the_batch_size_is_checked_against_the_devices_that_auto_finds(configure):
    config = configure("accelerator=slurm train.batch_size=30 train.accumulate=3")
    message = r"train.batch_size=30: must be a multiple of 12, for 4 devices × 3 micro-batches"
    with pytest.raises(UserError, match=message):
        check_device_count(config, FOUR)
