"""docs/porting.md and docs/verify.md work as written, and their commands say what the pages quote."""

import os
import re
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import warm_start

from pipeline.loggers.metrics_file import read_metrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$|^(?P<quote>(?:> [^\n]*\n)+)", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Step:
    """The steps of a reader: save a file, change one, run commands; and what the last of these says."""

    kind: str  # `python`, `yaml`, `diff`, `sh`
    text: str
    file: str = ""
    told: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """Exit code of the last command."""
        return int(bool(self.told) and self.told[0].startswith("they part"))


def steps(page: str) -> list[Step]:
    """Return the steps of a page, in order."""
    found: list[Step] = []
    file, end = "", 0
    for block in BLOCK.finditer(page):
        between = page[end : block.start()]
        end = block.end()
        named = re.findall(r"as `([\w/]+\.(?:py|yaml))`", between)
        if block["quote"]:
            if not between.strip():  # it follows a command
                told = tuple(line.removeprefix("> ") for line in block["quote"].splitlines())
                found[-1] = replace(found[-1], told=told)
        elif block["kind"] in ("python", "yaml") and named:
            file = named[-1]
            found.append(Step(block["kind"], block["text"], file))
        elif block["kind"] == "diff":
            found.append(Step("diff", block["text"], file))
        elif block["kind"] == "sh":
            found.append(Step("sh", block["text"]))
    return found


def follow(page: str, folder: Path) -> list[str]:
    """Do what a page says, and return what its commands have printed."""
    printed = []
    for step in steps(page):
        path = folder / step.file
        if step.kind in ("python", "yaml"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text)
        elif step.kind == "diff":
            old, new = (
                "".join(line[1:] for line in step.text.splitlines(True) if line[0] == sign)
                for sign in "-+"
            )
            assert path.read_text().count(old) == 1, old
            path.write_text(path.read_text().replace(old, new))
        else:
            for number, command in enumerate(lines := step.text.splitlines(), 1):
                code = step.code if number == len(lines) else 0
                printed.append(run(command, folder, code))
            for sentence in step.told:
                assert pattern(sentence).search(printed[-1]), f"{sentence}\n{printed[-1]}"
    return printed


def run(command: str, folder: Path, code: int) -> str:
    """Run a command in the folder of a user; the repository is installed."""
    program, *arguments = shlex.split(command)
    assert program == "python"
    arguments = [str(ROOT / word) if word == "run.py" else word for word in arguments]
    done = warm_start.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1", "TANDEM_PROGRESS": "plain"}
        | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def pattern(sentence: str) -> re.Pattern[str]:
    """Return a pattern of a sentence with any measured numbers and any lines of code."""
    parts = re.split(r"(\d\.?\d*e-\d+|0\.\d{4,}|(?<=\.py:)\d+)", sentence)
    return re.compile(
        "".join(r"[\d.e+-]+" if at % 2 else re.escape(part) for at, part in enumerate(parts))
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of a user who follows one page after the other."""
    return tmp_path_factory.mktemp("pages")


@pytest.mark.slow
def test_the_porting_page_finds_both_mistakes_and_ends_in_two_models_that_are_the_same(folder):
    page = (DOCS / "porting.md").read_text()
    assert [step.kind for step in steps(page)].count("diff") == 3
    printed = follow(page, folder)
    accuracies = [re.search(r"test/loss (\S+)  test/accuracy (\S+)", text) for text in printed]
    in_torch, in_jax, _ = (found.groups() for found in accuracies if found)
    assert in_torch == in_jax


@pytest.mark.slow
def test_the_verify_page_says_what_its_commands_say(folder):
    assert (folder / "my_models.py").exists(), "the page goes on with the models of docs/porting.md"
    follow((DOCS / "verify.md").read_text(), folder)
    assert (folder / "verdict.json").exists()


@pytest.mark.slow
def test_the_page_of_own_optimizers_schedules_and_callbacks_works_as_written(tmp_path):
    follow((DOCS / "own_training.md").read_text(), tmp_path)
    outputs = tmp_path / "outputs"
    pictures, tables = (
        [path.read_bytes() for path in sorted((outputs / "filters").rglob(name))]
        for name in ("filters-000020.png", "norms-000020.csv")
    )
    assert len(pictures) == len(tables) == 2
    names = [[line.partition(b",")[0] for line in table.splitlines()] for table in tables]
    assert names[0] == names[1]
    assert (outputs / "sawtooth" / "comparison.md").exists()


@pytest.mark.slow
def test_the_page_of_own_data_models_and_losses_ends_in_a_sweep_in_few_lines(tmp_path):
    page = (DOCS / "own.md").read_text()
    code = [step.text for step in steps(page) if step.kind == "python"]
    lines = [line for text in code for line in text.splitlines() if line.strip()]
    assert len(lines) < 60  # what a user writes for data, two models and two losses
    follow(page, tmp_path)
    rows = (tmp_path / "outputs/bands/comparison.csv").read_text().splitlines()
    assert len(rows) == 1 + 4


@pytest.mark.slow
def test_the_page_of_nnx_and_equinox_ends_in_one_curve_with_dropout(tmp_path):
    follow((DOCS / "nnx_and_equinox.md").read_text(), tmp_path)
    losses = [
        [row["train/loss"] for row in read_metrics(run / "metrics.jsonl") if "train/loss" in row]
        for run in sorted((tmp_path / "outputs/masks").glob("*_*"))
    ]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_readme_shows_a_command_of_the_porting_page_with_what_it_says():
    readme = (ROOT / "README.md").read_text()
    second = [step for step in steps((DOCS / "porting.md").read_text()) if step.told][1]
    told = "\n".join(f"    {line}" for line in second.told)
    assert f"    {second.text}\n{told}\n" in readme


def test_every_step_of_the_pages_is_recognised():
    for name in ("porting.md", "verify.md", "own_training.md", "own.md", "nnx_and_equinox.md"):
        page = (DOCS / name).read_text()
        commands = [
            line for step in steps(page) if step.kind == "sh" for line in step.text.splitlines()
        ]
        assert len(commands) == len(re.findall(r"^python ", page, re.MULTILINE)) > 0
        assert any(step.told for step in steps(page))


@pytest.mark.parametrize(
    ("sentence", "text", "fits"),
    [
        ("they part, by 1.4e-05: here", "… they part, by 3e-07: here", True),
        ("they part, by 1.4e-05: here", "they part, by 3e-07: there", False),
        ("epsilon 1e-05 at a.py:14", "epsilon 1e-06 at a.py:7", True),
        ("over 3 steps", "over 4 steps", False),
    ],
)
def test_a_sentence_is_compared_without_measured_numbers(sentence, text, fits):
    assert bool(pattern(sentence).search(text)) == fits
