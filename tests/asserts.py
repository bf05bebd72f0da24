"""Assertions that compare metrics, predictions, states and arrays of runs, and the growth of work."""

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import pipeline
from pipeline.digest import digest
from pipeline.storage.portable_state import PortableState
from pipeline.storage.predictions import Predictions

Rows = Sequence[Mapping[str, Any]]
TraceFunction = Callable[[FrameType, str, Any], Any]


def without_perf(rows: Rows) -> list[dict[str, Any]]:
    """Rows of metrics without `perf/` keys, which are time and memory."""
    return [
        {key: value for key, value in row.items() if not key.startswith("perf/")} for row in rows
    ]


def assert_rows_close(found: Rows, expected: Rows, rtol: float = 1e-10, atol: float = 0.0) -> None:
    """Assert equal keys and steps, and values within `rtol` or `atol`, `perf/` keys excepted."""
    assert [list(row) for row in found] == [list(row) for row in expected]
    for row, wanted in zip(without_perf(found), without_perf(expected), strict=True):
        for key in row:
            gap = abs(row[key] - wanted[key])
            allowed = max(rtol * abs(wanted[key]), atol)
            assert gap <= allowed, f"{key} at step {wanted['step']}: {gap:.1e} > {allowed:.1e}"


def assert_predictions_close(
    found: Predictions, expected: Predictions, rtol: float = 1e-10
) -> None:
    """Assert equal predictions of each sample, with losses and confidences within `rtol`."""
    for name in ("target", "predicted", "worst", "worst_images"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("loss", "confidence"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=rtol)


def gap(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference relative to the largest expected magnitude, or absolute if all are 0."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1))


def assert_arrays_close(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float = 1e-12
) -> None:
    """Assert equal names, and arrays whose `gap` is at most `tolerance`."""
    assert found.keys() == expected.keys()
    gaps = {name: gap(found[name], expected[name]) for name in expected}
    assert {name: gap for name, gap in gaps.items() if not gap <= tolerance} == {}


def assert_gradients_close(
    found: tuple[np.ndarray, list[np.ndarray]], expected: tuple[np.ndarray, list[np.ndarray]]
) -> None:
    """Assert that a value and its gradients are equal to 1e-12."""
    (value, gradients), (wanted, by) = found, expected
    np.testing.assert_allclose(value, wanted, rtol=1e-12, atol=1e-14)
    for gradient, other in zip(gradients, by, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-12, atol=1e-13)


def parts_of(state: PortableState) -> dict[str, dict[str, np.ndarray]]:
    """Parameters, buffers, averages and each optimizer slot of a portable state, by name."""
    return {
        "parameters": state.parameters,
        "buffers": state.buffers,
        "averages": state.averages,
        **state.slots,
    }


def assert_states_identical(found: PortableState, expected: PortableState) -> None:
    """Assert that two portable states are equal bit for bit."""
    assert found.step == expected.step
    digests, wanted = (
        {part: digest(arrays) for part, arrays in parts_of(state).items()}
        for state in (found, expected)
    )
    assert digests == wanted


def assert_states_close(found: PortableState, expected: PortableState) -> None:
    """Assert that two portable states are equal to 1e-12."""
    assert found.step == expected.step
    ours, theirs = parts_of(found), parts_of(expected)
    assert ours.keys() == theirs.keys()
    for part, arrays in theirs.items():
        assert ours[part].keys() == arrays.keys(), part
        for name in arrays:
            # Muon's Newton-Schulz steps multiply what is rounded.
            np.testing.assert_allclose(
                ours[part][name], arrays[name], rtol=1e-12, atol=1e-13, err_msg=f"{part} {name}"
            )


def assert_identical(found: Any, expected: Any, path: str = "") -> None:
    """Assert that nested containers, arrays and numbers are equal bit for bit; NaN equals NaN."""
    kinds = {type(found), type(expected)}
    assert len(kinds) == 1 or kinds == {dict, OrderedDict}, path
    if isinstance(found, dict):
        assert found.keys() == expected.keys(), path
        for key in found:
            assert_identical(found[key], expected[key], f"{path}/{key}")
    elif isinstance(found, list | tuple):
        assert len(found) == len(expected), path
        for place, pair in enumerate(zip(found, expected, strict=True)):
            assert_identical(*pair, f"{path}/{place}")
    elif hasattr(found, "shape"):
        found, expected = np.asarray(found), np.asarray(expected)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), path
        assert found.tobytes() == expected.tobytes(), path
    elif isinstance(found, float):
        assert repr(found) == repr(expected), path
    else:
        assert found == expected, path


def assert_work_is_linear(work: Callable[[int], object], count: int) -> None:
    """Assert that the work of a call grows linearly with its argument, from `count` on.

    Work is counted in executed lines of `pipeline/`, each time that a loop comes by; from 2·`count` to
    4·`count` there may be twice as many more as from `count` to 2·`count`, and a tenth.
    """
    first, second, third = (lines_executed(partial(work, count * n)) for n in (1, 2, 4))
    growth = (third - second) / (second - first)
    assert growth < 2.2, f"{first:,}, {second:,}, {third:,} lines: {growth:.2f} times as many more"


def lines_executed(work: Callable[[], object]) -> int:
    """Count the lines of `pipeline/` that a call executes in this thread."""
    package = str(Path(pipeline.__file__).parent)
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        nonlocal count
        del argument
        count += event == "line"
        return trace if frame.f_code.co_filename.startswith(package) else None

    earlier = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(earlier)
    return count
