"""Commands of one rank of several: which are refused, and which rank reports it."""

import pytest

TORCHRUN = {
    "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
}  # fmt: skip
BY_HAND = {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "2"}


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["-m", "seed=0,1"], TORCHRUN | {"RANK": "0"}, "-m: one process starts those of each job"),
        ([], BY_HAND | {"JAX_PROCESS_ID": "0"}, "Add name=NAME to the command of each."),
        ([], {"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK=unset: it is not set, and RANK"),
        (["name=x"], BY_HAND | {"JAX_PROCESS_ID": "0"}, "Set accelerator.nodes=auto"),
    ],
)
def test_invalid_commands_of_a_rank_are_refused_before_anything_starts(
    workspace, arguments, environment, message
):
    done = workspace.run(*arguments, **environment, code=1)
    assert message in done.output
    assert "Traceback" not in done.output


def test_only_the_first_rank_reports_the_error(workspace):
    done = workspace.run("-m", "seed=0,1", **TORCHRUN, RANK="1")
    assert (done.code, done.output) == (1, "")
