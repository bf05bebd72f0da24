"""The tracker: all loggers get all metrics; a resumed run's files equal an uninterrupted run's."""

import subprocess
import sys

import numpy as np
import pytest
from offline_wandb import read_run
from PIL import Image

from pipeline.config.experiment import Config
from pipeline.config.loggers import CsvConfig, LoggerConfig, TensorboardConfig, WandbConfig
from pipeline.loggers import Logger, RunLabels
from pipeline.loggers.metrics_file import MetricsFile, read_metrics
from pipeline.loggers.tracker import Tracker, open_tracker

IDENTITY = RunLabels(group=None, job="job", run_id="tracker1")


class Memory(Logger):
    """A logger that records its calls."""

    def __init__(self):
        self.heard = []

    def log(self, step, values):
        self.heard.append((step, dict(values)))

    def rewind(self, step):
        self.heard.append(("rewind", step))

    def finish(self, exit_code, summary):
        self.heard.append(("finish", exit_code, dict(summary)))


class Failing(Logger):
    """A logger that cannot be closed."""

    def finish(self, exit_code, summary):
        raise OSError("disk full")


def tracker(folder, *loggers):
    return Tracker(MetricsFile(folder / "metrics.jsonl"), loggers)


def test_all_loggers_get_all_metrics_in_order(tmp_path):
    one, other = Memory(), Memory()
    room = tracker(tmp_path, one, other)
    room.log(1, {"a": 1.0})
    room.log(1, {"b": 2.0})
    room.rewind(0)
    room.finish(3, {"best": 1})
    expected = [(1, {"a": 1.0}), (1, {"b": 2.0}), ("rewind", 0), ("finish", 3, {"best": 1})]
    assert one.heard == other.heard == expected


def test_the_last_value_of_each_key_is_kept_and_rewound(tmp_path):
    room = tracker(tmp_path)
    room.log(1, {"a": 1.0, "b": 2.0})
    room.log(2, {"a": 3.0})
    room.log(3, {"c": 4.0})
    assert room.last == {"a": 3.0, "b": 2.0, "c": 4.0}
    room.rewind(1)
    assert room.last == {"a": 1.0, "b": 2.0}
    assert tracker(tmp_path).last == {"a": 1.0, "b": 2.0}


def test_numpy_scalars_become_plain_numbers(tmp_path):
    room = tracker(tmp_path)
    room.log(np.int64(1).item(), {"a": np.float32(0.5), "b": np.array(2), "epoch": 3})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "a": 0.5, "b": 2.0, "epoch": 3}]
    assert all(type(value) is float for value in room.last.values())


def test_a_decreasing_step_is_refused_unless_rewound(tmp_path):
    room = tracker(tmp_path)
    room.log(5, {"a": 1.0})
    with pytest.raises(ValueError, match="step 4 after step 5"):
        room.log(4, {"a": 1.0})
    room.rewind(3)
    room.log(4, {"a": 1.0})


def test_step_is_not_allowed_as_a_key(tmp_path):
    with pytest.raises(ValueError, match="'step' is reserved"):
        tracker(tmp_path).log(1, {"step": 1.0})


def test_a_logger_that_cannot_be_closed_does_not_keep_the_others_open(tmp_path):
    memory = Memory()
    room = tracker(tmp_path, Failing(), memory)
    with pytest.raises(OSError, match="disk full"):
        room.finish(0, {})
    assert memory.heard == [("finish", 0, {})]


def test_without_loggers_only_metrics_jsonl_is_written(tmp_path):
    room = open_tracker(Config(), tmp_path, IDENTITY, None)
    room.log(1, {"a": 1.0})
    room.finish(0, {})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_restarted_run_drops_the_metrics_of_an_earlier_attempt(tmp_path):
    config = Config(logger=LoggerConfig(csv=CsvConfig()))
    open_tracker(config, tmp_path, IDENTITY, None).log(0, {"old": 1.0})
    room = open_tracker(config, tmp_path, IDENTITY, None)
    assert room.last == {}
    room.log(0, {"new": 2.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 0, "new": 2.0}]
    assert (tmp_path / "metrics.csv").read_text() == "step,new\n0,2.0\n"


