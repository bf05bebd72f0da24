"""docs/differences.md says what is measured; a page that says something else is found out."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.differences.check import ROWS, check, main, measure_all
from benchmarks.differences.families import FAMILIES
from benchmarks.differences.measure import difference, is_same, measure
from benchmarks.differences.namespaces import float64
from benchmarks.differences.page import ANCHOR
from benchmarks.differences.row import Code

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "differences.md"
# Rows that are measured every day: one of each way to run code.
EVERYDAY = [
    "gelu-approximation", "softplus-threshold", "abs-gradient", "index-out-of-range",
    "conv-same-stride", "max-pool-stride", "layer-norm-epsilon", "layer-norm-fast-variance",
    "batch-norm-momentum", "attention-layer", "resize-nearest", "mse-half", "adamw-weight-decay",
    "clip-norm", "ema-start", "schedule-warmup", "schedule-plateau", "kaiming-normal",
]  # fmt: skip


@pytest.fixture(scope="module")
def families():
    """Fresh measurements of the everyday rows."""
    return measure_all(EVERYDAY)


@pytest.fixture
def falsified(families, tmp_path):
    """A function that writes the page with one thing replaced, and returns what the check says."""

    def checked(before: str, after: str) -> list[str]:
        text = PAGE.read_text()
        assert before in text
        page = tmp_path / "page.md"
        page.write_text(text.replace(before, after, 1))
        return [str(change) for change in check(page, families, EVERYDAY)]

    return checked


def test_the_page_has_each_row_once_in_its_family_under_a_stable_anchor():
    keys = [row.key for rows in FAMILIES.values() for row in rows]
    assert len(keys) == len(set(keys)) >= 200
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) for key in keys)
    lines = PAGE.read_text().splitlines()
    assert [match[1] for line in lines if (match := ANCHOR.match(line))] == keys
    assert [line[3:] for line in lines if line.startswith("## ")] == list(FAMILIES)


def test_the_page_says_what_is_measured_in_one_row_of_each_kind(families):
    assert [str(change) for change in check(PAGE, families, EVERYDAY)] == []


def test_what_is_said_to_close_a_difference_closes_it(families):
    closed = [
        (row.key, framework, is_same(row, cell.closed))
        for family in families.values()
        for row, cells in family.items()
        for framework, cell in cells.items()
        if cell.closing
    ]
    assert len(closed) >= 20
    assert [case for case in closed if not case[2]] == []


def test_another_order_of_magnitude_is_found(falsified):
    (change,) = falsified("**8.6e-4**<br>`approximate=False`", "**8.6e-3**<br>`approximate=False`")
    assert change == (
        "gelu-approximation: linen: the page says `linen.gelu(x)`<br>**8.6e-3**<br>"
        "`approximate=False` → 4e-16, measured: `linen.gelu(x)`<br>**8.6e-4**<br>"
        "`approximate=False` → 4e-16"
    )


def test_another_digit_of_a_difference_and_all_of_rounding_are_free(falsified):
    assert (
        falsified(
            "**8.6e-4**<br>`approximate=False` → 4e-16", "**6e-4**<br>`approximate=False` → 0"
        )
        == []
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("**8.6e-4**<br>`approximate=False` → 4e-16", "4e-16"),  # no longer a difference
        ("→ 4e-16", "→ **8.6e-4**"),  # closed no longer
        ("`approximate=False`", "`approximate=True`"),  # other code
        ("GELU: exact or tanh", "GELU: exact"),  # another title
    ],
)
def test_another_verdict_code_or_title_is_found(falsified, before, after):
    (change,) = falsified(before, after)
    assert change.startswith("gelu-approximation: ")


def test_a_row_that_is_missing_on_the_page_is_found(falsified):
    assert falsified('<a id="mse-half">', '<a id="mse">') == ["mse-half: is not on the page"]


def test_a_default_that_changes_in_a_library_is_found(families):
    """As if linen's LayerNorm had torch's epsilon from now on."""
    row = ROWS["layer-norm-epsilon"]
    with float64():
        cells = measure(replace(row, linen="linen.LayerNorm(epsilon=1e-5)"))
    assert (cells["linen"].closing, is_same(row, cells["linen"].default)) == ("", True)
    changed = {"Norms": {row: {**families["Norms"][row], "linen": cells["linen"]}}}
    (change,) = check(PAGE, changed, [row.key])
    assert "linen: the page says `linen.LayerNorm()`<br>**0.47**" in str(change)


def test_the_command_exits_with_1_and_the_rows_that_have_changed(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text().replace("optax.l2_loss", "optax.squared_error"))
    assert main(page, True, ["mse-half"]) == 1
    assert "mse-half: optax: the page says `optax.squared_error(x, y)" in capsys.readouterr().out
    assert main(PAGE, True, ["mse-half"]) == 0
    assert capsys.readouterr().out == f"{PAGE} says what is measured\n"
    assert main(PAGE, True, ["mse-half", "mse"]) == 1
    assert capsys.readouterr().err.endswith("no such row: mse\n")


def test_a_closing_replaces_arguments_or_the_whole_code():
    code = Code("linen", "linen.Conv(6, (4, 4), padding='SAME')")
    assert code.closed("padding=1").text == "linen.Conv(6, (4, 4), padding=1)"
    assert code.closed("strides=2").text == "linen.Conv(6, (4, 4), padding='SAME', strides=2)"
    assert code.closed("jnp.where(x > 0, x, 0)").text == "jnp.where(x > 0, x, 0)"


def test_a_difference_is_relative_to_the_larger_root_mean_square():
    ours = np.array([3.0, 4.0])
    assert difference(ours, ours) == 0
    assert difference(ours, np.array([3.0, 5.0])) == pytest.approx(1 / np.sqrt((9 + 25) / 2))
    assert difference(np.zeros(2), np.array([1e-9, 0])) == pytest.approx(np.sqrt(2))
    assert difference(ours, ours[:1]) == "another shape"
    assert difference(ours, np.array([3.0, np.nan])) == "NaN here"
    assert difference(np.array([3.0, np.inf]), ours) == "infinite in torch"


@pytest.mark.slow
def test_the_page_says_what_is_measured_in_every_row():
    """In a process of its own: its programs compile faster with other settings of XLA's."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.differences", "--check"],
        capture_output=True, text=True, timeout=600, check=False, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{PAGE} says what is measured\n"), done.stderr
