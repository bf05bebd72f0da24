"""Names of the jobs of a sweep and of their folders."""

import pytest

from pipeline.job_context import VARIABLE, JobContext, job_context
from pipeline.sweep.job_names import differing, job_folder, setting_of, swept_keys

JOB = ["backend=jax", "model=cnn", "optimizer.lr=0.1", "name=mine", "logger=none"]


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("-m backend=torch,jax model=cnn", "3_backend=jax"),
        ("-m backend=torch,jax optimizer.lr=0.1,0.2", "3_backend=jax_optimizer.lr=0.1"),
        ("-m optimizer.lr=range(1,3) name=mine", "3_optimizer.lr=0.1"),
        ("-m name=mine", "3_backend=jax_model=cnn_optimizer.lr=0.1"),
    ],
)
def test_a_folder_is_named_by_the_number_of_the_job_and_what_differs(monkeypatch, command, folder):
    monkeypatch.setenv(VARIABLE, JobContext(swept=swept_keys(command.split())).to_json())
    assert job_folder(3, JOB) == folder


def test_characters_unsafe_in_file_names_become_dashes(monkeypatch):
    monkeypatch.setenv(VARIABLE, JobContext(swept=["model.hidden", "dataset.root"]).to_json())
    assert job_folder(0, ["model.hidden=[64, 32]", "dataset.root=/a b"]) == (
        "0_model.hidden=-64-32-_dataset.root=-a-b"
    )


def test_a_long_name_is_shortened_and_stays_unique_by_its_number(monkeypatch):
    monkeypatch.setenv(VARIABLE, JobContext(swept=["tags"]).to_json())
    names = {job_folder(number, [f"tags=[{'x' * 300}]"]) for number in range(3)}
    assert len(names) == 3
    assert max(map(len, names)) <= 123


def test_under_a_sweeper_keys_that_cannot_change_the_result_are_left_out(monkeypatch):
    monkeypatch.setenv(VARIABLE, JobContext(swept=[]).to_json())
    assert differing(JOB) == ["backend=jax", "model=cnn", "optimizer.lr=0.1"]


def test_a_setting_leaves_out_backend_seed_and_fold(monkeypatch):
    swept = ["backend", "seed", "dataset.fold", "optimizer.lr"]
    monkeypatch.setenv(VARIABLE, JobContext(swept=swept).to_json())
    assert setting_of([*JOB, "seed=3", "dataset.fold=1"]) == "optimizer.lr=0.1"


def test_the_job_context_survives_the_environment(monkeypatch):
    context = JobContext(name="seed=1 lr='a b'", sweep="λ", setting="", swept=["seed"], sweep_pid=7)
    monkeypatch.setenv(VARIABLE, context.to_json())
    assert job_context() == context
    monkeypatch.delenv(VARIABLE)
    assert job_context() == JobContext()
