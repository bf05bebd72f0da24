"""Messages of runs that train at once."""

import pytest

from pipeline.loggers.shared_progress import MemberProgress, SharedProgress


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Progress of three runs, each with a folder."""
    monkeypatch.setenv("TANDEM_PROGRESS", "plain")
    shared = SharedProgress(10, "jax × 3", 3)
    folders = [tmp_path / f"seed={seed}" for seed in range(3)]
    for folder in folders:
        folder.mkdir()
    return shared, [MemberProgress(shared, folder.name, folder) for folder in folders]


def test_a_message_of_all_runs_is_one_line_and_one_in_each_log(runs, tmp_path, capsys):
    shared, members = runs
    with shared:
        for member in members:
            member.message("10 parameters")
        for member in members:
            member.start()
        for member in members[:2]:
            member.message("interrupted")
        members[2].message("broken")
        for member in members[1:]:
            member.message("the end")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "each run: 10 parameters",
        "jax × 3: step 0/10",
        "2 of 3 runs: interrupted",
        "seed=2: broken",
        "2 of 3 runs: the end",
    ]
    log = (tmp_path / "seed=1/run.log").read_text()
    assert [log.count(text) for text in ("10 parameters", "interrupted", "the end")] == [1, 1, 1]
