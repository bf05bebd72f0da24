"""The work before a sweep's first job grows linearly with its jobs, and large files are read once."""

import pytest
from asserts import assert_work_is_linear
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from pipeline.config.checks.keys import CONF
from pipeline.config.experiment import register
from pipeline.config.hydra_compat import compose_from
from pipeline.storage import data_fingerprint, file_stamp, signature
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from pipeline.sweep.job_status import JobState, job_folder_for
from pipeline.sweep.sweeper import plan


@pytest.fixture
def plan_of(tmp_path, monkeypatch):
    """A function that plans the jobs of a sweep of its arguments, in a folder of this name."""
    monkeypatch.setattr(file_stamp, "FRESH", 0)  # no file here changes
    register()
    with compose_from(CONF):
        hydra = GlobalHydra.instance().hydra

        def planned(name, *arguments):
            into = [f"hydra.sweep.dir={tmp_path}/{name}"]
            sweep = hydra.compose_config("config", into, RunMode.MULTIRUN)
            return list(plan(hydra.config_loader, sweep, arguments))

        yield planned


def seeds(first, count):
    """Argument for so many seeds from the first on."""
    return f"seed={','.join(map(str, range(first, first + count)))}"


def test_a_plan_takes_work_in_proportion_to_its_jobs_wherever_their_runs_are(plan_of):
    states = []

    def plan_with_others_first(count):
        # Every job has another number than before; half of them are new.
        jobs = plan_of(count, seeds(0, count))
        states.append([job.status.state for job in jobs])

    for count in (8, 16, 32):
        for job in plan_of(count, seeds(count // 2, count // 2)):
            run = RunFolder(job.folder)
            run.identify(job.config)
            run.write_result(RunResult(status="completed"))
    plan_of("once", seeds(0, 1))  # what is computed once
    assert_work_is_linear(plan_with_others_first, 8)
    for count, found in zip((8, 16, 32), states, strict=True):
        assert found == [JobState.new] * (count // 2) + [JobState.finished] * (count // 2)


def test_a_trial_reads_no_run_again_that_stays_the_same(plan_of, tmp_path, monkeypatch):
    jobs = plan_of("sweep", seeds(0, 12))
    for job in jobs[:-1]:
        RunFolder(job.folder).identify(job.config)
    read = []
    monkeypatch.setattr(
        "pipeline.storage.run_folder.read_json", lambda path: read.append(path) or {"config": {}}
    )
    for _ in range(2):
        read.clear()
        assert job_folder_for(tmp_path / "sweep", "trial", jobs[-1].config).name == "trial"
    assert {path.parent.name for path in read} == {"trial"}


def test_a_plan_reads_weights_and_data_once(plan_of, tmp_path, monkeypatch):
    weights, data = tmp_path / "weights.safetensors", tmp_path / "tokens.bin"
    weights.write_bytes(b"w" * 1000)
    data.write_bytes(b"d" * 1000)
    opened = []
    for module, name in ((signature, "file_digest"), (data_fingerprint, "blocks_of")):
        known = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, known=known, name=name: opened.append(name) or known(*a)
        )
    files = [f"model.weights={weights}", f"dataset.path={data}"]
    jobs = plan_of("sweep", "model=gpt", "dataset=tokens", *files, seeds(0, 10))
    assert [str(job.config.model.weights) for job in jobs] == [str(weights)] * 10
    assert sorted(opened) == ["blocks_of", "file_digest"]
    weights.write_bytes(b"v" * 1000)
    changed = plan_of("sweep", "model=gpt", "dataset=tokens", *files, seeds(0, 10))
    assert sorted(opened) == ["blocks_of", "file_digest", "file_digest"]
    assert signature.signature(changed[0].config) == signature.signature(jobs[0].config)
