"""What a sweep calls its jobs and their folders."""

import pytest

from pipeline.job_names import SWEPT, differing, job_folder, swept_keys

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
def test_a_folder_is_the_jobs_number_and_what_differs(monkeypatch, command, folder):
    monkeypatch.setenv(SWEPT, ",".join(swept_keys(command.split())))
    assert job_folder(3, JOB) == folder


def test_what_a_file_system_does_not_like_becomes_a_dash(monkeypatch):
    monkeypatch.setenv(SWEPT, "model.hidden,dataset.root")
    assert job_folder(0, ["model.hidden=[64, 32]", "dataset.root=/a b"]) == (
        "0_model.hidden=-64-32-_dataset.root=-a-b"
    )


def test_a_long_name_is_cut_and_stays_unique_by_its_number(monkeypatch):
    monkeypatch.setenv(SWEPT, "tags")
    names = {job_folder(number, [f"tags=[{'x' * 300}]"]) for number in range(3)}
    assert len(names) == 3
    assert max(map(len, names)) <= 123


def test_where_a_sweeper_chose_what_cannot_change_the_result_is_left_out(monkeypatch):
    monkeypatch.setenv(SWEPT, "")
    assert differing(JOB) == ["backend=jax", "model=cnn", "optimizer.lr=0.1"]
