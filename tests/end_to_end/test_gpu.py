"""Runs on one or more GPUs, which only `pytest -m gpu` and `-m gpus` show to the tests.

`benchmarks/gpu/checks.py` reads their names. With TANDEM_GPU_TESTS_ON=cpu they run on a CPU, as a rehearsal
of the tests themselves.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
from asserts import assert_rows_close
from end_to_end.conftest import RUN

ON = os.environ.get("TANDEM_GPU_TESTS_ON", "gpu")
BACKENDS = ["torch", "jax"]
OTHER = {"torch": "jax", "jax": "torch"}
PLAIN = (f"accelerator={ON}", "logger=none", "train.log_every=5", "train.eval_every=10steps")
CNN = ("model=cnn", "train.steps=20")
EXACT = ("train.precision=fp64", *PLAIN, *CNN)
LONG = ("model.width=768", "model.heads=12", "dataset.length=1024")
if ON == "cpu":
    LONG = ("model.width=16", "model.heads=2", "dataset.length=32")
HIDDEN = {"CUDA_VISIBLE_DEVICES": "GPU-of-another-machine"}
# Torch warns at each operation that waits for the GPU.
WAITS = """
import runpy, sys, torch
torch.cuda.set_sync_debug_mode(1)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(workspace, name, *arguments):
    """Run to the end in a process of its own, as only that may open a GPU; return its rows of metrics."""
    workspace.run(*arguments, f"name={name}", code=0, cold=True)
    return workspace.rows(f"outputs/{name}")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_takes_the_gpu_of_its_machine_and_names_it(workspace, backend):
    automatic = [key for key in (*PLAIN, *CNN) if key != f"accelerator={ON}"]
    run(workspace, f"gpu-{backend}", f"backend={backend}", *automatic)
    result = workspace.result(f"outputs/gpu-{backend}")
    assert "fallback" not in result
    assert ("cpu" in result["devices"]) == (ON == "cpu")
    assert result["hardware"].keys() >= ({"cudnn"} if ON == "gpu" else set())
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
        assert ("cpu" in result["devices"]) == (ON == "cpu")
        [last] = workspace.rows(f"outputs/sweep/{job}")[-1:]
        losses.setdefault(job.rpartition("seed=")[2], []).append(last["test/loss"])
    for torch_loss, jax_loss in losses.values():
        assert torch_loss == pytest.approx(jax_loss, abs=1e-9)


@pytest.mark.gpu
def test_jax_takes_no_more_memory_than_torch_for_long_sequences(workspace):
    keys = (
        "model=gpt", *LONG, "dataset=text", "dataset.max_bytes=200_000", "train.batch_size=16",
        "train.precision=bf16", "train.steps=6", *PLAIN,
    )  # fmt: skip
    peaks = {}
    for backend in BACKENDS:
        run(workspace, f"long-{backend}", f"backend={backend}", *keys)
        peaks[backend] = workspace.result(f"outputs/long-{backend}")["peak_memory_mb"]
    assert ON == "cpu" or peaks["jax"] < 1.3 * peaks["torch"], peaks


@pytest.mark.gpu
def test_jobs_of_a_sweep_hold_the_gpu_one_after_the_other(workspace):
    if importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        pytest.skip("needs the extra joblib")
    # A rehearsal tells the jobs of a GPU that is not there.
    shown = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    keys = [key for key in PLAIN if not key.startswith("accelerator=")]
    jobs = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "backend=torch,jax")
    done = workspace.run(
        *jobs, *keys, *CNN, "name=leases", code=0, cold=True, **(shown if ON == "gpu" else HIDDEN)
    )
    assert "waits for 1 of the GPUs" in done.output
    devices = [
        workspace.result(f"outputs/leases/{job}")["devices"] for job in workspace.jobs("leases")
    ]
    assert len(devices) == 2
    assert all(("cpu" in device) == (ON == "cpu") for device in devices), devices


