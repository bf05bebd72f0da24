"""The status of a sweep job follows from the files in the folder of the sweep."""

import pytest
from omegaconf import OmegaConf

from pipeline.atomic_files import write_json
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from pipeline.sweep.job_status import JobState, job_folder_for, job_status
from pipeline.sweep.run_job import SweepJob, note_crash


@pytest.fixture
def config(configure):
    return configure("backend=jax seed=3")


def write_job(folder, config, status=None, step=None):
    """Write the folder of a job as an earlier sweep left it."""
    run = RunFolder(folder)
    run.identify(config)
    if step:
        (folder / "checkpoints" / f"{step:06d}").mkdir(parents=True)
    if status:
        run.write_result(RunResult(status=status))
    return folder


@pytest.mark.parametrize(
    ("status", "step", "state", "retried"),
    [
        ("completed", 60, JobState.finished, JobState.finished),
        ("interrupted", 60, JobState.resumed, JobState.resumed),
        ("interrupted", None, JobState.restarted, JobState.restarted),
        ("failed", 60, JobState.failed, JobState.resumed),
        ("failed", None, JobState.failed, JobState.restarted),
        (None, 60, JobState.resumed, JobState.resumed),
        (None, None, JobState.restarted, JobState.restarted),
    ],
)
def test_the_state_of_a_job_follows_from_how_it_ended(
    configure, tmp_path, config, status, step, state, retried
):
    folder = write_job(tmp_path / "0_seed=3", config, status, step)
    found = job_status(config, folder)
    assert (found.state, found.number) == (state, step if state is JobState.resumed else None)
    assert found.is_due == (state in (JobState.restarted, JobState.resumed))
    assert (
        job_status(configure("backend=jax seed=3 sweep.retry_failed=true"), folder).state is retried
    )


def test_only_the_first_rank_skips_a_running_job(monkeypatch, tmp_path, config):
    folder = write_job(tmp_path / "0_seed=3", config, step=60)
    monkeypatch.setattr(RunFolder, "running", True)
    assert job_status(config, folder).state is JobState.running
    second = "RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=n1 MASTER_PORT=9"
    for variable in second.split():
        monkeypatch.setenv(*variable.split("="))
    assert job_status(config, folder).state is JobState.resumed


def test_a_job_is_found_by_its_signature_and_not_by_its_number(configure, tmp_path, config):
    assert job_folder_for(tmp_path / "none", "2_seed=3", config) == tmp_path / "none" / "2_seed=3"
    found = write_job(tmp_path / "0_seed=3", config)
    assert job_folder_for(tmp_path, "7_seed=3", config) == found
    assert job_folder_for(tmp_path, "7_tags=-a-", configure("backend=jax seed=3 tags=[a]")) == found


def test_the_folder_of_another_job_is_not_used(configure, tmp_path, config):
    write_job(tmp_path / "0_seed=3", config, "completed", 60)
    other = configure("backend=jax seed=3 optimizer.lr=0.5")
    own = job_folder_for(tmp_path, "0_seed=3", other)
    assert own.name.startswith("0_seed=3_")
    assert job_status(other, own).state is JobState.new
    write_job(own, other)
    assert job_folder_for(tmp_path, "0_seed=3", other) == own
    assert job_folder_for(tmp_path, "0_seed=3", None) == tmp_path / "0_seed=3_refused"


def test_a_job_killed_before_it_wrote_its_identity_is_found_by_its_result(tmp_path, config):
    folder = tmp_path / "0_seed=3"
    folder.mkdir()
    note_crash(SweepJob(config, folder, "seed=3", OmegaConf.create()), "killed by SIGKILL")
    assert job_folder_for(tmp_path, "4_seed=3", config) == folder
    assert job_status(config, folder).state is JobState.failed


def test_a_test_or_a_run_resumed_from_another_is_always_new(configure, tmp_path, config):
    for extra in ("mode=test checkpoint=outputs/a", "resume=outputs/a"):
        other = configure(f"backend=jax seed=3 {extra}")
        folder = write_job(tmp_path / extra[:6], other, "completed", 60)
        assert job_folder_for(tmp_path, extra[:6], other) == folder
        assert job_status(other, folder).state is JobState.new
    auto = configure("backend=jax seed=3 resume=auto")
    assert (
        job_status(auto, write_job(tmp_path / "auto", config, "completed")).state
        is JobState.finished
    )


def test_a_tested_run_is_not_mistaken_for_a_trained_one(configure, tmp_path):
    tested = configure("backend=jax seed=3 mode=test checkpoint=outputs/a")
    write_job(tmp_path / "0_seed=3", tested, "completed")
    trained = configure("backend=jax seed=3")
    assert job_status(trained, job_folder_for(tmp_path, "0_seed=3", trained)).state is JobState.new


def test_a_truncated_run_json_beside_a_checkpoint_is_not_overwritten(tmp_path, config):
    folder = write_job(tmp_path / "0_seed=3", config, step=60)
    (folder / "run.json").write_text("{")
    assert job_folder_for(tmp_path, "0_seed=3", config) != folder
    write_json(folder / "run.json", {})
    assert job_folder_for(tmp_path, "0_seed=3", config) != folder
