"""Runs on one or more GPUs, which only `pytest -m gpu` and `-m gpus` show to the tests."""

import pytest
from asserts import assert_rows_close

BACKENDS = ["torch", "jax"]
OTHER = {"torch": "jax", "jax": "torch"}
PLAIN = ("accelerator=gpu", "logger=none", "train.log_every=5", "train.eval_every=10steps")
CNN = ("model=cnn", "train.steps=20")
EXACT = ("train.precision=fp64", *PLAIN, *CNN)


def run(workspace, name, *arguments):
    """Run to the end in a process of its own, as only that may open a GPU; return its rows of metrics."""
    workspace.run(*arguments, f"name={name}", code=0, cold=True)
    return workspace.rows(f"outputs/{name}")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_takes_the_gpu_of_its_machine_and_names_it(workspace, backend):
    automatic = [key for key in (*PLAIN, *CNN) if key != "accelerator=gpu"]
    run(workspace, f"gpu-{backend}", f"backend={backend}", *automatic)
    result = workspace.result(f"outputs/gpu-{backend}")
    assert "fallback" not in result
    assert "cpu" not in result["devices"]
    assert result["hardware"].keys() >= {"driver", "cudnn"}
    assert result["peak_memory_mb"] > 0


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_repeats_and_resumes_bit_for_bit(workspace, backend):
    keys = (f"backend={backend}", *PLAIN, *CNN)
    whole = run(workspace, f"whole-{backend}", *keys)
    assert run(workspace, f"again-{backend}", *keys) == whole
    name = f"parts-{backend}"
    workspace.run(*keys, f"name={name}", "train.stop_after=10", cold=True)
    workspace.run(*keys, f"name={name}", "resume=auto", code=0, cold=True)
    last = workspace.rows(f"outputs/{name}")[-1]
    assert last == whole[-1]


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_goes_on_with_the_other_backend(workspace, backend):
    whole = run(workspace, f"here-{backend}", f"backend={backend}", *EXACT)
    name = f"there-{backend}"
    workspace.run(f"backend={backend}", *EXACT, f"name={name}", "train.stop_after=10", cold=True)
    rows = run(
        workspace, f"{name}-2", f"backend={OTHER[backend]}", *EXACT, f"resume=outputs/{name}"
    )
    assert_rows_close(rows[-1:], whole[-1:], atol=1e-9)


@pytest.mark.gpu
def test_the_jobs_of_a_sweep_share_the_gpu_and_agree(workspace):
    sweep = ("-m", "backend=torch,jax", "seed=0,1")
    workspace.run(*sweep, *EXACT, "name=sweep", code=0, cold=True)
    jobs = workspace.jobs("sweep")
    assert len(jobs) == 4
    losses = {}
    for job in jobs:
        result = workspace.result(f"outputs/sweep/{job}")
        assert "cpu" not in result["devices"]
        [last] = workspace.rows(f"outputs/sweep/{job}")[-1:]
        losses.setdefault(job.rpartition("seed=")[2], []).append(last["test/loss"])
    for torch_loss, jax_loss in losses.values():
        assert torch_loss == pytest.approx(jax_loss, abs=1e-9)


@pytest.mark.gpu
def test_jax_takes_no_more_memory_than_torch_for_long_sequences(workspace):
    keys = (
        "model=gpt", "model.width=768", "model.heads=12", "dataset=text", "dataset.length=1024",
        "train.batch_size=16", "train.precision=bf16", "train.steps=6", *PLAIN,
    )  # fmt: skip
    peaks = {}
    for backend in BACKENDS:
        run(workspace, f"long-{backend}", f"backend={backend}", *keys)
        peaks[backend] = workspace.result(f"outputs/long-{backend}")["peak_memory_mb"]
    assert peaks["jax"] < 1.3 * peaks["torch"], peaks


@pytest.mark.gpus
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_gpus_log_the_numbers_of_one(workspace, backend):
    keys = (f"backend={backend}", *EXACT)
    one = run(workspace, f"one-{backend}", *keys)
    for strategy in ("ddp", "fsdp"):
        two = ("accelerator.devices=2", f"accelerator.strategy={strategy}")
        rows = run(workspace, f"{strategy}-{backend}", *keys, *two)
        assert_rows_close(rows, one, atol=1e-10)


@pytest.mark.gpus
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sharded_model_takes_less_memory_on_each_gpu(workspace, backend):
    keys = (
        f"backend={backend}", "model=gpt2_medium", "dataset=text", "dataset.length=128",
        "train.batch_size=4", "train.steps=6", "accelerator.devices=2", *PLAIN,
    )  # fmt: skip
    peaks = {}
    for strategy in ("ddp", "fsdp"):
        run(workspace, f"{strategy}-{backend}", *keys, f"accelerator.strategy={strategy}")
        peaks[strategy] = workspace.result(f"outputs/{strategy}-{backend}")["peak_memory_mb"]
    assert peaks["fsdp"] < 0.7 * peaks["ddp"], peaks
