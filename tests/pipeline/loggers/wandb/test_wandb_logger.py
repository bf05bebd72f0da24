"""W&B as its real offline files record it; no test needs an account or a network."""

import json
import math
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import wandb
from offline_wandb import read_run, records

from pipeline.config.loggers import WandbConfig
from pipeline.errors import UserError
from pipeline.loggers import RunLabels
from pipeline.loggers.metrics_file import read_metrics
from pipeline.loggers.wandb.identity import flatten_config
from pipeline.loggers.wandb.logger import WandbLogger, open_wandb

CONFIG = {
    "backend": {"name": "jax"},
    "model": {"name": "cnn", "channels": [6, 16], "input_size": None},
    "dataset": {"name": "digits"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "logger": {"wandb": {"project": "tandem"}, "csv": None},
    "train": {"steps": 4},
    "name": "mysweep",
    "seed": 1,
    "tags": ["mine"],
}
IDENTITY = RunLabels("mysweep", "jax-cnn", "id1", ("mine", "jax"), CONFIG)

# Trains in `folder` from after step `resumed_from` (-1: anew) to `last`, one row each step.
TRAIN = """
import sys, time
from pathlib import Path
from pipeline.config.experiment import Config
from pipeline.config.loggers import LoggerConfig, WandbConfig
from pipeline.loggers import RunLabels
from pipeline.loggers.tracker import open_tracker

folder, resumed_from, last, pause = Path(sys.argv[1]), *map(float, sys.argv[2:])
config = Config(logger=LoggerConfig(wandb=WandbConfig()))
resumed_from = None if resumed_from < 0 else int(resumed_from)
tracker = open_tracker(config, folder, RunLabels(None, "job", "id1"), resumed_from)
for step in range(0 if resumed_from is None else resumed_from + 1, int(last)):
    tracker.log(step, {"train/loss": 1 / (step + 1), "optim/lr": 0.1})
    tracker.log(step, {"val/loss": 2 / (step + 1)})
    print("step", step, flush=True)
    time.sleep(pause)
tracker.finish(0, {"steps": last})
assert "wandb.sdk.launch" not in sys.modules, "W&B Launch takes seconds to import"
"""


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch, tmp_path):
    wandb.teardown()  # or the variable that names its service would come back after the test
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "no-settings"))


def train(folder, resumed_from=-1, last=4, pause=0.0, **kwargs):
    command = [sys.executable, "-c", TRAIN, str(folder), *map(str, (resumed_from, last, pause))]
    return subprocess.Popen(command, text=True, **kwargs)


def told(process, timeout=300):
    """Output of a process, which must exit with 0."""
    output = process.communicate(timeout=timeout)[0]
    assert process.returncode == 0, output
    return output


def test_a_run_logs_its_id_config_metrics_and_summary_and_nothing_else(tmp_path):
    logger = open_wandb(WandbConfig(), tmp_path, IDENTITY)
    logger.log(0, {"val/loss": 2.5})
    logger.log(3, {"train/loss": float("inf"), "optim/lr": 0.1})
    logger.log(3, {"val/loss": float("nan")})
    logger.finish(3, {"status": "failed", "best": {"value": 2.0, "step": 0}})
    run = read_run(tmp_path)
    assert (run.id, run.name, run.project, run.job_type) == ("id1", "jax-cnn", "tandem", "jax")
    assert run.group == "mysweep backend=jax"
    assert run.tags == ["jax", "cnn", "digits", "mysweep", "mine"]
    assert run.config == flatten_config(CONFIG) | {"sweep_name": "mysweep"}
    assert run.metrics == [
        {"step": 0, "val/loss": 2.5},
        {
            "step": 3,
            "train/loss": math.inf,
            "optim/lr": 0.1,
            "val/loss": pytest.approx(math.nan, nan_ok=True),
        },
    ]
    own = {key for row in run.rows for key in row if key.startswith("_")}
    assert own == {"_step", "_timestamp", "_runtime"}
    assert run.exit_code == 3
    assert run.summary["status"] == "failed"
    assert run.summary["best.value"] == 2.0
    assert len(run.files) == 1
    assert run.files[0].is_relative_to(tmp_path / "wandb")


