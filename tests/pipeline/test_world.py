"""The processes of a run are found in the environment, whoever started them."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.world import ALONE, World, alone, common_name, find_world, first_host

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


def test_torchruns_variables_are_read():
    assert find_world(TORCHRUN) == World(3, 4, 1, 2, "head:29500", "torchrun")
    assert find_world(TORCHRUN).nodes == 2
    assert not find_world(TORCHRUN).first


def test_processes_started_by_hand_are_one_to_a_machine_unless_said_otherwise():
    assert find_world(BY_HAND) == World(1, 2, 0, 1, "10.0.0.1:1234", "hand")
    local = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert find_world(BY_HAND | local) == World(1, 2, 1, 2, "10.0.0.1:1234", "hand")


def test_sruns_variables_are_read_and_the_port_follows_from_job_and_step():
    assert find_world(SRUN) == World(2, 4, 0, 2, f"n1:{61440 + 70002 % 4096}", "slurm")


def test_a_task_by_itself_and_a_batch_script_are_alone():
    assert find_world(SRUN | {"SLURM_STEP_NUM_TASKS": "1"}) == ALONE
    batch = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    assert find_world(batch) == ALONE


def test_tasks_that_nodes_have_different_numbers_of_are_refused():
    with pytest.raises(UserError, match=r"2,1: must be the same on all nodes.*--ntasks-per-node"):
        find_world(SRUN | {"SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_STEP_NUM_TASKS": "3"})


@pytest.mark.parametrize("missing", [name for name in TORCHRUN if "RANK" not in name[:4]][1:])
def test_a_missing_variable_is_named(missing):
    left = {name: value for name, value in TORCHRUN.items() if name != missing}
    with pytest.raises(UserError, match=f"{missing}=unset: must be set where RANK"):
        find_world(left)


@pytest.mark.parametrize(
    "wrong",
    [
        {"JAX_PROCESS_ID": "2"},
        {"JAX_NUM_PROCESSES": "two"},
        {"JAX_COORDINATOR_ADDRESS": "10.0.0.1"},
    ],
)
def test_what_no_process_can_be_is_refused_with_all_that_was_given(wrong):
    with pytest.raises(UserError, match=r"environment=JAX_COORDINATOR_ADDRESS=.*host:port"):
        find_world(BY_HAND | wrong)


@given(st.from_regex(r"[a-z]{1,8}-?", fullmatch=True), st.lists(st.integers(0, 999), min_size=1))
def test_the_first_host_of_slurms_notation_is_the_first_of_the_list(prefix, numbers):
    written = [f"{number:03d}" for number in numbers]
    assert first_host(",".join(prefix + number for number in written)) == prefix + written[0]
    assert first_host(f"{prefix}[{','.join(written)}],other") == prefix + written[0]
    assert first_host(f"{prefix}[{written[0]}-999]") == prefix + written[0]


def test_a_job_of_slurm_has_the_same_name_when_it_is_requeued():
    assert common_name(SRUN) == common_name(SRUN | {"SLURM_PROCID": "0"}) == "slurm-70000.2"
    assert common_name({}) is None


def test_torchruns_processes_have_a_name_in_common_and_another_start_has_another():
    assert common_name(TORCHRUN | {"TORCHELASTIC_RUN_ID": "night"}) == "torchrun-night"
    names = [named_by_a_new_starter() for _ in range(2)]
    assert names[0][0] == names[0][1] != names[1][0]


def named_by_a_new_starter() -> list[str]:
    """What two processes call their run that one process has started."""
    ask = "from pipeline.world import common_name; print(common_name())"
    script = (
        "import subprocess, sys\n"
        f"for _ in range(2): subprocess.run([sys.executable, '-c', {ask!r}], check=True)"
    )
    environment = os.environ | TORCHRUN | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout.split()


def test_a_process_that_is_none_of_the_runs_hears_nothing_of_it():
    environment = TORCHRUN | BY_HAND | SRUN | {"HOME": "/home/me"}
    assert find_world(alone(environment)) == ALONE
    assert alone(environment)["HOME"] == "/home/me"
