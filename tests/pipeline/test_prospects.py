"""What will become of a job of a sweep, by what lies in the sweep's folder."""

import pytest
from omegaconf import OmegaConf

from pipeline.prospects import Fate, place, prospect
from pipeline.runs import RunFolder, write_json
from pipeline.sweep import Work, note_crash


@pytest.fixture
def config(configure):
    return configure("backend=jax seed=3")


def left(folder, config, status=None, step=None):
    """A job's folder as an earlier sweep has left it."""
    run = RunFolder(folder)
    run.identify(config)
    if step:
        (folder / "checkpoints" / f"{step:06d}").mkdir(parents=True)
    if status:
        run.write_result({"status": status})
    return folder


@pytest.mark.parametrize(
    ("status", "step", "fate", "retried"),
    [
        ("completed", 60, Fate.finished, Fate.finished),
        ("interrupted", 60, Fate.resumed, Fate.resumed),
        ("interrupted", None, Fate.again, Fate.again),
        ("failed", 60, Fate.failed, Fate.resumed),
        ("failed", None, Fate.failed, Fate.again),
        (None, 60, Fate.resumed, Fate.resumed),
        (None, None, Fate.again, Fate.again),
    ],
)
def test_a_job_is_skipped_or_gone_on_with_by_how_it_ended(
    configure, tmp_path, config, status, step, fate, retried
):
    folder = left(tmp_path / "0_seed=3", config, status, step)
    found = prospect(config, folder)
    assert (found.fate, found.step) == (fate, step if fate is Fate.resumed else 0)
    assert found.runs == (fate in (Fate.again, Fate.resumed))
    assert prospect(configure("backend=jax seed=3 sweep.retry_failed=true"), folder).fate is retried


def test_of_several_processes_only_the_first_leaves_a_running_job_alone(
    monkeypatch, tmp_path, config
):
    folder = left(tmp_path / "0_seed=3", config, step=60)
    monkeypatch.setattr(RunFolder, "running", True)
    assert prospect(config, folder).fate is Fate.running
    second = "RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=n1 MASTER_PORT=9"
    for variable in second.split():
        monkeypatch.setenv(*variable.split("="))
    assert prospect(config, folder).fate is Fate.resumed


def test_a_job_is_known_by_what_it_is_and_not_by_its_number(configure, tmp_path, config):
    assert place(tmp_path / "none", "2_seed=3", config) == tmp_path / "none" / "2_seed=3"
    found = left(tmp_path / "0_seed=3", config)
    assert place(tmp_path, "7_seed=3", config) == found
    assert place(tmp_path, "7_tags=-a-", configure("backend=jax seed=3 tags=[a]")) == found


def test_a_folder_of_another_job_is_not_taken(configure, tmp_path, config):
    left(tmp_path / "0_seed=3", config, "completed", 60)
    other = configure("backend=jax seed=3 optimizer.lr=0.5")
    own = place(tmp_path, "0_seed=3", other)
    assert own.name.startswith("0_seed=3_")
    assert prospect(other, own).fate is Fate.new
    left(own, other)
    assert place(tmp_path, "0_seed=3", other) == own
    assert place(tmp_path, "0_seed=3", None) == tmp_path / "0_seed=3_refused"


def test_a_job_killed_before_it_could_say_who_it_is_is_known_by_its_result(tmp_path, config):
    folder = tmp_path / "0_seed=3"
    folder.mkdir()
    note_crash(Work(config, folder, "seed=3", OmegaConf.create()), "killed by SIGKILL")
    assert place(tmp_path, "4_seed=3", config) == folder
    assert prospect(config, folder).fate is Fate.failed


def test_a_test_or_a_run_that_goes_on_with_another_is_always_new(configure, tmp_path, config):
    for extra in ("mode=test checkpoint=outputs/a", "resume=outputs/a"):
        other = configure(f"backend=jax seed=3 {extra}")
        folder = left(tmp_path / extra[:6], other, "completed", 60)
        assert place(tmp_path, extra[:6], other) == folder
        assert prospect(other, folder).fate is Fate.new
    auto = configure("backend=jax seed=3 resume=auto")
    assert prospect(auto, left(tmp_path / "auto", config, "completed")).fate is Fate.finished


def test_a_tested_run_is_not_taken_for_the_training_of_the_same_signature(configure, tmp_path):
    tested = configure("backend=jax seed=3 mode=test checkpoint=outputs/a")
    left(tmp_path / "0_seed=3", tested, "completed")
    trained = configure("backend=jax seed=3")
    assert prospect(trained, place(tmp_path, "0_seed=3", trained)).fate is Fate.new


def test_a_torn_identity_beside_a_checkpoint_is_not_written_over(tmp_path, config):
    folder = left(tmp_path / "0_seed=3", config, step=60)
    (folder / "run.json").write_text("{")
    assert place(tmp_path, "0_seed=3", config) != folder
    write_json(folder / "run.json", {})
    assert place(tmp_path, "0_seed=3", config) != folder
