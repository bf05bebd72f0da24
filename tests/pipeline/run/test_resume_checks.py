"""Checks of a resume: the run, the command and the folder."""

import json

import pytest

from pipeline.cli.checks import check_mode
from pipeline.errors import UserError
from pipeline.run.resume import check_resumable, read_identity
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.signature import signature, signature_of


@pytest.fixture
def run(configure, tmp_path):
    """The folder of a run."""
    RunFolder(tmp_path).identify(configure("backend=jax model=mlp"))
    return tmp_path


def test_mode_test_refuses_to_resume(configure, run):
    config = configure(f"backend=jax mode=test checkpoint={run} resume={run}")
    check_mode(config)
    with pytest.raises(UserError, match=r"resume=.*mode=test trains nothing.*Leave out resume="):
        check_resumable(config)


def test_an_edited_config_in_run_json_is_refused_with_a_remedy(run):
    text = (run / "run.json").read_text()
    assert read_identity(run, "resume").backend == "jax"
    (run / "run.json").write_text(text.replace('"lr": 0.003', '"lr": 0.007'))
    with pytest.raises(UserError, match=r"run\.json was edited.*on the command line"):
        read_identity(run, "resume")
    # What cannot change the result may be edited.
    (run / "run.json").write_text(text.replace('"log_every": 50', '"log_every": 5'))
    read_identity(run, "resume")


def test_a_run_of_an_earlier_version_is_tested_but_not_resumed(run):
    identity = json.loads((run / "run.json").read_text())
    identity["signature"] = signature_of(identity["config"], meaning=1)
    (run / "run.json").write_text(json.dumps(identity))
    assert read_identity(run, "checkpoint").backend == "jax"
    with pytest.raises(UserError, match=r"samples in another order.*start from the weights alone"):
        read_identity(run, "resume")


def test_another_folder_of_images_makes_another_run(configure):
    folder = "dataset=folder dataset.root=photos"
    assert signature(configure(folder)) != signature(configure(f"{folder}2"))
    for same in ("dataset.cache=elsewhere", "dataset.workers=3"):
        assert signature(configure(f"{folder} {same}")) == signature(configure(folder))
    digits = [signature(configure(f"dataset.root={root}")) for root in ("a", "b")]
    assert digits[0] == digits[1]


def test_an_edited_file_of_names_makes_another_run(configure, tmp_path, monkeypatch):
    names = tmp_path / "names.yaml"
    names.write_text("rows: []")
    config = configure(f"model=own model.names={names}")
    before = signature(config)
    assert signature(config) == before
    names.write_text("rows: []\n")
    assert signature(config) != before
    names.rename(tmp_path / "moved.yaml")
    assert signature(configure(f"model=own model.names={tmp_path / 'moved.yaml'}")) != before


@pytest.mark.parametrize(
    "overrides",
    [
        "dataset=own dataset.load=edited_own:made",
        "model=own model.torch=edited_own:made",
        "task=own task.torch=edited_own:made",
        "optimizer=own optimizer.torch=edited_own:made",
        "schedule=own schedule.function=edited_own:made",
    ],
)
def test_an_edited_module_of_the_user_makes_another_run_and_is_told_when_one_resumes(
    configure, tmp_path, monkeypatch, capsys, overrides
):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "edited_own.py"
    module.write_text("def made(): ...")
    config = configure(overrides)
    folder = RunFolder(tmp_path / "run")
    folder.identify(config)
    assert read_identity(folder.path, "resume").backend == "torch"
    assert capsys.readouterr().out == ""
    module.write_text("def made(): ... # else")
    assert signature(config) != folder.identity.signature
    read_identity(folder.path, "resume")
    assert "=edited_own:made has changed since" in capsys.readouterr().out


def test_names_that_were_edited_since_refuse_a_resume(configure, tmp_path):
    names = tmp_path / "names.yaml"
    names.write_text("rows: []")
    folder = RunFolder(tmp_path / "run")
    folder.identify(configure(f"model=own model.names={names}"))
    names.write_text("rows: []\n")
    with pytest.raises(
        UserError, match=r"or the file of model\.names \(.*names\.yaml\), was edited"
    ):
        read_identity(folder.path, "resume")


@pytest.mark.parametrize("content", [{}, [], {"config": {}}, {"config": 1, "signature": "x"}, "{"])
def test_a_damaged_run_json_is_reported_in_one_message(run, content):
    (run / "run.json").write_text(content if content == "{" else json.dumps(content))
    with pytest.raises(UserError, match=r"resume=.*run\.json is damaged"):
        read_identity(run, "resume")
