"""Benchmarks: pages that several commands write, each its own section; and one that needs no idle machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.sections import replace_section, write_section

PAGE = """# Measured

Intro.

## Mutants

old

### Part

old

## Pairs

kept
"""


def test_a_section_is_replaced_with_its_parts_and_the_others_stay():
    new = replace_section(PAGE, "## Mutants", "\nnew | table\n")
    assert new == PAGE.replace("old\n\n### Part\n\nold", "new | table")


def test_the_last_section_ends_with_the_page():
    assert replace_section(PAGE, "## Pairs", "new").endswith("## Pairs\n\nnew\n")


def test_a_new_section_is_appended():
    assert replace_section(PAGE, "## Rewrites", "new") == f"{PAGE}\n## Rewrites\n\nnew\n"


@pytest.mark.parametrize("heading", ["## Mutants", "## Pairs", "## Rewrites"])
def test_the_same_text_again_changes_nothing(heading):
    once = replace_section(PAGE, heading, "new")
    assert replace_section(once, heading, "new") == once


def test_a_comment_in_a_block_of_code_is_no_heading():
    page = "# T\n\n## A\n\n```\n## B\n```\n\n## C\n\nc\n"
    assert replace_section(page, "## A", "a") == "# T\n\n## A\n\na\n\n## C\n\nc\n"
    assert replace_section(page, "## B", "b") == f"{page}\n## B\n\nb\n"


def test_a_page_that_does_not_exist_is_made_with_its_title(tmp_path):
    file = tmp_path / "verify.md"
    write_section(file, "Measured", "## B", "b")
    write_section(file, "Measured", "## A", "a")
    assert file.read_text() == "# Measured\n\n## B\n\nb\n\n## A\n\na\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("folder.py --rounds=1 --batches=1 --images=100 --size=32", "| DataLoader |"),
        ("folder.py --files=90", "first batch of 90 files, found again"),
        ("vectorize.py --rounds=1 --jobs=2 --models=linear train.steps=9", "| jax | linear |"),
        (
            "overhead.py --case=gpt,digits --rounds=1 --steps=2 --backend=jax",
            "the step of `make run`: jax |",
        ),
    ],
)
def test_a_benchmark_that_compares_two_sides_ends_in_its_table(arguments, says):
    root = Path(__file__).resolve().parent.parent
    file, *options = arguments.split()
    command = [sys.executable, f"benchmarks/{file}", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_make_gpu_says_that_there_is_no_gpu(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(gpu, "PAGE", Path("never written"))
    assert gpu.main() == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [gpu.ABSENT]
    assert "no GPU that CUDA shows" in said.err
    assert said.out == ""


def test_make_gpu_skips_by_name_what_needs_more_gpus_and_reports_what_failed():
    section = gpu.checks(1)["speed"]
    two = next(check for check in section if check.gpus == 2)
    skipped = gpu.outcome_of(two, 1)
    failing = gpu.Check("fails", (sys.executable, "-c", "print('a | b'); raise SystemExit(1)"))
    assert gpu.table_of([skipped, gpu.outcome_of(failing, 1)]).splitlines()[2:] == [
        "| loops by hand on two GPUs | skipped | needs 2 GPUs, and there is 1 |",
        "| fails | failed | a / b |",
    ]
    one = {
        "backend": "jax",
        "batch": 8,
        "train": [0.1],
        "memory_mb": 5,
        "samples_per_second": [80.0],
    }
    found = gpu.Outcome(gpu.Check("resnet18", ()), "passed", "", {"measured": [one]})
    # 0.56 GFLOP of products on 32×32, twice for multiply and add, three times for the backward pass.
    table = gpu.speed_of([found], "NVIDIA H200")
    assert "of NVIDIA H200's 989" in table
    assert "| resnet18 | jax | 8 | 80 | 0 | 0 % | 5 |" in table
    assert gpu.operations(gpu.MODELS["resnet18"]) == pytest.approx(2 * 3 * 0.56e9, rel=0.02)


@pytest.mark.parametrize("overrides", [*gpu.MODELS.values(), *gpu.PARITY.values()], ids=" ".join)
def test_the_experiments_of_make_gpu_compose(configure, overrides):
    assert configure(" ".join(overrides)).train.epochs