@pytest.mark.slow
def test_system_metrics_are_sampled_from_the_start(tmp_path):
    logger = open_wandb(WandbConfig(), tmp_path, IDENTITY)
    time.sleep(6)  # W&B takes a sample at the start, then one every five seconds
    logger.finish(0, {})
    first, *later = read_run(tmp_path).stats
    assert 0 < first["memory_percent"] < 100
    assert first["proc.memory.rssMB"] > 10
    assert 0 <= later[-1]["cpu"] <= 100  # of the time since the sample before


def test_an_error_at_the_end_is_reported_in_one_line_and_does_not_fail_the_run(tmp_path, capsys):
    def broken(run, step, summary):
        raise OSError("disk full\nand more")

    logger = open_wandb(WandbConfig(), tmp_path, IDENTITY)
    logger._keep = [broken]
    logger.log(1, {"a": 1.0})
    logger.finish(0, {"status": "completed"})
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "W&B did not take all that the run leaves behind: disk full"
    run = read_run(tmp_path)
    assert (run.summary["status"], run.exit_code) == ("completed", 0)


def test_the_config_is_flat_with_groups_by_option_name():
    assert flatten_config(CONFIG) == {
        "backend": "jax",
        "model": "cnn",
        "model.channels": [6, 16],
        "model.input_size": None,
        "dataset": "digits",
        "optimizer": "sgd",
        "optimizer.lr": 0.1,
        "logger.wandb.project": "tandem",
        "logger.csv": None,
        "train.steps": 4,
        "name": "mysweep",
        "seed": 1,
        "tags": ["mine"],
    }


def test_two_runs_in_one_process_are_separate_even_if_the_first_never_finished(tmp_path):
    for job in ("one", "two"):
        logger = open_wandb(WandbConfig(), tmp_path / job, RunLabels(None, job, job))
        logger.log(1, {job: 1.0})
    logger.finish(0, {})
    for job in ("one", "two"):
        run = read_run(tmp_path / job)
        assert (run.id, run.metrics) == (job, [{"step": 1, job: 1.0}])


def test_pictures_and_tables_go_with_the_metrics_of_their_step(tmp_path):
    logger = open_wandb(WandbConfig(), tmp_path, IDENTITY)
    logger.log(1, {"a": 1.0})
    logger.log_image(1, "seen/first", np.zeros((2, 3, 1), np.uint8))
    logger.log_table(1, "table", ["name", "value"], [("x", 1.5)])
    logger.log(2, {"a": 2.0})
    logger.log_image(1, "late", np.zeros((2, 3, 1), np.uint8))
    logger.finish(0, {})
    rows = read_run(tmp_path).metrics
    assert [row["step"] for row in rows] == [1, 2]
    assert {key.partition(".")[0] for key in rows[0]} == {"step", "a", "seen/first", "table"}
    assert rows[0]["seen/first.width"] == 3
    kept = {path.suffixes[-1] for path in tmp_path.rglob("media/**/*.*")}
    assert kept == {".png", ".json"}


def test_rows_that_wandb_already_has_are_not_logged_again(tmp_path, capfd):
    run = wandb.init(
        mode="offline", dir=str(tmp_path), settings=wandb.Settings(console="off", quiet=True)
    )
    logger = WandbLogger(run, tmp_path)
    for step in (0, 1, 2, 1, 2, 3):  # a checkpoint was gone on from within the process
        logger.log(step, {"a": float(step)})
    logger.finish(0, {})
    assert read_run(tmp_path).metrics == [{"step": step, "a": float(step)} for step in range(4)]
    printed = capfd.readouterr().err
    assert "Run data is saved locally" in printed  # it does print, and so it would warn
    assert "less than the current step" not in printed


def test_the_wandb_agent_sets_the_run_id(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "agents-run")
    open_wandb(WandbConfig(), tmp_path, IDENTITY).finish(0, {})
    assert read_run(tmp_path).id == "agents-run"
    assert "Ignoring" not in caplog.text


@pytest.mark.parametrize("asked", ["offline", "dryrun"])
def test_wandb_mode_is_honoured(tmp_path, monkeypatch, caplog, asked):
    monkeypatch.setenv("WANDB_MODE", asked)
    with caplog.at_level("INFO"):
        open_wandb(WandbConfig(), tmp_path, IDENTITY).finish(0, {})
    assert "W&B is offline (WANDB_MODE)" in caplog.text
    assert read_run(tmp_path).id == "id1"