@pytest.mark.gpu
def test_steps_of_torch_do_not_wait_for_the_gpu(workspace):
    waits = {}
    for steps in (40, 80):
        name = f"waits-{steps}"
        keys = ("backend=torch", *PLAIN[:2], "model=cnn", "train.ema=0.9", f"train.steps={steps}")
        rare = ("train.log_every=1000", "train.eval_every=1000steps", f"name={name}")
        code = WAITS if ON == "gpu" else WAITS.replace("torch.cuda.set_sync_debug_mode(1)", "pass")
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", code, str(RUN), *keys, *rare],
            cwd=workspace.path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        waits[steps] = (done.stdout + done.stderr).count("synchronizing CUDA operation")
    assert waits[40] == waits[80], waits
    assert ON == "cpu" or waits[40] > 0  # of the evaluation and the checkpoint: they are counted


@pytest.mark.gpu
def test_compiled_torch_agrees_with_eager(workspace):
    eager = run(workspace, "eager", "backend=torch", *EXACT)
    compiled = run(workspace, "compiled", "backend=torch_compiled", *EXACT)
    assert_rows_close(compiled, eager, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_seeds_that_train_at_once_agree_with_each_alone(workspace, backend):
    keys = (f"backend={backend}", *EXACT)
    name = f"once-{backend}"
    sweep = ("-m", "seed=0,1,2", "sweep.vectorize=true")
    workspace.run(*sweep, *keys, f"name={name}", code=0, cold=True)
    alone = run(workspace, f"alone-{backend}", *keys, "seed=1")
    assert_rows_close(workspace.rows(f"outputs/{name}/1_seed=1"), alone, atol=1e-9)


@pytest.mark.gpu
def test_optimizers_agree_on_the_gpu(workspace):
    names = "sgd,adam,adamw,amsgrad,adagrad,rmsprop,lion,muon"
    sweep = ("-m", "backend=torch,jax", f"optimizer={names}")
    keys = ("train.precision=fp64", *PLAIN, "model=mlp", "train.steps=10")
    workspace.run(*sweep, *keys, "name=optimizers", code=0, cold=True)
    losses = {}
    for job in workspace.jobs("optimizers"):
        last = workspace.rows(f"outputs/optimizers/{job}")[-1]
        losses.setdefault(job.partition("optimizer=")[2], []).append(last["test/loss"])
    assert len(losses) == len(names.split(","))
    for name, (torch_loss, jax_loss) in losses.items():
        assert torch_loss == pytest.approx(jax_loss, abs=1e-9), name


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
def test_a_sharded_run_resumes_bit_for_bit(workspace, backend):
    keys = (f"backend={backend}", *PLAIN, *CNN, "optimizer=adamw")
    keys = (*keys, "accelerator.devices=2", "accelerator.strategy=fsdp")
    whole = run(workspace, f"sharded-{backend}", *keys)
    name = f"sharded-parts-{backend}"
    workspace.run(*keys, f"name={name}", "train.stop_after=10", cold=True)
    assert run(workspace, name, *keys, "resume=auto")[-1] == whole[-1]


@pytest.mark.gpus
def test_jobs_of_a_sweep_take_different_gpus(workspace):
    if importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        pytest.skip("needs the extra joblib")
    jobs = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "backend=torch,jax")
    shown = {} if ON == "gpu" else {"CUDA_VISIBLE_DEVICES": "5,7"}
    keys = [key for key in PLAIN if not key.startswith("accelerator=")]
    done = workspace.run(
        *jobs, *keys, *CNN, "accelerator.devices=1", "name=apart", code=0, cold=True, **shown
    )
    assert "waits for" not in done.output


@pytest.mark.gpus
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sharded_model_takes_less_memory_on_each_gpu(workspace, backend):
    model = ("model=gpt2_medium", "dataset.length=128") if ON == "gpu" else ("model=gpt", *LONG)
    keys = (
        f"backend={backend}", *model, "dataset=text", "dataset.max_bytes=100_000", "train.batch_size=4",
        "train.steps=6", "accelerator.devices=2", *PLAIN,
    )  # fmt: skip
    peaks = {}
    for strategy in ("ddp", "fsdp"):
        run(workspace, f"{strategy}-{backend}", *keys, f"accelerator.strategy={strategy}")
        peaks[strategy] = workspace.result(f"outputs/{strategy}-{backend}")["peak_memory_mb"]
    assert ON == "cpu" or peaks["fsdp"] < 0.7 * peaks["ddp"], peaks
