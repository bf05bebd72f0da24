"""At the end of a sweep its jobs are compared, and the exit code reports how they ended."""

import pytest
from omegaconf import OmegaConf

from pipeline.sweep.callbacks import CompareAtEnd
from pipeline.sweep.objective import BEST

ENDS = {
    "all done": ((), None),
    "one failed": (({"status": "failed", "error": "boom"},), 1),
    "one interrupted": (({"status": "interrupted"},), 130),
    "one ended without a word": ((None,), 1),
    "one failed, one interrupted": (({"status": "failed"}, {"status": "interrupted"}), 1),
}


def exit_code_of(folder, dry_run=False):
    """Exit code of a sweep in a folder; None leaves it to Hydra, which exits with 0."""
    config = OmegaConf.create(
        {"sweep": {"dry_run": dry_run}, "hydra": {"sweep": {"dir": str(folder)}}}
    )
    try:
        CompareAtEnd().on_multirun_end(config)
    except SystemExit as ending:
        return ending.code
    return None


@pytest.mark.parametrize(("others", "code"), ENDS.values(), ids=ENDS)
def test_the_exit_code_is_that_of_the_worst_job(write_run, tmp_path, capsys, others, code):
    for number, result in enumerate(({}, *others)):
        write_run(f"sweep/{number}", f"seed={number}", result=result)
    assert exit_code_of(tmp_path / "sweep") == code
    assert "completed" in capsys.readouterr().out
    assert (tmp_path / "sweep" / "report.html").stat().st_size > 1e6


def test_a_failed_trial_does_not_fail_a_search(write_run, tmp_path, capsys):
    write_run("sweep/0", "seed=0")
    write_run("sweep/1", "seed=1", result={"status": "failed"})
    best = {"metric": "val/accuracy", "best_value": 0.9, "trial": 0, "best_params": {"seed": 0}}
    OmegaConf.save(OmegaConf.create(best), tmp_path / "sweep" / BEST)
    assert exit_code_of(tmp_path / "sweep") is None
    assert "best: val/accuracy 0.9 of trial 0: seed=0" in capsys.readouterr().out


def test_a_dry_run_compares_nothing(write_run, tmp_path):
    write_run("sweep/0", result={"status": "failed"})
    assert exit_code_of(tmp_path / "sweep", dry_run=True) is None
    assert not (tmp_path / "sweep" / "report.html").exists()


def test_a_failed_comparison_is_reported_with_a_remedy_and_exits_with_1(
    write_run, tmp_path, capsys
):
    """Hydra would only warn and exit with 0."""
    write_run("sweep/0")
    (tmp_path / "sweep" / "report.html").mkdir()
    assert exit_code_of(tmp_path / "sweep") == 1
    error = capsys.readouterr().err
    assert error.startswith(
        f"the comparison failed: --to={tmp_path}/sweep: this folder cannot be written: "
    )
    assert f"Once more: python -m pipeline.compare {tmp_path}/sweep" in error