def test_wandb_mode_disabled_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = open_wandb(WandbConfig(), tmp_path, IDENTITY)
    logger.log(1, {"a": 1.0})
    logger.finish(0, {"best": 1.0})
    assert not list(tmp_path.rglob("*.wandb"))


@pytest.mark.parametrize("asked", ["online", "onlin"])
def test_an_unknown_or_unavailable_wandb_mode_is_refused(tmp_path, monkeypatch, asked):
    monkeypatch.setenv("WANDB_MODE", asked)
    with pytest.raises(UserError, match=f"WANDB_MODE={asked}: (must be|nobody is logged in)"):
        open_wandb(WandbConfig(), tmp_path, IDENTITY)


def test_without_an_account_one_line_says_how_to_upload_and_nothing_is_asked(tmp_path):
    ours, theirs = pty.openpty()  # a terminal, where a prompt would be possible
    process = train(tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
    assert process.wait(timeout=300) == 0
    os.close(theirs)
    output = b""
    while True:
        try:
            output += os.read(ours, 65536)
        except OSError:  # the terminal is gone
            break
    lines = output.decode().splitlines()
    directory = os.path.relpath(read_run(tmp_path).files[0].parent)
    assert lines[0] == (
        f"W&B is offline (nobody is logged in). To upload the run: wandb sync {directory}"
    )
    assert lines[1:] == [f"step {step}" for step in range(4)]


@pytest.mark.slow
def test_without_a_network_a_logged_in_run_continues_offline(tmp_path):
    environment = os.environ | {
        "WANDB_API_KEY": "x" * 40,
        "WANDB_BASE_URL": "http://127.0.0.1:9",  # nobody listens there
        "WANDB_INIT_TIMEOUT": "2",
    }
    start = time.monotonic()
    output = told(
        train(tmp_path, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    )
    assert time.monotonic() - start < 80  # W&B alone waits for 90
    assert "W&B is offline (the server gave no run: " in output
    assert "To upload the run: wandb sync" in output
    assert read_run(tmp_path).metrics == read_metrics_merged(tmp_path)


def test_a_login_selects_online_even_if_a_failed_job_left_its_run_open(tmp_path):
    code = (
        "import wandb\n"
        "from pipeline.loggers.wandb.start import choose_mode\n"
        f"wandb.init(mode='offline', dir={str(tmp_path)!r}, settings={{'silent': True}})\n"
        "print(choose_mode())\n"
    )
    environment = os.environ | {
        "WANDB_API_KEY": "x" * 40,
        "WANDB_BASE_URL": "http://127.0.0.1:9",
    }
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert output.stdout == "('online', 'logged in')\n"


def test_after_a_kill_and_a_resume_wandb_has_every_row_once(tmp_path):
    process = train(tmp_path, last=1000, pause=0.02, stdout=subprocess.PIPE)
    for line in process.stdout:
        if line == "step 60\n":
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    # As if the newest checkpoint were this new: W&B's own file has not got its row.
    newest = read_metrics(tmp_path / "metrics.jsonl")[-1]["step"]
    told(train(tmp_path, newest, newest + 10, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    run = read_run(tmp_path)
    assert len(run.files) == 2
    assert run.metrics == read_metrics_merged(tmp_path)
    assert [row["step"] for row in run.metrics] == list(range(newest + 10))
    assert run.exit_code == 0


def test_the_reader_of_offline_files_stops_at_a_truncated_record(tmp_path):
    logger = open_wandb(WandbConfig(), tmp_path, IDENTITY)
    for step in range(600):  # several blocks of 32 KiB
        logger.log(step, {f"key{number}": step / 3 for number in range(6)})
    logger.finish(0, {})
    (path,) = read_run(tmp_path).files
    whole = path.read_bytes()
    assert len(whole) > 3 * 32 * 1024
    everything = [record.SerializeToString() for record in records(path)]
    assert len(read_run(tmp_path).metrics) == 600
    for cut in (1, 5, 100, 40_000):
        path.write_bytes(whole[:-cut])
        part = [record.SerializeToString() for record in records(path)]
        assert part == everything[: len(part)]
        assert 0 < len(part) < len(everything)


def read_metrics_merged(folder: Path):
    """Rows of metrics.jsonl, one per step, as W&B shows them."""
    rows = {}
    for row in read_metrics(folder / "metrics.jsonl"):
        rows.setdefault(row["step"], {}).update(json.loads(json.dumps(row)))
    return list(rows.values())
