"""Before the first of many jobs each folder of the sweep and each large file is read once."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from pipeline.config.checks.keys import CONF
from pipeline.config.experiment import register
from pipeline.config.hydra_compat import compose_from
from pipeline.storage import data_fingerprint, file_stamp, signature
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from pipeline.sweep import run_index
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


def test_a_plan_looks_into_each_folder_once_however_many_jobs_there_are(plan_of, monkeypatch):
    count, looked, known = 12, [], run_index.signatures_in
    for job in plan_of("sweep", seeds(count // 2, count // 2)):
        run = RunFolder(job.folder)
        run.identify(job.config)
        run.write_result(RunResult(status="completed"))
    monkeypatch.setattr(
        run_index, "signatures_in", lambda folder: looked.append(folder) or known(folder)
    )
    jobs = plan_of("sweep", seeds(0, count))  # half are new; the others have another number
    states = [job.status.state for job in jobs]
    assert states == [JobState.new] * (count // 2) + [JobState.finished] * (count // 2)
    assert len(looked) == count // 2


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
