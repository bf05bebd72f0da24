"""metrics.jsonl is exact, complete after a kill, and valid JSON for any reader."""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.loggers.metrics_file import MetricsFile, read_metrics

keys = st.text(min_size=1).filter(lambda key: key != "step")
events = st.lists(
    st.tuples(st.integers(0, 50), st.dictionaries(keys, st.floats(), max_size=4)), max_size=12
)


def write(path, events):
    file = MetricsFile(path)
    for step, values in events:
        file.log(step, values)
    file.finish(0, {})


def same(left, right):
    """Equal, with NaN equal to itself."""
    return repr(left) == repr(right)


def rows(events):
    return [{"step": step, **values} for step, values in events]


@given(events)
def test_logged_values_are_read_back_bit_for_bit(events):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.jsonl")
        write(path, events)
        assert same(read_metrics(path), rows(events))


@given(events, st.integers(-1, 51))
def test_rewinding_keeps_exactly_the_events_up_to_the_step(events, step):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.jsonl")
        write(path, events)
        file = MetricsFile(path)
        file.rewind(step)
        file.log(step + 1, {"after": 1.0})
        kept = [event for event in events if event[0] <= step]
        assert same(read_metrics(path), rows([*kept, (step + 1, {"after": 1.0})]))
        assert os.listdir(folder) == ["metrics.jsonl"]


@given(events, st.integers(1, 200))
def test_a_truncated_file_gives_the_events_before_the_cut(events, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.jsonl")
        write(path, events)
        whole = path.read_bytes()
        path.write_bytes(whole[:-cut])
        complete = whole[:-cut].count(b"\n")
        assert same(read_metrics(path), rows(events)[:complete])
        write(path, [(60, {"after": 1.0})])
        assert same(read_metrics(path), [*rows(events)[:complete], {"step": 60, "after": 1.0}])


def test_a_line_is_valid_json_without_nan(tmp_path):
    write(tmp_path / "m", [(3, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1})])

    def refuse(name):
        raise AssertionError(name)

    line = json.loads((tmp_path / "m").read_text(), parse_constant=refuse)
    assert line == {"step": 3, "a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 0.1}


def test_a_truncated_last_line_is_left_out_with_a_warning(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a')
    with caplog.at_level(logging.WARNING):
        assert read_metrics(path) == [{"step": 1, "a": 1.0}]
    assert "left out line 2" in caplog.text


@pytest.mark.parametrize(
    "line", ["not json", "[1]", "7", '{"a": 1.0}', '{"step": null}', '{"step": 1, "a": [1]}']
)
def test_a_complete_line_that_is_no_event_is_refused_with_its_line_number(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2=.*must be an event"):
        read_metrics(path)


def test_a_kill_loses_no_logged_line(tmp_path):
    code = """
import sys, pathlib
from pipeline.loggers.metrics_file import MetricsFile
file = MetricsFile(pathlib.Path(sys.argv[1]))
for step in range(10**9):
    file.log(step, {"a": step / 3})
    if step == 1000:
        print("logged", flush=True)
"""
    path = tmp_path / "metrics.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    read = read_metrics(path)
    assert len(read) > 1000
    assert read == [{"step": step, "a": step / 3} for step in range(len(read))]