def test_the_files_of_a_resumed_run_equal_those_of_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = Config(
        logger=LoggerConfig(csv=CsvConfig(), tensorboard=TensorboardConfig(), wandb=WandbConfig())
    )

    def train(folder, first, last, resumed_from):
        room = open_tracker(config, folder, IDENTITY, resumed_from)
        for step in range(first, last):
            room.log(step, {"train/loss": 1 / (step + 1)})
            if step % 5 == 0:
                room.log(step, {"val/loss": 2 / (step + 1)})
        room.finish(0, {"steps": last})
        return room.last

    whole = train(tmp_path / "whole", 0, 20, None)
    train(tmp_path / "stopped", 0, 13, None)
    assert train(tmp_path / "stopped", 11, 20, 10) == whole
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (tmp_path / "stopped" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes()
    stopped, through = read_run(tmp_path / "stopped"), read_run(tmp_path / "whole")
    assert len(stopped.files) == 2
    assert stopped.metrics == through.metrics
    assert len(stopped.metrics) == 20
    assert (tmp_path / "stopped" / "tensorboard").is_dir()


def test_importing_the_tracker_loads_no_framework_and_no_logger_library():
    code = (
        "import sys, pipeline.loggers.tracker, pipeline.loggers.progress\n"
        "heavy = {'torch', 'jax', 'lightning', 'flax', 'tensorflow', 'wandb', 'tensorboard'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pictures_and_tables_are_files_that_a_resumed_run_makes_anew(tmp_path):
    def opened(step):
        return open_tracker(Config(logger=LoggerConfig()), tmp_path, IDENTITY, step)

    first = opened(None)
    for step in (1, 1_234_567):
        first.log_image(step, "a/gray", np.linspace(0, 1, 6).reshape(2, 3))
        first.log_image(step, "rgb", np.full((4, 5, 3), step % 256, np.uint8))
        first.log_table(step, "t", ["name", "value"], [("x, y", 1.5), ("z", step)])
    first.finish(0, {})
    media = tmp_path / "media"
    assert (media / "t-1234567.csv").read_text() == 'name,value\n"x, y",1.5\nz,1234567\n'
    gray, colours = (Image.open(media / name) for name in ("a/gray-000001.png", "rgb-000001.png"))
    assert np.asarray(gray).tolist() == [[0, 51, 102], [153, 204, 255]]
    assert (np.asarray(colours) == 1).all()
    assert np.asarray(colours).shape == (4, 5, 3)
    opened(7).finish(0, {})
    names = sorted(str(path.relative_to(media)) for path in media.rglob("*.*"))
    assert names == ["a/gray-000001.png", "rgb-000001.png", "t-000001.csv"]
    opened(None).finish(0, {})
    assert not list(media.rglob("*.*"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("log_image", 4, "a", np.zeros((2, 2))), "step 4 after step 5"),
        (("log_image", 5, "../a", np.zeros((2, 2))), r"the key '../a' must be letters"),
        (("log_image", 5, "a", np.zeros((2, 2, 2))), r"\[height, width.*, not \[2, 2, 2\]"),
        (
            ("log_image", 5, "a", np.full((2, 2), 3.0)),
            r"numbers in \[0, 1\]; these are in \[3, 3\]",
        ),
        (("log_image", 5, "a", np.full((2, 2), np.nan)), r"these are in \[nan, nan\]"),
        (("log_table", 5, "a", ["one"], [(1, 2)]), "a row has 2 values, and there are 1 columns"),
    ],
)
def test_what_is_no_picture_or_table_is_refused(tmp_path, call, message):
    room = tracker(tmp_path)
    room.log(5, {"a": 1.0})
    with pytest.raises(ValueError, match=message):
        getattr(room, call[0])(*call[1:])
