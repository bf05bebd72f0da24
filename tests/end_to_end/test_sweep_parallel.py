"""Parallel jobs on one machine: each has its own devices and cores, and stops with a checkpoint."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from end_to_end.conftest import jobs

from pipeline.storage.checkpoints import checkpoints_of

ENDLESS = (
    "backend=jax", "model=linear", "logger=none", "train.steps=9000000", "train.log_every=50",
    "train.eval_every=100steps", "hydra/launcher=joblib",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is nothing to share"),
]


@pytest.fixture
def start(workspace, tmp_path):
    """A function that starts a sweep, which is killed with all its processes after the test."""
    started = []

    def begin(*arguments, **environment):
        sweep = workspace.start(
            "-m", *ENDLESS, *arguments, TANDEM_LOCKS=str(tmp_path), **environment
        )
        started.append(psutil.Process(sweep.pid))
        return sweep

    yield begin
    for sweep in started:
        if sweep.is_running():
            for process in [sweep, *sweep.children(recursive=True)]:
                process.kill()


def by_seed(sweep):
    """Running jobs of a sweep, by seed."""
    found = {}
    for job in jobs(sweep):
        with suppress(psutil.Error):  # it has just ended
            found[next(word for word in job.cmdline() if word.startswith("seed="))] = job
    return found


def gpus_of(job):
    """The GPUs whose locks a job holds."""
    names = [Path(file.path).name for file in job.open_files()]
    return {name.removeprefix("gpu-") for name in names if name.startswith("gpu-")}


def wait_until(sweep, state, deadline=300.0):
    """Wait until `state` returns something true, and return it."""
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        assert sweep.poll() is None, sweep.communicate()[0]
        if answer := state():
            return answer
        time.sleep(0.05)
    raise AssertionError("it takes too long")


def training(sweep, workspace, name, *seeds):
    """Running jobs of a sweep, once those of these seeds have a checkpoint."""

    def answer():
        found = by_seed(sweep)
        folder = workspace.path / "outputs" / name
        saved = {path.parent.parent for path in folder.glob("*/checkpoints/*")}
        with_checkpoint = {run.name.partition("_")[2] for run in saved if checkpoints_of(run)}
        return found if set(seeds) <= with_checkpoint & set(found) else None

    return wait_until(sweep, answer)


@pytest.mark.parametrize("threads", [(), ("accelerator.threads=1",)], ids=["even", "threads"])
def test_each_job_has_its_own_cores_and_ctrl_c_stops_all_with_a_checkpoint(
    workspace, start, threads
):
    name = f"cores{len(threads)}"
    command = ("accelerator=cpu", "seed=0,1,2", "hydra.launcher.n_jobs=2", f"name={name}", *threads)
    sweep = start(*command)
    running = training(sweep, workspace, name, "seed=0", "seed=1")
    assert set(running) == {"seed=0", "seed=1"}
    first, second = (set(job.cpu_affinity()) for job in running.values())
    assert first.isdisjoint(second)
    share = 1 if threads else len(os.sched_getaffinity(0)) // 2
    assert len(first) == len(second) == share
    sweep.send_signal(signal.SIGINT)  # to it alone; on a terminal the workers would have it, too
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 130, output
    assert "Traceback" not in output
    for folder in ("0_seed=0", "1_seed=1"):
        assert workspace.result(f"outputs/{name}/{folder}")["status"] == "interrupted"
    assert not (workspace.path / f"outputs/{name}/2_seed=2/run.json").exists()
    assert not any(job.is_running() for job in running.values())
    again = workspace.run("-m", *ENDLESS, *command, "sweep.dry_run=true")
    told = [line.split("  ")[2].rstrip("0123456789") for line in again.output.splitlines()[1:]]
    assert told == ["resumes at step ", "resumes at step ", "starts"]


def test_killing_a_sweep_ends_all_its_jobs_also_under_nohup(workspace, start):
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sweep = start(
        "accelerator=cpu", "seed=0,1,2,3", "hydra.launcher.n_jobs=2", "name=shot", cold=True
    )
    signal.signal(signal.SIGHUP, former)
    running = list(training(sweep, workspace, "shot", "seed=0", "seed=1").values())
    everything = psutil.Process(sweep.pid).children(recursive=True)
    sweep.kill()
    sweep.communicate(timeout=300)
    _, left = psutil.wait_procs(everything, timeout=300)
    assert left == []
    assert len(running) == 2
    for folder in ("0_seed=0", "1_seed=1"):
        assert workspace.result(f"outputs/shot/{folder}")["status"] == "interrupted"
    assert not (workspace.path / "outputs/shot/2_seed=2/run.json").exists()


def test_no_two_jobs_share_a_gpu_and_that_of_a_killed_job_is_reused(workspace, start):
    # There need be no such GPUs: the jobs are told of them, and compute on what there is.
    sweep = start("seed=0,1,2", "name=gpus", CUDA_VISIBLE_DEVICES="5,7")
    running = training(sweep, workspace, "gpus", "seed=0", "seed=1")
    assert set(running) == {"seed=0", "seed=1"}, "as many as there are GPUs"
    devices = {seed: gpus_of(job) for seed, job in running.items()}
    assert sorted(map(sorted, devices.values())) == [["5"], ["7"]]
    running["seed=1"].kill()
    third = wait_until(sweep, lambda: by_seed(sweep).get("seed=2"))
    assert gpus_of(third) == devices["seed=1"]
    sweep.send_signal(signal.SIGTERM)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 143, output
    assert "job 1 (seed=1) failed: killed by SIGKILL" in output


def test_two_sweeps_share_the_gpus_and_the_second_reports_that_it_waits(workspace, start):
    first = start("seed=0,1", "name=one", CUDA_VISIBLE_DEVICES="5,7")
    running = training(first, workspace, "one", "seed=0", "seed=1")
    second = start("seed=2,3", "name=two", CUDA_VISIBLE_DEVICES="5,7")
    waits = "waits for 1 of the GPUs 5, 7: other jobs use them"
    assert any(waits in line for line in iter(second.stdout.readline, ""))
    assert jobs(second) == []
    device = gpus_of(running["seed=0"])
    running["seed=0"].kill()
    [job] = wait_until(second, lambda: jobs(second))
    assert gpus_of(job) == device
    for sweep in (first, second):
        sweep.send_signal(signal.SIGTERM)
        output, _ = sweep.communicate(timeout=300)
        assert sweep.returncode == 143, output
