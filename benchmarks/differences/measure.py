"""Measured differences of a row, framework by framework."""

import warnings
from dataclasses import dataclass

import numpy as np

from benchmarks.differences.namespaces import HAS_EQUINOX
from benchmarks.differences.row import Case, Code, Row

Measured = float | str  # a relative difference, or why there is none
TORCH = "torch: "  # before a closing on torch's side


@dataclass(frozen=True)
class Cell:
    """A framework beside torch: the difference of the defaults, and the closed one if something closes it."""

    code: str
    default: Measured
    closing: str = ""
    closed: Measured = ""


def measure(row: Row) -> dict[str, Cell]:
    """Measure all frameworks of a row; one that is not installed is left out."""
    known = {name: code for name, code in row.others.items() if name != "equinox" or HAS_EQUINOX}
    with warnings.catch_warnings(action="ignore"):  # of the defaults that are measured here
        return {name: _cell(row, name, code) for name, code in known.items()}


def is_same(row: Row, measured: Measured) -> bool:
    """Tell if a difference is rounding alone."""
    return isinstance(measured, float) and measured <= row.same


def difference(ours: np.ndarray, theirs: np.ndarray) -> Measured:
    """Largest difference of two numbers, relative to the larger root mean square of the two results."""
    if ours.shape != theirs.shape:
        return "another shape"
    if (np.isfinite(ours) != np.isfinite(theirs)).any():
        wrong = "NaN" if np.isnan([*ours.ravel(), *theirs.ravel()]).any() else "infinite"
        return f"{wrong} {'in torch' if not np.isfinite(ours).all() else 'here'}"
    finite = np.isfinite(ours)
    ours, theirs = ours[finite].astype(float), theirs[finite].astype(float)
    scale = max(float(np.sqrt(np.mean(np.square(each)))) for each in (ours, theirs))
    worst = float(np.abs(ours - theirs).max())
    return worst / scale if worst else 0.0


def _cell(row: Row, framework: str, code: Code) -> Cell:
    ours = Code("torch", row.torch)
    default = _worst(row, ours, code)
    if is_same(row, default):
        return Cell(code.text, default)
    if closing := row.closing(framework):
        return Cell(code.text, default, closing, _worst(row, ours, code.closed(closing)))
    if closing := row.torch_closed:
        closed = _worst(row, ours.closed(closing), code)
        return Cell(code.text, default, f"{TORCH}{closing}", closed)
    return Cell(code.text, default)


def _worst(row: Row, ours: Code, theirs: Code) -> Measured:
    """The largest difference over all seeds, or the first that is no number."""
    found: list[Measured] = []
    for seed in row.seeds:
        random = np.random.default_rng(seed)
        inputs = {name: draw(random, seed) for name, draw in row.inputs.items()}
        case = Case(seed, inputs, ours)
        found.append(_compare(row, case, ours, theirs))
    words = [each for each in found if isinstance(each, str)]
    return words[0] if words else max(each for each in found if isinstance(each, float))


def _compare(row: Row, case: Case, ours: Code, theirs: Code) -> Measured:
    results = []
    for code in (ours, theirs):
        try:
            results.append(row.play(code, case))
        except Exception as error:
            if not row.refusals:
                raise RuntimeError(f"{row.key}: {code.framework}: {code.text}: {error}") from error
            where = "torch raises" if code is ours else "raises"
            return f"{where} {type(error).__name__}"
    return difference(*results)
