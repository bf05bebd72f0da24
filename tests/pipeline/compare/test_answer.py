"""At the end of a sweep its jobs are compared, and the exit code says how they ended."""

import pytest
from omegaconf import OmegaConf

from pipeline.answer import Answer
from pipeline.objective import BEST

ENDS = {
    "all done": ((), None),
    "one failed": (({"status": "failed", "error": "boom"},), 1),
    "one interrupted": (({"status": "interrupted"},), 130),
    "one ended without a word": ((None,), 1),
    "one failed, one interrupted": (({"status": "failed"}, {"status": "interrupted"}), 1),
}


def end(folder, dry_run=False):
    """The exit code of a sweep in a folder; None for one that leaves it to Hydra, which ends with 0."""
    config = OmegaConf.create(
        {"sweep": {"dry_run": dry_run}, "hydra": {"sweep": {"dir": str(folder)}}}
    )
    try:
        Answer().on_multirun_end(config)
    except SystemExit as ending:
        return ending.code
    return None


@pytest.mark.parametrize(("others", "code"), ENDS.values(), ids=ENDS)
def test_the_exit_code_is_that_of_the_worst_job(write_run, tmp_path, capsys, others, code):
    for number, result in enumerate(({}, *others)):
        write_run(f"sweep/{number}", f"seed={number}", result=result)
    assert end(tmp_path / "sweep") == code
    assert "completed" in capsys.readouterr().out
    assert (tmp_path / "sweep" / "report.html").stat().st_size > 1e6


def test_a_failed_trial_of_a_search_is_an_answer(write_run, tmp_path, capsys):
    write_run("sweep/0", "seed=0")
    write_run("sweep/1", "seed=1", result={"status": "failed"})
    best = {"metric": "val/accuracy", "best_value": 0.9, "trial": 0, "best_params": {"seed": 0}}
    OmegaConf.save(OmegaConf.create(best), tmp_path / "sweep" / BEST)
    assert end(tmp_path / "sweep") is None
    assert "best: val/accuracy 0.9 of trial 0: seed=0" in capsys.readouterr().out


def test_a_dry_run_compares_nothing(write_run, tmp_path):
    write_run("sweep/0", result={"status": "failed"})
    assert end(tmp_path / "sweep", dry_run=True) is None
    assert not (tmp_path / "sweep" / "report.html").exists()


def test_a_comparison_that_fails_is_told_with_the_way_out_and_ends_in_1(
    write_run, tmp_path, capsys
):
    """Hydra would make a warning of it, and end with 0."""
    write_run("sweep/0")
    (tmp_path / "sweep" / "report.html").mkdir()
    assert end(tmp_path / "sweep") == 1
    error = capsys.readouterr().err
    assert error.startswith(
        f"the comparison failed: --to={tmp_path}/sweep: must be a folder that can"
    )
    assert f"Once more: python -m pipeline.compare {tmp_path}/sweep" in error
