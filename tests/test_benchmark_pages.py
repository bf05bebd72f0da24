"""Benchmarks: pages that several commands write, each its own section; and one that needs no idle machine."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.cases import LARGE
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.checks import PARITY, TESTS, Check, cases_marked, checks
from benchmarks.gpu.page import answers_of, operations, speed_of, write_machine, write_outcomes
from benchmarks.gpu.schedule import Outcome, run_all
from benchmarks.scaling_probes.growth import HIGHEST, growth
from benchmarks.sections import replace_section, write_section

VERDICTS = {"does not grow", "linear or better", "worse than linear", "a cliff"}
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


def test_the_cost_of_growing_work_is_measured_and_judged_by_its_exponent(tmp_path):
    root, page = Path(__file__).resolve().parent.parent, tmp_path / "scaling.md"
    command = [sys.executable, "benchmarks/scaling.py", "--quick", f"--to={page}"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tables = page.read_text().partition("## ")[2].split("\n## ")
    assert [table.partition("\n")[0] for table in tables] == [
        "Samples without data",
        "Jobs of a new sweep",
    ]
    for table in tables:
        head, _, *sizes, exponents, verdicts = (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in table.splitlines()
            if line.startswith("|")
        )
        assert "CPU s" in head
        assert all(float(cell.replace(",", "")) > 0 for row in sizes for cell in row)
        assert all(0 <= float(cell) <= HIGHEST for cell in exponents[1:])
        assert set(verdicts[1:]) <= VERDICTS  # any of them on a busy machine


@pytest.mark.parametrize(
    ("cost", "exponent", "verdict"),
    [
        (lambda n: 3.0, 0, "does not grow"),
        (lambda n: 5 + 0.01 * n, 1, "linear or better"),
        (lambda n: 0.1 + 2 * n**0.5, 0.5, "linear or better"),
        (lambda n: 2 + 1e-5 * n**2, 2, "worse than linear"),
        (lambda n: 100 * n if n > 500 else n, None, "a cliff"),
    ],
)
def test_growth_is_judged_beyond_a_constant(cost, exponent, verdict):
    sizes = (10, 30, 100, 300, 1000, 3000)
    found = growth(sizes, [cost(size) for size in sizes])
    assert found.verdict == verdict
    assert exponent is None or found.exponent == pytest.approx(exponent, abs=0.01)


def test_make_gpu_says_that_there_is_no_gpu(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["gpu", "--page", str(tmp_path / "gpu.md")])
    assert gpu.main() == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [gpu.ABSENT]
    assert "no GPU that CUDA shows" in said.err
    assert said.out == ""
    assert not any(tmp_path.iterdir())


def command(code, name="check", **keys):
    return Check("checks", name, (sys.executable, "-c", code), **{"seconds": 60, **keys})


def test_make_gpu_goes_on_after_each_failure_and_lists_it_with_its_message(tmp_path):
    left_behind = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"
    asked = [
        command("print('E   assert 1 == 2'); print('last'); raise SystemExit(1)", "fails"),
        command("print('on'); import time; time.sleep(60)", "hangs", seconds=2),
        command("import os; os.kill(os.getpid(), 9)", "dies"),
        command(left_behind, "leaves"),
        command("", "needs two", gpus=2),
        command("print('a | b')", "alone", alone=True),
    ]
    outcomes = [*run_all(asked, gpus=1, minutes=1, cores=8)]
    outcomes.sort(key=lambda one: asked.index(one.check))
    page = tmp_path / "gpu.md"
    write_machine(page, 1, "cpu")
    write_outcomes(page, outcomes, "NVIDIA H200")
    assert "* cards: none: a rehearsal" in page.read_text()
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    left = outcomes[3].said
    assert [(row[0].strip("| "), row[1], row[3].strip(" |")) for row in rows[1:]] == [
        ("fails", "failed", "assert 1 == 2"),
        ("hangs", "failed", "not done after 2 s"),
        ("dies", "failed", "exit code -9"),
        ("leaves", "passed", left),
        ("needs two", "skipped", "needs 2 GPUs, and there is 1"),
        ("alone", "passed", "a / b"),
    ]
    assert "### fails\n\nassert 1 == 2\n\n```\npython -c" in page.read_text()
    assert not psutil.pid_exists(int(left)) or psutil.Process(int(left)).status() == "zombie"


def test_make_gpu_leaves_out_by_name_what_time_does_not_suffice_for():
    slow = [command("import time; time.sleep(60)", alone=alone) for alone in (False, False, True)]
    outcomes = [*run_all(slow, gpus=1, minutes=11 / 60, cores=1)]
    assert [(one.state, one.said) for one in outcomes] == [
        ("stopped", "the time of all checks was over after 11 of its 60 s"),
        *[("left out", "the time of all checks is over")] * 2,
    ]


def test_make_gpu_begins_with_the_most_valuable_and_names_every_test():
    asked = checks("gpu", 8)
    assert [check.section for check in asked] == sorted(check.section for check in asked)
    assert len({check.name for check in asked}) == len(asked)
    source = TESTS.read_text()
    named = {name for mark in ("gpu", "gpus") for name, _ in cases_marked(mark)}
    assert named == set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    expected = sum(len(cases) for mark in ("gpu", "gpus") for _, cases in cases_marked(mark))
    assert source.count("pytest.mark.parametrize") + len(named) == expected
    # Side by side on 16 cores, half of the limits suffices for what does not measure speed.
    assert sum(check.seconds for check in asked if not check.alone) / 8 / 2 < 5 * 60


def test_make_gpu_puts_the_speed_beside_the_peak_of_the_card():
    one = {
        "backend": "jax",
        "batch": 8,
        "train": [0.1],
        "memory_mb": 5,
        "samples_per_second": [80.0],
    }
    found = Outcome(
        Check("speed", "resnet18_large", (), 1), "passed", "", found={"measured": [one]}
    )
    # 0.56 GFLOP of products on 32×32, twice for multiply and add, three times for the backward pass.
    table = speed_of([found], "NVIDIA H200")
    assert "of NVIDIA H200's 989" in table
    assert "| resnet18_large | jax | 8 | 80 | 0 | 0 % | 5 |" in table
    told = answers_of([replace(found, found={"sentences": ["bf16: jax trains twice as fast."]})])
    assert "* resnet18_large, of 32×32×3: bf16: jax trains twice as fast.\n" in told
    assert "`python -m pipeline.bench accelerator=gpu model=NAME" in told
    # 12 blocks of width 768: 85 million weights, and the scores of 1,024 tokens.
    gpt2 = 2 * 3 * (85e6 * 1024 + 12 * 2 * 768 * 1024**2)
    expected = {"resnet18_large": 2 * 3 * 0.56e9, "vit_small": 2 * 3 * 4.6e9, "gpt2": gpt2}
    for model, count in expected.items():
        assert operations(LARGE[model].overrides) == pytest.approx(count, rel=0.03), model


@pytest.mark.parametrize(
    "overrides", [*(case.overrides for case in LARGE.values()), *PARITY.values()], ids=" ".join
)
def test_the_experiments_of_make_gpu_compose(configure, overrides):
    assert configure(" ".join(overrides)).train.epochs


@pytest.mark.slow
def test_make_gpu_is_rehearsed_on_a_cpu(monkeypatch, tmp_path, capsys):
    """One check of each kind; all of them: python -m benchmarks.gpu --on cpu --minutes 60."""
    kinds = "computes on it|hold the gpu|cnn in fp64|^vit_small$|vit_small by hand in jax"
    page = tmp_path / "gpu.md"
    keys = ["--on", "cpu", "--named", kinds, "--minutes", "9", "--page", str(page)]
    monkeypatch.setattr(sys, "argv", ["gpu", *keys])
    assert gpu.main() == 0, capsys.readouterr().out
    text = page.read_text()
    assert text.count("| passed |") == 6
    assert "## Failures\n\nNone." in text
    assert re.search("bf16: at batch 4 .* torch_compiled", text)
    assert "TFLOP/s" not in text, "no speed of a rehearsal beside a card's peak"
