"""The CSV table and TensorBoard's event files, read with their usual readers."""

import csv
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from asserts import assert_identical
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.loggers.csv import CsvLogger
from pipeline.loggers.tensorboard import TensorboardLogger

values = st.dictionaries(st.sampled_from(["a", "b", "c,d", 'e"f']), st.floats(), min_size=1)
events = st.lists(st.tuples(st.integers(0, 6), values), max_size=10).map(
    lambda events: sorted(events, key=lambda event: event[0])
)


def table(path):
    """Rows by step, with cells as floats and without empty cells."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["step"] for row in rows}) == len(rows), "a step has two rows"
    return {
        int(row.pop("step")): {key: float(cell) for key, cell in row.items() if cell}
        for row in rows
    }


def merged(events):
    rows = {}
    for step, values in events:
        rows.setdefault(step, {}).update(values)
    return rows


@given(events)
def test_csv_has_one_row_per_step_and_a_column_for_every_key(events):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.csv")
        logger = CsvLogger(path)
        for event in events:
            logger.log(*event)
            # At every moment, so that a kill loses nothing.
        assert_identical(table(path), merged(events))


@given(events, st.integers(-1, 7), events)
def test_csv_continues_after_a_rewind(before, step, after):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.csv")
        logger = CsvLogger(path)
        for event in before:
            logger.log(*event)
        logger.finish(0, {})
        logger = CsvLogger(path)
        logger.rewind(step)
        kept = [event for event in before if event[0] <= step]
        later = [(step + 1 + moved, values) for moved, values in after]
        for event in later:
            logger.log(*event)
        assert_identical(table(path), merged(kept + later))


def test_a_truncated_csv_row_is_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n1,1.0,2.0\n2,3")
    CsvLogger(path).log(2, {"a": 4.0})
    assert table(path) == {1: {"a": 1.0, "b": 2.0}, 2: {"a": 4.0}}


def test_a_restarted_csv_drops_the_old_columns(tmp_path):
    path = tmp_path / "metrics.csv"
    CsvLogger(path).log(1, {"old": 1.0})
    logger = CsvLogger(path)
    logger.rewind(-1)
    logger.log(0, {"new": 2.0})
    assert path.read_text() == "step,new\n0,2.0\n"


def scalars(folder):
    """Scalars that TensorBoard shows: {key: {step: value}}."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder)).Reload()
    return {
        key: {event.step: event.value for event in accumulator.Scalars(key)}
        for key in accumulator.Tags()["scalars"]
    }


def test_tensorboard_shows_what_was_logged(tmp_path):
    logger = TensorboardLogger(tmp_path)
    logger.log(0, {"val/loss": 2.0})
    logger.log(1, {"train/loss": 0.5})
    logger.log(1, {"val/loss": float("inf")})
    # Not finished: as after a kill.
    assert scalars(tmp_path) == {
        "val/loss": {0: 2.0, 1: float("inf")},
        "train/loss": {1: 0.5},
    }


def test_tensorboard_shows_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorboardLogger(tmp_path)
    logger.log_image(3, "a", np.full((2, 5, 1), 7, np.uint8))
    [event] = EventAccumulator(str(tmp_path)).Reload().Images("a")
    assert (event.step, event.height, event.width) == (3, 2, 5)
    shown = Image.open(io.BytesIO(event.encoded_image_string))
    assert (np.asarray(shown) == 7).all()


@pytest.mark.parametrize("killed", [False, True])
def test_tensorboard_drops_events_after_the_checkpoint(tmp_path, killed):
    first = TensorboardLogger(tmp_path)
    first.rewind(-1)
    for step in range(6):
        first.log(step, {"loss": 10.0 + step})
    if not killed:
        first.finish(0, {})
    time.sleep(1.1)  # event files are ordered by the second in which they were begun
    second = TensorboardLogger(tmp_path)
    second.rewind(3)
    second.log(4, {"loss": 4.0})
    second.finish(0, {})
    assert scalars(tmp_path) == {"loss": {0: 10.0, 1: 11.0, 2: 12.0, 3: 13.0, 4: 4.0}}


def test_tensorboard_is_written_without_loading_a_framework(tmp_path):
    fake = tmp_path / "tensorflow.py"
    fake.write_text("raise RuntimeError('tensorflow was loaded')")
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline.loggers.tensorboard import TensorboardLogger\n"
        "assert 'tensorboard' not in sys.modules\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"logger = TensorboardLogger(Path({str(tmp_path)!r}, 'events'))\n"
        "logger.log(1, {'a': 1.0}); logger.finish(0, {})\n"
        "assert not {'torch', 'jax', 'lightning', 'flax', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
