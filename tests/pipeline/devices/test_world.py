"""The processes of a run are found in the environment, whoever started them."""

import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.devices import world
from pipeline.devices.world import (
    ALONE,
    World,
    find_world,
    first_host,
    network_interface,
    shared_run_name,
    single_process_environment,
)
from pipeline.errors import UserError

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "head",
    "MASTER_PORT": "29500",
}
BY_HAND = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}
SRUN = {
    "SLURM_JOB_ID": "70000",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


def test_torchrun_variables_are_read():
    assert find_world(TORCHRUN) == World(3, 4, 1, 2, "head:29500", "torchrun")
    assert find_world(TORCHRUN).nodes == 2
    assert not find_world(TORCHRUN).is_main


def test_only_under_torchrun_the_coordinator_of_jax_has_another_port():
    assert find_world(TORCHRUN).coordinator == f"head:{61440 + 29501 % 4096}"
    for port in ("61440", "65535"):
        found = find_world(TORCHRUN | {"MASTER_PORT": port})
        assert found.coordinator != found.address
    for environment in (BY_HAND, SRUN):
        found = find_world(environment)
        assert found.coordinator == found.address


def test_processes_started_by_hand_are_one_per_machine_by_default():
    assert find_world(BY_HAND) == World(1, 2, 0, 1, "10.0.0.1:1234", "manual")
    local = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert find_world(BY_HAND | local) == World(1, 2, 1, 2, "10.0.0.1:1234", "manual")


def test_srun_variables_are_read_and_the_port_follows_from_job_and_step():
    assert find_world(SRUN) == World(2, 4, 0, 2, f"n1:{61440 + 70002 % 4096}", "slurm")


def test_a_single_task_and_a_batch_script_are_one_process():
    assert find_world(SRUN | {"SLURM_STEP_NUM_TASKS": "1"}) == ALONE
    batch = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    assert find_world(batch) == ALONE


def test_unequal_numbers_of_tasks_per_node_are_refused():
    with pytest.raises(UserError, match=r"2,1: all nodes need the same number.*--ntasks-per-node"):
        find_world(SRUN | {"SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_STEP_NUM_TASKS": "3"})


@pytest.mark.parametrize("missing", [name for name in TORCHRUN if "RANK" not in name[:4]][1:])
def test_a_missing_variable_is_named(missing):
    left = {name: value for name, value in TORCHRUN.items() if name != missing}
    with pytest.raises(UserError, match=f"{missing}=unset: it is not set, and RANK"):
        find_world(left)


@pytest.mark.parametrize(
    "wrong",
    [
        {"JAX_PROCESS_ID": "2"},
        {"JAX_NUM_PROCESSES": "two"},
        {"JAX_COORDINATOR_ADDRESS": "10.0.0.1"},
    ],
)
def test_an_impossible_process_is_refused_with_all_its_variables(wrong):
    with pytest.raises(UserError, match=r"environment=JAX_COORDINATOR_ADDRESS=.*host:port"):
        find_world(BY_HAND | wrong)


@given(st.from_regex(r"[a-z]{1,8}-?", fullmatch=True), st.lists(st.integers(0, 999), min_size=1))
def test_the_first_host_is_read_from_slurms_node_list_notation(prefix, numbers):
    written = [f"{number:03d}" for number in numbers]
    assert first_host(",".join(prefix + number for number in written)) == prefix + written[0]
    assert first_host(f"{prefix}[{','.join(written)}],other") == prefix + written[0]
    assert first_host(f"{prefix}[{written[0]}-999]") == prefix + written[0]


@pytest.mark.parametrize(
    ("host", "routes", "interface"),
    [
        ("head", {"head": "10.0.0.5"}, "ib0"),
        ("head", {"head": "127.0.1.1", "192.0.2.1": "192.168.0.5"}, "eth0"),
        ("head", {"head": "127.0.1.1"}, None),
        ("head", {"head": "10.9.9.9"}, None),
        ("localhost", {"localhost": "127.0.0.1", "192.0.2.1": "10.0.0.5"}, None),
    ],
    ids=["a route", "a name of this machine", "no default route", "no interface", "one machine"],
)
def test_gloo_uses_the_interface_that_reaches_rank_0(monkeypatch, host, routes, interface):
    addresses = {"lo": "127.0.0.1", "eth0": "192.168.0.5", "ib0": "10.0.0.5"}
    monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(addresses)))
    monkeypatch.setattr(world, "_local_address", routes.get)
    monkeypatch.setattr(world, "_address_of", addresses.get)
    assert network_interface(host) == interface


def test_addresses_of_interfaces_are_read_from_the_kernel():
    names = [name for _, name in socket.if_nameindex()]
    assert "127.0.0.1" in map(world._address_of, names)
    assert world._address_of("none") is None
    assert world._local_address("127.0.0.1") == "127.0.0.1"


def test_a_requeued_slurm_job_keeps_its_name():
    assert shared_run_name(SRUN) == shared_run_name(SRUN | {"SLURM_PROCID": "0"}) == "slurm-70000.2"
    assert shared_run_name({}) is None


def test_torchrun_processes_share_a_name_that_differs_for_another_start():
    assert shared_run_name(TORCHRUN | {"TORCHELASTIC_RUN_ID": "night"}) == "torchrun-night"
    names = [names_of_two_processes() for _ in range(2)]
    assert names[0][0] == names[0][1] != names[1][0]


def names_of_two_processes() -> list[str]:
    """Run names in two processes that one new process has started."""
    ask = "from pipeline.devices.world import shared_run_name; print(shared_run_name())"
    script = (
        "import subprocess, sys\n"
        f"for _ in range(2): subprocess.run([sys.executable, '-c', {ask!r}], check=True)"
    )
    environment = os.environ | TORCHRUN | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout.split()


def test_the_environment_of_a_single_process_has_no_launcher_variables():
    environment = TORCHRUN | BY_HAND | SRUN | {"HOME": "/home/me"}
    assert find_world(single_process_environment(environment)) == ALONE
    assert single_process_environment(environment)["HOME"] == "/home/me"
