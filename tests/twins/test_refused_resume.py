"""A refused command changes nothing on disk, nor does resuming a completed run."""

import pytest
from short_runs import FP64, MLP

from pipeline.errors import UserError

RUN = f"{FP64} {MLP}"


def content(run):
    """Bytes of every file of a run, by path."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_refused_resume_changes_nothing_and_a_valid_one_works_afterwards(
    train, tmp_path, capsys, backend
):
    run, refusals = tmp_path / "run", {
        "train.batch_size=100_000": "train.batch_size=100000: must be at most",
        "model.hidden=[8,4]": "the checkpoint is of another model",
        "train.steps=5": "this run has done 12 of 5 steps: nothing left to train",
    }  # fmt: skip
    assert train("run", backend, f"{RUN} train.stop_after=12") == 130
    stopped = content(run)
    for override, message in refusals.items():
        with pytest.raises(UserError, match=message):
            train("run", backend, f"{RUN} {override} resume={run}")
        assert content(run) == stopped, override

    assert train("run", backend, f"{RUN} resume={run}") == 0
    completed = content(run)
    assert run / "predictions.npz" in completed
    with pytest.raises(UserError, match=refusals["model.hidden=[8,4]"]):
        train("run", backend, f"{RUN} model.hidden=[8,4] train.steps=40 resume={run}")
    assert content(run) == completed
    capsys.readouterr()
    assert train("run", backend, f"{RUN} resume={run}") == 0
    assert "is completed at step 30: nothing left to train" in capsys.readouterr().out
    assert content(run) == completed
