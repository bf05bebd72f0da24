"""Runs on a GPU, which only `pytest -m gpu` shows to the tests."""

import pytest

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_run_takes_the_gpu_of_its_machine_and_names_it(workspace, backend):
    keys = ("model=cnn", "train.steps=20", "train.log_every=10", "logger=none")
    workspace.run(f"backend={backend}", f"name=gpu-{backend}", *keys, code=0, cold=True)
    result = workspace.result(f"outputs/gpu-{backend}")
    assert "fallback" not in result
    assert "cpu" not in result["devices"]
    assert result["hardware"].keys() >= {"driver", "cudnn"}
    assert result["peak_memory_mb"] > 0
